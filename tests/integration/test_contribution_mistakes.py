"""The wizard in the hands of people: numbers of other lands, what a title may not hold, what is gone meanwhile."""

import json

import pytest
from django.utils import timezone

from contributions import credits, services
from contributions.models import Contribution
from portal.audit import people
from tests import contributing


@pytest.fixture
def draft(institution, base, steward) -> Contribution:
    return contributing.draft(institution, base, by=steward, training_card={})


def here(contribution: Contribution, rest: str = "") -> str:
    return f"/contributions/{contribution.pk}/{rest}"


@pytest.mark.parametrize("field", ["steps", "batch_size"])
def test_a_point_between_thousands_is_not_taken_for_a_decimal_one(browser, draft, field):
    answer = browser.post(here(draft, "card/"), {field: "10.000", "unfinished": "1"})
    assert "Enter a whole number." in contributing.text(answer)
    draft.refresh_from_db()
    assert draft.training_card == {}


def test_a_title_that_cannot_be_shown_is_said_beside_its_field(browser, draft, institution, base):
    given = {"institution": institution.pk, "title": "مولد \u202bالشبكية\u202c", "base_model": base.pk}
    for url in ("/contributions/new/", here(draft, "details/")):
        answer = browser.post(url, given)
        assert answer.status_code == 200
        assert "a character that cannot be seen" in contributing.text(answer)
    assert Contribution.objects.count() == 1


def test_who_is_signed_out_comes_back_to_the_page_of_the_form(client, draft):
    for way in ("card/fill/", "contributors/"):
        answer = client.post(here(draft, way), headers={"referer": f"http://testserver{here(draft, 'card/')}?x=1"})
        assert answer.headers["Location"] == f"/accounts/login/?next={here(draft, 'card/')}%3Fx%3D1"
    for referer in ("https://elsewhere.example/x", ""):  # no page of ours: as Django does
        assert (
            client.post(here(draft, "replace/"), headers={"referer": referer}).headers["Location"].endswith("replace/")
        )
    assert "You had been signed out, so nothing was saved." in client.get("/accounts/login/").content.decode()
    assert client.get(here(draft)).headers["Location"] == f"/accounts/login/?next={here(draft)}"


def test_the_answer_to_a_form_can_be_opened_again(browser, draft):
    assert browser.get(here(draft, "card/fill/")).headers["Location"] == here(draft, "card/")
    assert browser.get(here(draft, "evidence-files/")).headers["Location"] == here(draft, "files/")


def test_a_title_makes_no_mail_say_the_name_of_somebody(draft, institution, steward, member, researcher):
    forged = f"{{person:{researcher.pk}}}"
    draft = services.change(draft, title=f"Of {forged}", by=steward, now=timezone.now())
    credits.add(draft, member, by=steward, now=timezone.now())
    contribution = contributing.at_status("review", institution, draft.base_model, by=steward)
    services.reject(contribution.pk, by=None, reason=f"As {forged} said.", now=timezone.now())
    institution.name = f"Clinic of {forged}"
    told = people.named_all([text for row in member.notifications.all() for text in (row.subject, row.text)])
    assert [text for text in [*told, people.named(str(institution))] if researcher.name in text] == []
    assert any("You are named on" in text for text in told)


def test_the_line_offers_orcid_only_where_it_can_be_connected(sign_in, draft, steward, member, settings):
    credits.add(draft, member, by=steward, now=timezone.now())
    client = sign_in(member)
    for client_id, offered in (("", False), ("APP-1", True)):
        settings.ORCID_CLIENT_ID = client_id
        text = contributing.text(client.get(here(draft, "contributors/mine/")))
        assert ("Not connected." in text, "Connect it on your account" in text) == (True, offered)


def test_who_is_missing_among_the_contributors_can_be_invited(browser, sign_in, draft, institution, member):
    way = f'href="/institutions/{institution.slug}/people/"'
    pages = [client.get(here(draft)).content.decode() for client in (browser, sign_in(member))]
    assert [way in page[page.index('id="contributors"') :] for page in pages] == [True, False]


def test_a_mistake_is_told_once(browser, draft, steward):
    credits.add(draft, steward, by=steward, now=timezone.now())
    draft.programme.checks = [*draft.programme.checks, 2]  # that asks for a signature
    draft.programme.save()
    for url in ("evidence-files/", "contributors/mine/"):
        answer = browser.post(here(draft, url))
        assert (answer.status_code, answer.content.count(b"error-summary")) == (422, 1)


@pytest.mark.parametrize(
    ("page", "then"),
    [
        ("http://testserver/contributions/?page=2", "/accounts/login/?next=/contributions/%3Fpage%3D2"),
        ("https://elsewhere.example/x", "/accounts/login/?next=/"),
        ("http://[", "/accounts/login/?next=/"),
        ("", "/accounts/login/?next=/"),
    ],
)
def test_a_part_of_a_page_shows_no_page_to_sign_in(client, draft, page, then):
    headers = {"hx-request": "true", "hx-current-url": page}
    answer = client.get(here(draft, "status/"), headers=headers)
    assert (answer.status_code, answer.content) == (401, b"")
    assert json.loads(answer.headers["HX-Trigger"]) == {"signed-out": {"url": then}}


def test_a_withdrawal_tells_of_files_only_where_there_are_some(browser, draft, at_status):
    pages = [contributing.text(browser.get(here(row, "withdraw/"))) for row in (draft, at_status("review"))]
    assert ["after the withdrawal" in page for page in pages] == [False, True]


def test_what_another_window_has_removed_is_gone_and_no_dead_end(browser, draft, steward, member):
    file = contributing.announce(draft, b"x" * 100, by=steward)
    row = credits.add(draft, member, by=steward, now=timezone.now())
    for way, back in ((f"files/{file.pk}/remove/", "files/"), (f"contributors/{row.pk}/remove/", "")):
        answers = [browser.post(here(draft, way)) for _ in range(2)]
        assert [(answer.status_code, answer.headers["Location"]) for answer in answers] == [
            (302, here(draft, back))
        ] * 2
    assert (draft.files.count(), draft.contributors.count()) == (0, 0)


def test_a_name_that_is_too_long_is_said_to_be(browser, draft):
    given = {"name": "x" * 201, "size_bytes": 1, "parts_sha256": "a" * 64}
    answer = browser.post(f"/api/v1/contributions/{draft.pk}/files", given, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, "file_refused")
    assert answer.json()["detail"] == "The file needs a name of 1 to 200 characters. Rename it and try again."


def test_what_nobody_means_is_answered_too(browser, draft):
    for path in ("/contributions/", "/agreements/"):
        assert browser.get(path, {"before": "9" * 5000}).status_code == 200
    answer = browser.post(here(draft, "card/"), {"cameras": f"a: {'[' * 3000}", "unfinished": "1"})
    assert answer.status_code == 302


def test_thousands_are_read_as_our_own_pages_write_them(browser, draft):
    browser.post(here(draft, "card/"), {"images": "1\u202f200", "patients": "1\u00a0100", "unfinished": "1"})
    draft.refresh_from_db()
    assert draft.training_card == {"images": 1200, "patients": 1100}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("unknown: 12\nfemale: 412\nunknown: 40", "unknown: 12\nfemale: 412\nunknown: 40"),
        ("male: 0.5\nfemale: 12.000", {"female": "12.000", "male": 0.5}),
        ("male: Infinity\nfemale: NaN", {"female": "NaN", "male": "Infinity"}),
    ],
)
def test_no_line_of_a_table_is_lost_or_read_as_another_number(browser, draft, typed, kept):
    """Of sex and of age the same may be unknown; 12.000 is twelve thousand to half of our readers."""
    assert browser.post(here(draft, "card/"), {"demographics": typed, "unfinished": "1"}).status_code == 302
    draft.refresh_from_db()
    assert draft.training_card == {"demographics": kept}
    form = browser.get(here(draft, "card/")).context["form"]
    assert form.initial["demographics"] == typed


@pytest.mark.parametrize("answer", ["", "no"])
def test_numbers_of_a_private_training_are_not_dropped_unawares(browser, draft, answer):
    given = {"epsilon": "3", "noise_multiplier": "1.1", "dp_used": answer, "unfinished": "1"}
    said = contributing.text(browser.post(here(draft, "card/"), given))
    assert "You gave numbers that only a private training has. Answer Yes, or empty them." in said
    draft.refresh_from_db()
    assert draft.training_card == {}


def test_a_correction_is_called_what_it_is(browser, at_status, steward):
    rejected = at_status("rejected")
    correction = services.replace(rejected, by=steward, now=timezone.now())
    assert f"Its correction: {correction} Draft" in contributing.text(browser.get(here(rejected)))
    services.withdraw(correction, by=steward, reason="Not yet.", now=timezone.now())
    assert f"Its correction: {correction} Withdrawn" in contributing.text(browser.get(here(rejected)))


def test_who_cannot_change_a_draft_is_not_sent_to_its_wizard(browser, sign_in, draft, member):
    links = [client.get(here(draft)).content.count(b">Settle it</a>") for client in (browser, sign_in(member))]
    assert links == [2, 0]


def test_what_is_withdrawn_while_it_is_checked_waits_for_no_check(browser, at_status, steward):
    contribution = at_status("validating")
    contributing.check(contribution, 3, "pass", name="agreement")
    assert "Waiting" in contributing.text(browser.get(here(contribution)))
    services.withdraw(contribution, by=steward, reason="Wrong file.", now=timezone.now())
    text = contributing.text(browser.get(here(contribution)))
    assert ("no more are made" in text, "Waiting" in text, "It passed every check" in text) == (True, False, False)


@pytest.mark.parametrize(
    ("status", "next_step"),
    [
        ("approved", "Corpora may take it in; where it is used is shown on this page."),
        ("withdrawn", "It enters no further corpus."),
    ],
)
def test_the_next_step_holds_also_for_what_is_in_use(browser, at_status, status, next_step):
    assert next_step in contributing.text(browser.get(here(at_status(status))))
