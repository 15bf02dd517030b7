"""Stations 3 to 10 as new users walk them: join, agree, contribute, check, decide, train, release, download."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Page, expect

from tests.browser.people import (
    PASSWORD,
    Person,
    board_members,
    demo_person,
    keep_recovery_codes,
    link_of_mail,
    set_up_app,
    sign_case,
    sign_in,
    sign_up,
    vote_for,
)
from tests.running_portal import ROOT, RunningPortal, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTES = 60_000


def test_a_new_institution_goes_the_whole_way(portal: RunningPortal, new_page, tmp_path: Path):
    # Join
    zanele = sign_up(new_page(), "Zanele Dube", "zanele@harbour.example")
    investigator = zanele.page
    investigator.goto("/institutions/apply/")
    investigator.get_by_role("link", name="Write it by hand").click()
    investigator.locator("input[name=name]").fill("Harbour Eye Hospital")
    investigator.locator("select[name=country]").select_option("ZA")
    investigator.locator("select[name=kind]").select_option("hospital")
    investigator.locator("select[name=role]").select_option("principal_investigator")
    investigator.get_by_role("button", name="Save and go on").click()
    set_up_app(zanele)  # whoever binds an institution needs a second factor
    investigator.get_by_role("link", name="Go on to the profile").click()
    investigator.locator("select[name=gpu]").select_option("small")
    investigator.locator("select[name=expertise]").select_option("some")
    investigator.locator("select[name=weights_may_leave]").select_option("yes")
    investigator.get_by_role("button", name="Save and read back").click()
    expect(investigator.locator("main")).to_contain_text("Share weights")
    expect(investigator.locator("main")).to_contain_text("Southern Africa")
    investigator.get_by_role("button", name="Send the application").click()
    board = board_members(new_page, portal.password)
    vote_for(board, "Admit Harbour Eye Hospital")
    investigator.goto("/institutions/harbour-eye-hospital/")
    expect(investigator.locator("main")).to_contain_text("Member")

    # Agree: the signing official is invited; three people sign in turn, each after proving identity again
    investigator.goto("/institutions/harbour-eye-hospital/people/")
    investigate = investigator.locator("form[action$='/people/invite/']")
    investigate.locator("input[name=email]").fill("official@harbour.example")
    investigate.locator("select[name=role]").select_option("signing_official")
    investigate.locator("button[type=submit]").click()
    sipho = sign_up(new_page(), "Sipho Nkosi", "official@harbour.example")
    official = sipho.page
    official.goto(link_of_mail(official, sipho.email, "/institutions/invitations/"))
    official.get_by_role("button", name="Accept").click()
    set_up_app(sipho)
    keep_recovery_codes(sipho)
    investigator.goto("/agreements/sign/harbour-eye-hospital/")
    investigator.locator("input[name=ethics_reference]").fill("HREC/2026/9")
    investigator.locator("textarea[name=transfer_limits]").fill("None")
    investigator.get_by_role("button", name="Show me the text").click()
    expect(investigator).to_have_url(re.compile(r"/agreements/cases/\d+/$"))
    case = investigator.url
    investigator.get_by_role("button", name="Send it to be signed").click()
    ines = demo_person(new_page(), "Prof. Inês Duarte", "signatory@demo.example", portal.password)
    signatory = ines.page
    for signer in (zanele, sipho, ines):
        sign_case(signer, case)
    expect(signatory).to_have_url(re.compile("/agreements/receipts/"))
    receipt = new_page()
    receipt.goto(signatory.url)
    expect(receipt.locator("main")).to_contain_text("Harbour Eye Hospital")
    expect(receipt.locator("main")).not_to_contain_text("Sipho")

    # Contribute: fine-tuned, measured and signed with the kit, sent by the browser, again after a reload
    weights, registration = fine_tune(portal, tmp_path)
    register_key(sipho, registration)
    investigator.goto("/contributions/new/")
    investigator.locator("input[name=title]").fill("Harbour generator")
    investigator.locator("form:has(input[name=title]) button[type=submit]").click()
    card = tmp_path / "fit" / "training_card.json"
    facts = json.loads(card.read_text()) | {"patients": 40, "cameras": "unknown", "demographics": "unknown"}
    card.write_text(json.dumps(facts))
    investigator.locator("input[name=card_file]").set_input_files(card)
    investigator.locator("form[action$='/card/fill/'] button[type=submit]").click()
    investigator.locator("form:has(input[name=steps]) button[type=submit]").first.click()
    expect(investigator).to_have_url(re.compile("/files/$"))
    investigator.reload()
    investigator.locator("#upload-file").set_input_files(weights)
    expect(investigator.locator("main")).to_contain_text("The file has arrived", timeout=2 * MINUTES)
    for name, kind in (("weights.safetensors.signed.json", "signature"), ("privacy_report.json", "privacy report")):
        investigator.locator("input[name=statement]").set_input_files(weights.with_name(name))
        investigator.get_by_role("button", name="Add it").click()
        expect(investigator.locator("body")).to_contain_text(f"The {kind} is here.")
    investigator.get_by_role("link", name="Continue").click()
    investigator.locator("form:has(button[type=submit]) button[type=submit]").last.click()

    # Check: live on the page
    expect(investigator.locator("main")).to_contain_text("Before the board", timeout=5 * MINUTES)
    expect(investigator.locator("main img[src*='/evidence/']").first).to_be_visible()

    # Decide
    vote_for(board, "Approve generator weights of Harbour Eye Hospital")
    investigator.reload()
    expect(investigator.locator("main")).to_contain_text("Approved")

    # Train and evaluate
    operator = sign_in(new_page(), "operator@demo.example", portal.password)
    operator.goto("/runs/pretrain/")
    operator.locator("input[name=name]").fill("Harbour encoder")
    operator.locator("input[name=generators]").first.check()
    operator.locator("input[name=images_per_generator]").fill("8")
    operator.locator("input[name=steps]").fill("10")
    operator.locator("select[name=processes]").select_option("2")
    operator.locator("form:has(input[name=steps]) button[type=submit]").click()
    expect(operator.locator("main")).to_contain_text("Succeeded", timeout=5 * MINUTES)
    operator.goto("/benchmark/")
    operator.locator("form[action*='/runs/evaluate/harbour'] button[type=submit]").first.click()
    expect(operator.locator("main")).to_contain_text("Succeeded", timeout=5 * MINUTES)
    operator.goto("/benchmark/")
    expect(operator.locator("main")).to_contain_text("Harbour encoder")
    expect(operator.locator("main")).to_contain_text("EfficientNet-Lite0")

    # Release
    operator.locator("a[href*='/board/propose/harbour']").first.click()
    operator.locator("form:has(textarea[name=card]) button[type=submit]").click()
    vote_for(board, "Release Harbour encoder 1.0 under CC-BY-NC-4.0", voters=4)  # two thirds of five

    # Download: refused before, allowed after acceptance, by browser and by curl
    researcher = sign_up(new_page(), "Mina Sato", "mina@lab.example").page
    path = "/dl/harbour-encoder-1-0/model.safetensors"

    def refusal() -> APIResponse | None:
        answer = researcher.request.get(path)
        return None if answer.status == 404 else answer  # a worker puts the files in place right after the vote

    refused = wait_until(refusal, seconds=30, what="the release's files")
    assert (refused.status, refused.json()["code"]) == (403, "licence_not_accepted")
    researcher.goto(refused.json()["next_url"])
    researcher.locator("input[name=institution_name]").fill("Lab of the walk")
    researcher.locator("textarea[name=purpose]").fill("To see whether the whole way works.")
    researcher.locator("input[name=agree]").check()
    researcher.locator("form:has(input[name=agree]) button[type=submit]").click()
    with researcher.expect_download() as downloading:
        researcher.locator(f"a[href='{path}']").first.click()
    by_browser = tmp_path / "by-browser.safetensors"
    downloading.value.save_as(by_browser)
    verify_by_curl(portal, researcher, tmp_path / "curl", by_browser)


def fine_tune(portal: RunningPortal, folder: Path) -> tuple[Path, str]:
    """Fine-tune the base on the phantoms, measure and sign, with the kit; return weights and registration."""
    photographs, weights = str(portal.data_dir / "phantoms"), folder / "fit" / "weights.safetensors"
    key = ["--key", str(folder / "signing-key.pem")]
    made = json.loads(kit("keys", "new", "--institution", "harbour-eye-hospital", *key, "--json"))
    kit("fit", photographs, "--out", str(folder / "fit"), "--steps", "6")
    kit("privacy", photographs, "--weights", str(weights), "--most", "20", "--samples", "16", *key)
    kit("sign", str(weights), *key)
    return weights, made["registration"]


def kit(*arguments: str) -> str:
    argv = [sys.executable, "-m", "jobs.kit", *arguments]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def register_key(official: Person, registration: str) -> None:
    """Let the signing official register the institution's key, with a fresh proof."""
    page = official.page
    page.goto("/institutions/harbour-eye-hospital/keys/")
    page.locator("textarea[name=registration]").fill(registration)
    page.locator("input[name=label]").fill("The machine of the walk")
    if page.locator("main form input[name=password]").count():
        page.locator("input[name=password]").fill(official.password)
        page.locator("input[name=code]").fill(official.code())
    page.get_by_role("button", name="Register the key").click()
    expect(page.locator("body")).to_contain_text("is registered.")


def verify_by_curl(portal: RunningPortal, page: Page, folder: Path, by_browser: Path) -> None:
    """Make a token, fetch the file and SHA256SUMS with curl as the page says, and verify."""
    page.goto("/account/tokens/")
    page.locator("input[name=name]").fill("curl")
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("main")).to_contain_text("grf_")
    token = re.search(r"grf_[\w-]+", page.locator("main").inner_text())
    assert token
    folder.mkdir()
    for name in ("model.safetensors", "SHA256SUMS"):
        url = f"{portal.url}/dl/harbour-encoder-1-0/{name}"
        argv = ["curl", "-fsSL", "-C", "-", "-H", f"Authorization: Bearer {token[0]}", "-O", url]
        subprocess.run(argv, cwd=folder, check=True, env={**os.environ, "NO_PROXY": "*"})
    verified = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS", "--ignore-missing"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert verified.stdout == "model.safetensors: OK\n"
    assert (
        hashlib.sha256(by_browser.read_bytes()).digest()
        == hashlib.sha256((folder / "model.safetensors").read_bytes()).digest()
    )
