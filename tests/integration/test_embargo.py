"""“Not to be used before DATE”: voted on as usual, used by nothing until the day, and the day only comes nearer."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from contributions import actions, embargo, incidents, reports
from contributions import services as contributions
from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus
from contributions.models import Contribution
from governance.board import services as boards
from governance.board.models import Motion
from jobs import forms, gather, tasks
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import merging
from tests import candidates, contributing, factories
from tests.contributing import text
from tests.integration.test_contributions_api import Kit

pytestmark = pytest.mark.services
TODAY = timezone.now().date()
DAY = TODAY + timedelta(days=90)
SENT = b"weights that a paper is to come about" * 50


def written(day: date) -> str:
    return f"{day:%-d %B %Y}"


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


@pytest.fixture
def kept(institution, base, steward, board) -> Contribution:
    """Before the board, under embargo."""
    return factories.reviewed_contribution(institution, SENT, embargo_until=DAY)


@pytest.fixture
def approved(kept) -> Contribution:
    return contributions.approve(kept.pk, by=None, now=timezone.now())


@pytest.fixture
def mixture(programme) -> Corpus:
    return corpora.draft_corpus(programme, slug="mixture", title="The mixture", by=None, now=timezone.now())


def add(mixture, contribution, *, now: datetime):
    return corpora.add_generator(mixture, contribution, image_count=2, seed=1, now=now)


def change(contribution, day: date | None, *, by, now: datetime | None = None) -> Contribution:
    return embargo.change(contribution, day=day, by=by, now=now or timezone.now())


def subjects_of(person) -> list[str]:
    return list(person.notifications.order_by("pk").values_list("subject", flat=True))


# Nothing uses it before the day


def test_it_enters_a_corpus_from_the_day_on(approved, mixture):
    with pytest.raises(embargo.UnderEmbargo) as refused:
        add(mixture, approved, now=timezone.now())
    assert (refused.value.code, refused.value.next_url) == ("under_embargo", approved.get_absolute_url())
    assert str(refused.value) == (
        f"{approved} is under embargo: {approved.institution} lets nobody use it before {written(DAY)}. Leave it out "
        "until then, or ask the institution to lift the embargo."
    )
    with pytest.raises(embargo.UnderEmbargo):
        add(mixture, approved, now=midnight(DAY) - timedelta(seconds=1))
    assert mixture.parts.count() == 0
    assert add(mixture, approved, now=midnight(DAY)).contribution == approved


def test_the_day_begins_in_utc(approved, mixture):
    """At 9 in the evening of the day before in New York it has begun; at 9 in the morning in Tokyo too, by then."""
    evening = datetime.fromisoformat(f"{DAY - timedelta(days=1)}T20:30:00-04:00")
    assert add(mixture, approved, now=evening).contribution == approved


def test_the_page_of_the_training_names_the_day_instead_of_offering_it(approved, programme, operator, sign_in):
    candidates.dataset(programme)
    form = forms.PretrainForm(programme=programme, now=timezone.now())
    assert (list(form.fields["generators"].queryset), list(form.under_embargo)) == ([], [approved])
    form = forms.PretrainForm(programme=programme, now=midnight(DAY))
    assert (list(form.fields["generators"].queryset), list(form.under_embargo)) == ([approved], [])
    page = text(sign_in(operator).get(reverse("jobs:pretrain")))
    assert f"{approved}from {DAY.day} {DAY:%b %Y}" in page  # the end of the same line


def test_no_training_and_no_freeze_takes_it_by_another_way(approved, mixture):
    """By the services an embargo never follows a corpus; the last doors are shut all the same."""
    add(mixture, approved, now=midnight(DAY))
    frozen = corpora.freeze(mixture, by=None, now=midnight(DAY))
    corpora.require_trainable(frozen, now=midnight(DAY))
    with pytest.raises(embargo.UnderEmbargo):
        corpora.require_trainable(frozen, now=timezone.now())


def test_a_corpus_leaves_it_out_at_the_freeze(approved, mixture):
    add(mixture, approved, now=midnight(DAY))
    assert corpora.freeze(mixture, by=None, now=timezone.now()).parts.count() == 0


def test_the_checks_of_others_hold_nothing_against_it(approved, institution, tmp_path):
    contributing.check(approved, 5, "pass", evidence={"layers": {"a": 1.0}})
    assert reports.accepted_layers(approved.base_model, now=timezone.now()) == []
    assert reports.accepted_layers(approved.base_model, now=midnight(DAY)) == [{"a": 1.0}]
    reports.add_evidence(approved, run_id=1, attempt=1, name=gather.FEATURES, content=b"features")
    place = factories.member_institution("Other Clinic")
    theirs = factories.submitted_contribution(place, SENT[1:])
    assert list(gather._others(theirs, tmp_path).iterdir()) == []
    change(approved, None, by=factories.person_of(institution, "steward"))
    (tmp_path / "again").mkdir()
    assert len(list(gather._others(theirs, tmp_path / "again").iterdir())) == 1


def test_what_is_in_a_corpus_gets_no_embargo(institution, base, steward, mixture):
    row = contributing.at_status("approved", institution, base, by=steward)
    add(mixture, row, now=timezone.now())
    with pytest.raises(embargo.NotUnderEmbargo, match="it cannot be put under one"):
        change(row, DAY, by=steward)
    with pytest.raises(contributions.NotADraft):
        contributions.change(row, embargo_until=DAY, by=steward, now=timezone.now())
    row.refresh_from_db()
    assert row.embargo_until is None


# After the submission


def test_it_becomes_earlier_and_is_lifted_and_never_later(approved, steward, member, chair, mixture):
    sooner = DAY - timedelta(days=30)
    for wrong in (DAY + timedelta(days=1), DAY, TODAY, TODAY - timedelta(days=1)):
        with pytest.raises(embargo.EmbargoRefused, match=f"ends on {written(DAY)}.*it can only end earlier"):
            change(approved, wrong, by=steward)
    change(approved, sooner, by=steward)
    with pytest.raises(embargo.EmbargoRefused):
        change(approved, DAY, by=steward)
    change(approved, None, by=steward)
    with pytest.raises(embargo.NotUnderEmbargo, match="is under no embargo"):
        change(approved, DAY, by=steward)
    events = AuditEvent.objects.filter(verb="contribution.embargo_changed").order_by("pk")
    assert [(event.actor_id, event.facts) for event in events] == [
        (steward.pk, {"before": DAY.isoformat(), "until": sooner.isoformat()}),
        (steward.pk, {"before": sooner.isoformat(), "until": None}),
    ]
    said = [f"The embargo on {approved} ends earlier", f"The embargo on {approved} is lifted"]
    for person in (member, chair):
        assert subjects_of(person)[-2:] == said
    assert [subject for subject in subjects_of(steward) if "embargo" in subject] == []
    assert add(mixture, approved, now=timezone.now()).contribution == approved


def test_the_submission_puts_the_day_on_record(kept):
    facts = AuditEvent.objects.get(verb="contribution.submitted", subject_id=kept.pk).facts
    assert facts["embargo_until"] == DAY.isoformat()


def test_who_may_not(kept, member, outsider, board, chair, auditor, operator, steward):
    other = factories.person_of(factories.member_institution("Other Clinic"), "steward")
    for person in (member, outsider, other, *board, chair, auditor, operator):
        with pytest.raises(NotAllowed, match="Only a data steward"):
            change(kept, None, by=person)
    kept.refresh_from_db()
    assert kept.embargo_until == DAY
    into = factories.admitted_institution("Great Eye Hospital")
    heir = factories.person_of(into, "steward")
    merging.merge(kept.institution, into, by=operator, now=timezone.now())
    kept = Contribution.objects.get(pk=kept.pk)
    assert change(kept, None, by=heir).embargo_until is None


def test_where_there_is_nothing_to_change(draft, kept, steward):
    contributions.change(draft, embargo_until=DAY, by=steward, now=timezone.now())
    with pytest.raises(embargo.NotUnderEmbargo, match="is a draft"):
        change(draft, None, by=steward)
    with pytest.raises(embargo.NotUnderEmbargo, match="is under no embargo"):
        change(kept, None, by=steward, now=midnight(DAY))
    offered = {row.name: row for row in actions.available(kept, steward, now=timezone.now())}["change_embargo"]
    assert (offered.allowed, offered.url) == (True, f"/api/v1/contributions/{kept.pk}/embargo")
    contributions.withdraw(kept, by=steward, reason="Wrong file.", now=timezone.now())
    kept.refresh_from_db()
    with pytest.raises(embargo.NotUnderEmbargo, match="is withdrawn, so nothing uses it"):
        change(kept, None, by=steward)
    offered = {row.name: row for row in actions.available(kept, steward, now=timezone.now())}["change_embargo"]
    assert (offered.allowed, offered.code) == (False, "not_under_embargo")


def test_the_page_lifts_it(kept, steward, sign_in):
    client, path = sign_in(steward), f"/contributions/{kept.pk}/embargo/"
    assert f'href="{path}"' in client.get(kept.get_absolute_url()).content.decode()
    for given, field in (
        ({"day": ""}, "when"), ({"when": "day"}, "day"), ({"when": "day", "day": "soon"}, "day"),
        ({"when": "day", "day": (DAY + timedelta(days=1)).isoformat()}, "day"),
    ):  # fmt: skip
        answer = client.post(path, given)
        assert (answer.status_code, list(answer.context["form"].errors)) == (422, [field])
    sooner = DAY - timedelta(days=1)
    assert client.post(path, {"when": "day", "day": sooner.isoformat()}).url == kept.get_absolute_url()
    kept.refresh_from_db()
    assert kept.embargo_until == sooner
    client.post(path, {"when": "now", "day": (TODAY + timedelta(days=9)).isoformat()})
    kept.refresh_from_db()
    assert kept.embargo_until is None
    assert "embargo/" not in client.get(kept.get_absolute_url()).content.decode()
    assert client.get(path).status_code == 409


# Who sees it, and reads of it


def test_its_pages_say_so_and_only_its_stewards_change_it(kept, member, operator, board, sign_in):
    notice = f"Under embargo: not to be used before {DAY.day} {DAY:%b %Y}"
    for person in (member, operator, board[0]):
        answer = sign_in(person).get(kept.get_absolute_url())
        assert (notice in text(answer), f"{kept.pk}/embargo/" in answer.content.decode()) == (True, False)
    assert f"under embargo until {DAY.day} {DAY:%b %Y}" in text(sign_in(member).get("/contributions/"))
    stranger = factories.person_of(factories.member_institution("Other Clinic"), "steward")
    assert sign_in(stranger).get(kept.get_absolute_url()).status_code == 404
    assert kept.title not in text(sign_in(stranger).get("/contributions/"))


def test_the_open_page_follows_when_it_is_lifted(kept, steward, sign_in):
    client, path = sign_in(steward), f"/contributions/{kept.pk}/status/"
    seen = client.get(kept.get_absolute_url()).context["seen"]
    assert client.get(path, {"seen": seen}).status_code == 204
    change(kept, None, by=steward)
    body = client.get(path, {"seen": seen}).content.decode()
    assert ('<div id="embargo" hx-swap-oob="true">' in body, "Under embargo" in body) == (True, False)


def test_the_voters_read_it_and_the_vote_does_not_wait(kept, board, sign_in):
    motion = Motion.objects.get(contribution=kept)
    factories.declare(motion)
    assert f"Not to be used before {DAY.day} {DAY:%b %Y}" in text(sign_in(board[0]).get(motion.get_absolute_url()))
    factories.review_all(motion)
    factories.vote_all(motion)
    kept.refresh_from_db()
    assert kept.status == "approved"
    steward = factories.person_of(kept.institution, "steward")
    said = steward.notifications.get(subject=f"{kept} was approved").text
    assert f"From {written(DAY)} on it may enter corpora" in said
    page = text(sign_in(steward).get(kept.get_absolute_url()))
    assert f"From {written(DAY)} on it may become part of a corpus." in page


def test_the_public_reads_no_more_of_it_than_that_it_is_there(kept, institution, board, chair, client, sign_in):
    motion = Motion.objects.get(contribution=kept)
    factories.declare(motion, *board)
    factories.review_all(motion)
    for voter, choice in zip(board, ("for", "for", "against"), strict=True):
        boards.cast_vote(motion, choice=choice, reason="Not yet.", by=voter, now=timezone.now())
    motion.refresh_from_db()
    boards.dissent(motion.decision, text="Glaucoma is missing.", by=board[2], now=timezone.now())
    for path in ("/", "/institutions/", institution.get_absolute_url(), "/decisions/", "/programmes/retina/"):
        assert kept.title not in text(client.get(path)), path
    decision = motion.decision.get_absolute_url()
    hidden = text(client.get(decision))
    assert ("Glaucoma" in hidden, kept.title in hidden, "is under embargo" in hidden) == (False, False, True)
    for reader in (chair, factories.person_of(institution, "steward")):
        assert "Glaucoma is missing." in text(sign_in(reader).get(decision))
    change(kept, None, by=factories.person_of(institution, "steward"))
    assert "Glaucoma is missing." in text(Client().get(decision))


# The end


def test_the_end_is_told_once(approved, steward, chair):
    word = f"The embargo on {approved} is over"
    embargo.tell_of_ends(now=midnight(DAY) - timedelta(seconds=1))
    assert [word in subjects_of(person) for person in (steward, chair)] == [False, False]
    for hours in (0, 1, 30):
        embargo.tell_of_ends(now=midnight(DAY) + timedelta(hours=hours))
    assert [subjects_of(person).count(word) for person in (steward, chair)] == [1, 1]


def test_the_end_is_told_only_of_what_it_kept(kept, steward):
    contributions.approve(kept.pk, by=None, now=midnight(DAY))
    embargo.tell_of_ends(now=midnight(DAY) + timedelta(hours=1))
    assert [subject for subject in subjects_of(steward) if "embargo" in subject] == []


def test_a_sweep_that_was_down_tells_within_a_week_and_not_later(approved, steward):
    tasks.sweep()
    embargo.tell_of_ends(now=midnight(DAY) + timedelta(days=8))
    assert [subject for subject in subjects_of(steward) if "embargo" in subject] == []
    embargo.tell_of_ends(now=midnight(DAY) + timedelta(days=6))
    assert subjects_of(steward)[-1] == f"The embargo on {approved} is over"


def test_an_end_during_a_long_isolation_is_told_once_that_is_lifted(approved, steward, chair, operator):
    word = f"The embargo on {approved} is over"
    row = incidents.isolate(
        approved, reason="A name?", files=list(approved.files.all()), by=operator, now=midnight(DAY) - timedelta(days=9)
    )
    for days in (0, 20):
        embargo.tell_of_ends(now=midnight(DAY) + timedelta(days=days))
    assert word not in subjects_of(steward)
    incidents.lift(row, reason="A device's.", by=operator, now=midnight(DAY) + timedelta(days=20, hours=1))
    for hours in (2, 3, 24 * 10):
        embargo.tell_of_ends(now=midnight(DAY) + timedelta(days=20, hours=hours))
    assert [subjects_of(person).count(word) for person in (steward, chair)] == [1, 1]


def test_an_isolation_after_the_end_tells_nothing_anew(approved, steward, operator):
    """The sweep was down for the week in which it had to tell."""
    row = incidents.isolate(
        approved, reason="A name?", files=list(approved.files.all()), by=operator, now=midnight(DAY) + timedelta(days=9)
    )
    incidents.lift(row, reason="A device's.", by=operator, now=midnight(DAY) + timedelta(days=20))
    embargo.tell_of_ends(now=midnight(DAY) + timedelta(days=20, hours=1))
    assert [subject for subject in subjects_of(steward) if "is over" in subject] == []


# The API


def test_the_api_sets_changes_and_lifts_it(institution, base, steward):
    kit = Kit(steward)
    given = {"institution": institution.slug, "kind": "weights", "base_model": "fundus-64", "title": "T"}
    status, made = kit.post("contributions", {**given, "embargo_until": DAY.isoformat()})
    assert (status, made["embargo_until"]) == (201, DAY.isoformat())
    path = f"contributions/{made['id']}"
    assert kit.call("PATCH", path, {"title": "Better"})[1]["embargo_until"] == DAY.isoformat()
    status, refused = kit.call("PATCH", path, {"embargo_until": TODAY.isoformat()})
    assert (status, refused["code"]) == (400, "embargo_refused")
    assert kit.call("PATCH", path, {"embargo_until": "soon"})[0] == 400
    assert kit.call("PATCH", path, {"embargo_until": None})[1]["embargo_until"] is None
    assert kit.post("contributions", given)[1]["embargo_until"] is None
    status, refused = kit.post(f"{path}/embargo", {"embargo_until": None})
    assert (status, refused["code"]) == (409, "not_under_embargo")


def test_the_api_makes_it_earlier_and_lifts_it(kept, steward):
    kit, path = Kit(steward), f"contributions/{kept.pk}/embargo"
    assert kit.get("contributions")[1]["results"][0]["embargo_until"] == DAY.isoformat()
    status, refused = kit.post(path, {"embargo_until": (DAY + timedelta(days=1)).isoformat()})
    assert (status, refused["code"]) == (400, "embargo_refused")
    assert kit.post(path, {})[0] == 400
    sooner = (DAY - timedelta(days=1)).isoformat()
    assert kit.post(path, {"embargo_until": sooner})[1]["embargo_until"] == sooner
    assert kit.post(path, {"embargo_until": None})[1]["embargo_until"] is None
