"""How an institution signs: prepared, declined, signed by three, proved by a receipt, asked again, stopped, expired."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import (
    PASSWORD,
    Person,
    demo_person,
    keep_recovery_codes,
    link_of_mail,
    set_up_app,
    sign_case,
    sign_in,
)
from tests.running_portal import ROOT, RunningPortal
from tests.scenes import ADDED

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NAME = "Lakeside Eye Hospital"
WHY = "Our statutes name another court."


@pytest.fixture
def ines(portal, new_page) -> Person:
    """Who countersigns; signs in first, so that a new code of the app is there when it is needed."""
    return demo_person(new_page(), "Prof. Inês Duarte", "signatory@demo.example", portal.password)


@pytest.fixture
def people(portal, new_page, ines) -> tuple[Person, Person]:
    """Investigator and signing official of a member that has signed nothing, each with a second factor."""
    wanjiru = Person(new_page(), "Wanjiru Kamau", "wanjiru@lakeside.example")
    otieno = Person(new_page(), "Otieno Ouma", "otieno@lakeside.example")
    investigator, official = [wanjiru.name, wanjiru.email], [otieno.name, otieno.email]
    portal.scene("member", name=NAME, investigator=investigator, official=official, password=PASSWORD)
    for person in (wanjiru, otieno):
        sign_in(person.page, person.email, PASSWORD)
        person.page.goto("/agreements/")
        set_up_app(person)
        keep_recovery_codes(person)
    return wanjiru, otieno


def prepare(page: Page, limits: str) -> str:
    """Write the particulars, read the text, send it to be signed; return the case's address."""
    page.goto("/agreements/sign/lakeside-eye-hospital/")
    page.locator("input[name=ethics_reference]").fill("KEMRI/26/7")
    page.locator("textarea[name=transfer_limits]").fill(limits)
    page.get_by_role("button", name="Show me the text").click()
    expect(page).to_have_url(re.compile(r"/agreements/cases/\d+/$"))
    expect(page.locator("article.document")).to_contain_text(limits)
    page.get_by_role("button", name="Send it to be signed").click()
    expect(page.locator("main [aria-current=step]")).to_contain_text("Principal investigator")
    return page.url


def decline(person: Person, case: str) -> None:
    page = person.page
    page.goto(case)
    page.get_by_role("link", name="Decline").click()
    page.locator("textarea[name=reason]").fill(WHY)
    page.get_by_role("button", name="Decline").click()
    expect(page.locator("main")).to_contain_text(WHY)


def follow_twice(person: Person, case: str) -> None:
    """Follow the mail's link, and the page to sign, twice by GET: the same person is still to sign."""
    link = link_of_mail(person.page, person.email, case.partition("/agreements/")[2])
    for _ in range(2):
        person.page.goto(link)
        person.page.get_by_role("link", name="Read and sign").click()
        expect(person.page.get_by_role("button", name="Sign", exact=True)).to_be_visible()
    person.page.goto(case)
    expect(person.page.locator("main [aria-current=step]")).to_contain_text("Signing official")


def verify(folder: Path, document: str, keys: str) -> int:
    """Verify a receipt with the kit, away from the portal; return its exit status: 0 valid, 2 not valid."""
    (folder / "receipt.json").write_text(document)
    (folder / "keys.json").write_text(keys)
    argv = [sys.executable, "-m", "jobs.kit", "receipt", "verify", str(folder / "receipt.json")]
    argv += ["--key", str(folder / "keys.json")]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False).returncode


def check_receipt(stranger: Page, party: Page, url: str, signers: list[Person], folder: Path) -> None:
    """Anybody sees and verifies that it was signed, and by which roles; only the parties see by whom."""
    stranger.goto(url)
    expect(stranger.locator("main")).to_contain_text(NAME)
    expect(stranger.locator("main")).to_contain_text("Principal investigator, Signing official, Consortium")
    code = url.rstrip("/").rpartition("/")[2]
    public, keys = (stranger.request.get(f"/agreements/{path}") for path in (f"receipts/{code}.json", "keys.json"))
    for person in signers:
        for told in (stranger.content(), public.text()):
            assert (person.name in told, person.email in told) == (False, False)
    assert verify(folder, public.text(), keys.text()) == 0
    assert verify(folder, json.dumps(public.json() | {"text_sha256": "0" * 64}), keys.text()) == 2
    assert stranger.request.get(f"/agreements/receipts/{code}.pdf", max_redirects=0).status == 302  # to sign in

    party.goto(url)
    for person in signers:
        expect(party.locator("main")).to_contain_text(person.name)
    assert verify(folder, party.request.get(f"/agreements/receipts/{code}/full.json").text(), keys.text()) == 0
    pdf = party.request.get(f"/agreements/receipts/{code}.pdf")
    assert (pdf.status, pdf.headers["content-type"], pdf.body()[:5]) == (200, "application/pdf", b"%PDF-")


def begin_contribution(page: Page) -> str:
    """Begin a draft and return the address where its file is sent."""
    page.goto("/contributions/new/")
    page.locator("input[name=title]").fill("Lakeside generator")
    page.locator("form:has(input[name=title]) button[type=submit]").click()
    expect(page).to_have_url(re.compile(r"/card/$"))
    return page.url.replace("/card/", "/files/")


def test_an_agreement_from_its_text_to_its_end(portal: RunningPortal, new_page, people, ines, tmp_path: Path):
    wanjiru, otieno = people
    # Declined with a reason; prepared again with other particulars; signed by three
    first = prepare(wanjiru.page, "Nothing leaves Kenya")
    sign_case(wanjiru, first)
    decline(otieno, first)
    wanjiru.page.goto(first)
    expect(wanjiru.page.locator("main")).to_contain_text(WHY)
    case = prepare(wanjiru.page, "Nothing leaves East Africa")
    sign_case(wanjiru, case)
    follow_twice(otieno, case)
    sign_case(otieno, case)
    ines.page.goto("/agreements/countersign/")
    expect(ines.page.locator("main")).to_contain_text(NAME)
    sign_case(ines, case)
    expect(ines.page).to_have_url(re.compile("/agreements/receipts/"))
    check_receipt(new_page(), wanjiru.page, ines.page.url, [wanjiru, otieno, ines], tmp_path)
    wanjiru.page.goto("/agreements/")
    expect(wanjiru.page.locator("main")).to_contain_text(f"{NAME} has the data-use agreement in force.")

    # A material version: who signed is told until when, and what changed
    files = begin_contribution(wanjiru.page)
    version, before = portal.scene("publish", days_ago=0)
    wanjiru.page.goto(case)
    expect(wanjiru.page.locator(".notice.tone-warn")).to_contain_text(
        re.compile(rf"A new version of the data-use agreement changes what matters\. {NAME} has until \d+ \w+ 20\d\d")
    )
    wanjiru.page.get_by_role("link", name="See what has changed").click()
    expect(wanjiru.page).to_have_url(re.compile(rf"/data-use-agreement/{version}/changes/{before}/$"))
    expect(wanjiru.page.locator("article.changes ins").last).to_contain_text(ADDED)

    # After the days to sign and the grace, uploads stop: said to whoever has the page open, and on the page itself
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    wanjiru.page.goto(files)
    portal.scene("publish", days_ago=120)
    wanjiru.page.locator("#upload-file").set_input_files(weights)
    stopped = re.compile(rf"{NAME} has not signed the new version of the data-use agreement; it was due on")
    settle = re.compile("/agreements/sign/lakeside-eye-hospital/")
    expect(wanjiru.page.locator("[data-part=problem-text]")).to_contain_text(stopped)
    expect(wanjiru.page.locator("[data-part=problem-link]")).to_have_attribute("href", settle)
    wanjiru.page.reload()
    expect(wanjiru.page.locator("main .blocked")).to_contain_text(stopped)
    expect(wanjiru.page.locator("#upload-file")).to_have_count(0)
    wanjiru.page.get_by_role("link", name="Settle it").click()
    expect(wanjiru.page.get_by_role("button", name="Show me the text")).to_be_visible()

    # Expired: another hospital of the same investigator, signed longer ago than it is valid
    old, receipt = portal.scene(
        "expired_member", name="Old Harbour Clinic", investigator_email=wanjiru.email, months=26
    )
    wanjiru.page.goto(old)
    expect(wanjiru.page.locator("main")).to_contain_text("The data-use agreement of Old Harbour Clinic expired after")
    expect(wanjiru.page.get_by_role("link", name="Renew it")).to_be_visible()
    expect(wanjiru.page.locator("footer")).to_contain_text(re.compile(r"portal \d+\.\d+\.\d+, open source"))
    ines.page.goto(receipt)
    expect(ines.page.locator("main")).to_contain_text("Expired")
