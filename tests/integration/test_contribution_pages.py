"""The pages of contributions: the wizard, what is shown to whom, the live part, evidence."""

import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from contributions import services
from contributions.lifecycle import Status
from contributions.models import Contribution
from portal.accounts.models import User
from portal.agreements import services as agreements
from tests import contributing, factories
from tests.contributing import CARD

PNG = b"\x89PNG\r\n\x1a\n and so on"
FORM = {
    "images": "812", "patients": "unknown", "cameras": "Topcon NW400: 700\nZeiss: <10", "demographics": "unknown",
    "steps": "400", "batch_size": "16", "learning_rate": "1e-4", "seed": "unknown", "augmentation": "flip: true",
    "deduplication": "by hand", "dp_used": "yes", "epsilon": "3", "delta": "0.00001",
    "noise_multiplier": "1.1", "sample_rate": "0.02",
}  # fmt: skip


@pytest.fixture
def draft(institution, base, steward) -> Contribution:
    return contributing.draft(institution, base, by=steward, training_card={})


def page(client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def here(contribution: Contribution, rest: str = "") -> str:
    return f"/contributions/{contribution.pk}/{rest}"


# The wizard


def test_a_draft_begins_with_its_details(browser, institution, base):
    given = {"institution": institution.pk, "title": "Our generator", "base_model": base.pk}
    response = browser.post("/contributions/new/", given)
    draft = Contribution.objects.get()
    assert (response.status_code, response.url) == (302, here(draft, "card/"))
    assert (draft.title, draft.institution, draft.base_model, draft.status) == (
        "Our generator",
        institution,
        base,
        "draft",
    )


def test_a_draft_is_not_begun_for_another_institution(browser, base, outsider):
    other = factories.Institution.objects.get(slug="andes-retina")
    given = {"institution": other.pk, "title": "Theirs", "base_model": base.pk}
    assert "not one of the available choices" in browser.post("/contributions/new/", given).content.decode()
    assert Contribution.objects.count() == 0


def test_who_stewards_nothing_is_told_how_to(sign_in, researcher, member):
    for person in (researcher, member):
        assert "You cannot start a contribution yet" in page(sign_in(person), "/contributions/new/")


def test_the_card_is_read_from_the_form(browser, draft):
    response = browser.post(here(draft, "card/"), FORM)
    draft.refresh_from_db()
    assert (response.status_code, response.url) == (302, here(draft, "files/"))
    assert draft.training_card == {
        "images": 812, "patients": None, "cameras": {"Topcon NW400": 700, "Zeiss": "<10"}, "demographics": "unknown",
        "steps": 400, "batch_size": 16, "learning_rate": 0.0001, "seed": None, "augmentation": {"flip": True},
        "deduplication": "by hand",
        "dp": {"used": True, "epsilon": 3.0, "delta": 1e-05, "noise_multiplier": 1.1, "sample_rate": 0.02},
    }  # fmt: skip


def test_the_card_comes_back_as_it_was_typed(browser, draft):
    browser.post(here(draft, "card/"), FORM)
    before = Contribution.objects.get(pk=draft.pk).training_card
    html = page(browser, here(draft, "card/"))
    typed = dict(re.findall(r'<input type="(?:text|number)" name="(\w+)" value="([^"]*)"', html))
    assert (typed["patients"], typed["learning_rate"], typed["steps"]) == ("unknown", "0.0001", "400")
    form = browser.get(here(draft, "card/")).context["form"]
    browser.post(here(draft, "card/"), {key: value for key, value in form.initial.items() if value is not None})
    draft.refresh_from_db()
    assert draft.training_card == before


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("images", "many", "Images must be a whole number, or &lt;10."),
        ("patients", "7", "Write &lt;10 instead"),
        ("cameras", "Topcon: 4", "a group this small can point at people"),
        ("demographics", "about 40 people, of them female: 3", "a group this small can point at people"),
        ("demographics", "Sex: 412 female, 7 male", "a group this small can point at people"),
        ("learning_rate", "2", "Learning rate must be a number between 0 and 1."),
        ("delta", "1", "give delta: a number between 0 and 1"),
        ("epsilon", "", "give epsilon: a number above 0"),
        ("noise_multiplier", "", "give its noise multiplier: a number above 0"),
        ("sample_rate", "1.5", "give its sample rate"),
    ],
)
def test_a_wrong_answer_is_not_stored_and_says_why(browser, draft, field, value, error):
    for unfinished in ({}, {"unfinished": "1"}):
        response = browser.post(here(draft, "card/"), {**FORM, field: value, **unfinished})
        assert error in response.content.decode()
    draft.refresh_from_db()
    assert draft.training_card == {}


def test_an_unfinished_card_is_kept(browser, draft):
    assert "This field is required" in browser.post(here(draft, "card/"), {"images": "812"}).content.decode()
    assert browser.post(here(draft, "card/"), {"images": "812", "unfinished": "1"}).url == here(draft)
    draft.refresh_from_db()
    assert draft.training_card == {"images": 812}
    assert "Missing: patients, steps," in page(browser, here(draft))


def test_the_card_is_filled_from_the_kits_file(browser, draft, base):
    kit = {**CARD, "patients": 7, "kit_version": "0.1.0", "base": {"slug": "fundus-64", "sha256": base.sha256}}
    file = SimpleUploadedFile("training_card.json", json.dumps(kit).encode())
    assert browser.post(here(draft, "card/fill/"), {"card_file": file}).url == here(draft, "card/")
    draft.refresh_from_db()
    assert draft.training_card == {**kit, "patients": "<10"}
    browser.post(here(draft, "card/"), FORM)
    draft.refresh_from_db()
    assert (draft.training_card["kit_version"], draft.training_card["base"]) == ("0.1.0", kit["base"])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\x80\x02}q\x00.", "This is not a JSON file"),
        (b"[" * 10_000, "This is not a JSON file"),
        (b'{"images": "' + b"x" * 20_000 + b'"}', "This is not a JSON file"),
        (b"[]", "A training card is a JSON object"),
        (b'{"steps": -1}', "Steps must be a whole number from 1 to"),
    ],
)
def test_a_file_that_is_no_card_is_explained(browser, draft, content, error):
    response = browser.post(here(draft, "card/fill/"), {"card_file": SimpleUploadedFile("card.json", content)})
    assert (response.status_code, error in response.content.decode()) == (200, True)
    draft.refresh_from_db()
    assert draft.training_card == {}


def test_the_upload_page_says_how_far_the_file_is(browser, draft, steward):
    content = b"x" * 100
    file = contributing.announce(draft, content, by=steward)
    assert "0 of 1 parts" in page(browser, here(draft, "files/"))
    contributing.send(file, content, by=steward)
    assert "1 of 1 parts" in page(browser, here(draft, "files/"))
    services.complete_file(file, sha256=contributing.sha256_hex(content), by=steward, now=timezone.now())
    assert "The file has arrived" in page(browser, here(draft, "files/"))
    browser.post(here(draft, f"files/{file.pk}/remove/"))
    assert draft.files.count() == 0


def test_the_upload_page_takes_no_file_while_no_agreement_is_in_force(browser, draft, institution):
    case = institution.signing_requests.get()
    investigator = factories.person_of(institution)
    agreements.terminate(case, by=investigator, reason="We leave.", now=timezone.now())
    text = page(browser, here(draft, "files/"))
    assert (
        f"The data-use agreement of {institution} was terminated by the institution." in text,
        'id="upload-file"' in text,
    ) == (True, False)
    assert f'href="/agreements/sign/{institution.slug}/' in text


def test_the_review_lists_what_is_missing_with_links(browser, draft):
    html = page(browser, here(draft, "submit/"))
    assert re.findall(r'<a href="([^"]+)">Settle it</a>', html) == [here(draft, "card/"), here(draft, "files/")]
    response = browser.post(here(draft, "submit/"))
    assert (response.status_code, "Before you can submit" in response.content.decode()) == (409, True)


def test_a_complete_draft_is_submitted(browser, at_status):
    contribution = at_status(Status.DRAFT)
    assert browser.post(here(contribution, "submit/")).url == here(contribution)
    contribution.refresh_from_db()
    assert contribution.status == "submitted"
    assert (
        "is waiting for checks, so this is not possible any more"
        in browser.get(here(contribution, "card/")).content.decode()
    )


def test_the_same_files_twice_are_explained_in_place(browser, at_status):
    at_status(Status.SUBMITTED)
    second = at_status(Status.DRAFT)
    response = browser.post(here(second, "submit/"))
    assert (response.status_code, "The same files are in" in response.content.decode()) == (409, True)


def test_a_withdrawal_asks_for_the_reason(browser, at_status):
    contribution = at_status(Status.REVIEW)
    assert "This field is required" in browser.post(here(contribution, "withdraw/"), {"reason": " "}).content.decode()
    browser.post(here(contribution, "withdraw/"), {"reason": "Consent was taken back."})
    assert "Consent was taken back." in page(browser, here(contribution))


def test_a_corrected_one_starts_with_the_card(browser, at_status):
    rejected = at_status(Status.REJECTED)
    response = browser.post(here(rejected, "replace/"))
    correction = Contribution.objects.get(supersedes=rejected)
    assert (response.url, correction.training_card) == (here(correction, "details/"), CARD)
    assert f'href="{here(correction)}"' in page(browser, here(rejected))


# The contribution and its live part


def report(contribution: Contribution, *verdicts: tuple[int, str]) -> None:
    for number, verdict in verdicts:
        result = {"number": number, "name": "n", "verdict": verdict, "sentence": f"Sentence <{number}>.", "fix": ""}
        result |= {"evidence": {"tensors": 3}, "duration_seconds": 0.1}
        services.record_check(contribution, run_id=1, attempt=1, result=result)


def test_the_live_part_is_fetched_again_only_when_it_changed(browser, at_status):
    contribution = at_status(Status.VALIDATING)
    html = page(browser, here(contribution))
    address = re.search(r'hx-get="(/contributions/\d+/status/\?seen=[^"]+)" hx-trigger="changed, every 5s"', html)[1]
    assert browser.get(address).status_code == 204
    report(contribution, (0, "pass"))
    changed = browser.get(address)
    assert (changed.status_code, "Sentence &lt;0&gt;." in changed.content.decode()) == (200, True)


def test_the_live_part_stops_when_nothing_can_change(browser, at_status):
    contribution = at_status(Status.VALIDATING)
    report(contribution, (0, "pass"), (1, "fail"))
    services.find_invalid(contribution.pk, reason="It is a pickle.", now=timezone.now())
    html = page(browser, here(contribution, "status/"))
    # an operator may have the checks made again
    assert ("data-live" in html, 'hx-swap-oob="true"' in html, "Send a corrected one" in html) == (True, True, True)
    assert re.findall(r'<span class="number">(\d)</span>', html) == ["0", "1"]
    for status in (Status.RETURNED, Status.WITHDRAWN):
        html = page(browser, here(at_status(status, status.encode() * 20), "status/"))
        assert ("data-live" in html, 'hx-swap-oob="true"' in html, "Send a corrected one" in html) == (
            False,
            True,
            True,
        )


def test_once_the_checks_have_ended_the_page_says_why_and_draws_files_and_history_anew(browser, at_status):
    contribution = at_status(Status.VALIDATING)
    address = here(contribution, "status/")
    running = browser.get(address)
    services.find_invalid(contribution.pk, reason="It is a pickle.", now=timezone.now())
    ended = browser.get(address)
    assert [answer.headers.get("HX-Trigger") for answer in (running, ended)] == [None, "checks-ended"]
    reason = re.search(r'<div id="reason" hx-swap-oob="true">(.*?)</div>\s*</div>', ended.text, re.S)[1]
    assert ("Why it was rejected" in reason, "It is a pickle." in reason) == (True, True)
    html = page(browser, here(contribution))
    asked = f'<div id="files" class="section" hx-get="{here(contribution)}" hx-trigger="checks-ended from:body"'
    assert (asked in html, html.count('<div id="history">')) == (True, 1)


def test_the_live_part_tells_that_the_checks_stopped(browser, at_status):
    contribution = at_status(Status.SUBMITTED)
    seen = re.search(r"seen=([^\"]+)", page(browser, here(contribution, "status/")))
    again = f"{here(contribution, 'status/')}?seen={seen[1]}"
    assert browser.get(again).status_code == 204
    services.stall(contribution.pk, now=timezone.now())
    assert "The checks stopped, through no fault of yours." in page(browser, again)


def test_the_page_of_the_upload_gives_the_command_that_sends_it(browser, draft):
    services.change(draft, title="Eyes of Accra, 2026", by=draft.created_by, now=timezone.now())
    line = "--institution moi-eye-clinic --title 'Eyes of Accra, 2026' --card training_card.json"
    told = contributing.text(browser.get(here(draft, "files/")))
    assert f"consortium contribute weights weights.safetensors {line} --resume {draft.pk}" in told


def test_checks_that_wait_are_shown(browser, at_status):
    contribution = at_status(Status.VALIDATING)
    report(contribution, (0, "pass"))
    html = page(browser, here(contribution))
    assert re.findall(r'<span class="number">(\d)</span> (\w+)', html) == [
        ("0", "Transfer"),
        ("1", "Container"),
        ("3", "Agreement"),
        ("4", "Schema"),
        ("5", "Numerics"),
        ("7", "Generation"),
    ]


def test_evidence_is_a_picture_for_those_who_see_the_contribution(browser, sign_in, at_status, outsider, board_member):
    contribution = at_status(Status.REVIEW)
    picture = services.add_evidence(contribution, run_id=1, attempt=1, name="samples.png", content=PNG)
    path = here(contribution, f"evidence/{picture.pk}/")
    for client in (browser, sign_in(board_member)):
        response = client.get(path)
        assert (response.content, response["Content-Type"], response["X-Content-Type-Options"]) == (
            PNG,
            "image/png",
            "nosniff",
        )
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert sign_in(outsider).get(path).status_code == 404


def test_other_evidence_is_not_served(browser, at_status):
    contribution = at_status(Status.VALIDATING)
    other = services.add_evidence(contribution, run_id=1, attempt=1, name="report.html", content=b"<script>")
    assert browser.get(here(contribution, f"evidence/{other.pk}/")).status_code == 404


def test_evidence_belongs_to_its_contribution(browser, at_status):
    one, two = at_status(Status.VALIDATING), contributing.draft
    picture = services.add_evidence(one, run_id=1, attempt=1, name="samples.png", content=PNG)
    mine = two(one.institution, one.base_model, by=one.created_by)
    assert browser.get(here(mine, f"evidence/{picture.pk}/")).status_code == 404


# Who sees what

STEPS = ["", "status/", "details/", "card/", "files/", "submit/", "withdraw/"]


@pytest.mark.parametrize("step", STEPS)
def test_a_stranger_finds_no_page(sign_in, draft, outsider, researcher, board_member, step):
    for person in (outsider, researcher, board_member):
        assert sign_in(person).get(here(draft, step)).status_code == 404


@pytest.mark.parametrize("step", STEPS[2:])
def test_a_member_without_the_role_reads_only(sign_in, draft, member, step):
    client = sign_in(member)
    assert client.get(here(draft, step)).status_code == 403
    html = page(client, here(draft))
    assert ("Review and submit" in html, "Withdraw" in html) == (False, False)


def test_nobody_signed_in_is_asked_to_sign_in(client, draft):
    assert client.get(here(draft)).url == f"/accounts/login/?next={here(draft)}"


@pytest.mark.parametrize("count", [1, 3])
def test_the_list_asks_the_database_as_often_for_three_as_for_one(
    browser, institution, base, steward, django_assert_num_queries, count
):
    for number in range(count):
        contributing.draft(institution, base, by=steward, title=f"Generator {number}")
    with django_assert_num_queries(8):
        html = page(browser, "/contributions/")
    assert re.findall(r">(Generator \d)</a>", html) == [f"Generator {n}" for n in reversed(range(count))]


def test_an_empty_list_says_what_to_do(browser, sign_in, researcher):
    assert "No contribution yet" in page(browser, "/contributions/")
    assert "Nothing to see here yet" in page(sign_in(researcher), "/contributions/")


def test_the_admin_shows_and_changes_nothing(sign_in, draft):
    root = User.objects.create_superuser("root@example.org", name="Root")
    client = sign_in(root)
    assert client.get(f"/admin/contributions/contribution/{draft.pk}/change/").status_code == 200
    assert client.post(f"/admin/contributions/contribution/{draft.pk}/delete/").status_code == 403
