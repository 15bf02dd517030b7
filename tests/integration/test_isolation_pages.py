"""Pages and ballots of what is isolated: who deals with the incident reads why, the board only that it is."""

from datetime import timedelta

import pytest
from django.utils import timezone

from contributions import deletion, incidents, isolation, reports
from contributions import services as contributions
from contributions.corpora import services as corpora
from contributions.models import Isolation
from governance.board import resting
from governance.board import services as boards
from governance.board.models import Motion
from governance.releases.models import Release
from jobs import services as runs
from jobs import tasks
from portal.audit.models import AuditEvent
from portal.notifications.models import Notification
from tests import contributing, factories, publishing
from tests.contributing import text
from tests.integration.test_deletion import say
from tests.integration.test_isolation import (
    FOUND,
    PICTURE,
    SENT,
    approved,
    at_status,
    base,
    delete,
    isolate,
    lift,
    other,
)

__all__ = ["approved", "at_status", "base", "isolate", "other"]  # fixtures
pytestmark = pytest.mark.services


# The board


@pytest.fixture
def motion(institution, board) -> Motion:
    contribution = factories.reviewed_contribution(institution, SENT)
    motion = Motion.objects.get(contribution=contribution)
    factories.declare(motion)
    return motion


def test_the_motion_rests_and_then_has_its_time_back(motion, board, operator, isolate):
    factories.review_all(motion)
    row = isolate(motion.contribution)
    with pytest.raises(boards.VoteRefused, match=f"so {motion} rests"):
        factories.cast(motion, board[0])
    day = motion.closes_at + timedelta(minutes=1)
    boards.close_due(motion.pk, now=day)
    boards.sweep(now=day)
    motion.refresh_from_db()
    assert (motion.status, motion.closes_at) == ("open", day - timedelta(minutes=1))
    with pytest.raises(isolation.Isolated):
        contributions.approve(motion.contribution_id, by=None, now=day)

    ended = incidents.lift(row, reason="A device's name.", by=operator, now=day)
    boards.close_due(motion.pk, now=day + timedelta(minutes=1))
    motion.refresh_from_db()
    assert (motion.status, motion.closes_at) == ("open", ended.lifted_at + timedelta(days=7))
    factories.vote_all(motion)
    motion.contribution.refresh_from_db()
    assert (motion.status, motion.contribution.status) == ("carried", "approved")


@pytest.fixture
def release(approved, other, operator, board) -> Release:
    """A model before the board that learnt from the contributions of two institutions."""
    return publishing.proposed_release(operator, approved, other)


def test_a_model_that_learnt_from_it_rests_too_and_then_has_its_time_back(release, board, operator, isolate, sign_in):
    motion, [first, _] = release.motions.get(), corpora.contributions_in(release.candidate.corpus).order_by("pk")
    factories.declare(motion)
    row = isolate(first)
    with pytest.raises(boards.VoteRefused, match=f"{first} is isolated because of what it may hold, so {motion} rests"):
        factories.cast(motion, board[0])
    says = "Until that ends the ballot rests; it stays open for a week from then on."
    assert f"Isolated because of what may be in it: {first}. {says}" in text(
        sign_in(board[0]).get(motion.get_absolute_url())
    )
    day = motion.closes_at + timedelta(minutes=1)
    boards.close_due(motion.pk, now=day)
    boards.sweep(now=day)
    motion.refresh_from_db()
    assert (motion.status, motion.closes_at) == ("open", day - timedelta(minutes=1))

    ended = incidents.lift(row, reason="A device's name.", by=operator, now=day)
    boards.close_due(motion.pk, now=day + timedelta(minutes=1))
    motion.refresh_from_db()
    assert (motion.status, motion.closes_at) == ("open", ended.lifted_at + timedelta(days=7))
    factories.vote_all(motion)
    release.refresh_from_db()
    assert (motion.status, release.status) == ("carried", "released")


def test_a_model_goes_on_once_the_files_of_what_it_learnt_from_are_deleted(release, operator, isolate):
    motion = release.motions.get()
    given = corpora.contributions_in(release.candidate.corpus).order_by("pk")
    for row in given:
        isolate(row)
    delete(given[0].isolations.get(), by=operator)
    assert list(resting.isolated(motion)) == [given[1]]
    delete(given[1].isolations.get(), by=operator)
    assert (list(resting.isolated(motion)), list(resting.resting())) == ([], [])


def test_no_review_is_sent_on_what_is_not_shown(motion, isolate):
    isolate(motion.contribution)
    with pytest.raises(boards.VoteRefused, match="rests"):
        factories.review_all(motion)


def test_the_chair_reads_no_more_of_it_than_the_board(motion, chair, isolate, sign_in):
    contribution = isolate(motion.contribution).contribution
    client = sign_in(chair)
    page = text(client.get(contribution.get_absolute_url()))
    assert ("solated" in page, FOUND in page, contribution.files.get().name in page) == (True, False, False)
    answer = client.get(f"/api/v1/contributions/{contribution.pk}").json()["isolation"]
    assert (answer["reason"], answer["file_names"]) == (None, None)


def test_the_agreements_day_deletes_nothing_that_is_isolated(motion, steward, isolate, operator):
    """Both sides may need the files to report the incident; the order to delete comes from a person."""
    contribution = isolate(motion.contribution).contribution
    say(contribution.programme.agreements.get(), 14)
    contributions.withdraw(contribution, by=steward, reason="We look into it.", now=timezone.now())
    contribution.refresh_from_db()
    late = timezone.now() + timedelta(days=3650)
    assert (list(deletion.due(now=late)), deletion.is_due(contribution, now=late)) == ([], False)
    incidents.lift(contribution.isolations.get(), reason="A device's name.", by=operator, now=timezone.now())
    contribution.refresh_from_db()
    assert (list(deletion.due(now=late)), deletion.is_due(contribution, now=late)) == ([contribution], True)


def test_nobody_returns_it_nor_is_asked_for_a_vote_or_a_review(motion, board, operator, isolate, sign_in):
    late = timezone.now() + timedelta(days=15)
    row, page = isolate(motion.contribution), f"/board/motions/{motion.pk}/"
    asks = {"by": board[0], "now": timezone.now()}
    with pytest.raises(boards.VoteRefused, match=f"so {motion} rests"):
        boards.return_for_changes(motion, note="Which camera?", **asks)
    shown = sign_in(operator).get(page).content.decode()
    assert (page + "return/" in shown, asked_for_reviews(motion)) == (False, 0)
    boards.sweep(now=late)
    assert asked_for_reviews(motion) == 0
    lift(row, by=operator)
    assert page + "return/" in sign_in(operator).get(page).content.decode()
    boards.sweep(now=late)
    assert asked_for_reviews(motion) == motion.reviews.count() == 2

    factories.review_all(motion)
    assert page + "nudge/" in sign_in(operator).get(page).content.decode()
    isolate(motion.contribution)
    with pytest.raises(boards.VoteRefused, match="rests"):
        boards.nudge(motion, **asks)
    assert page + "nudge/" not in sign_in(operator).get(page).content.decode()
    missing = Notification.objects.filter(subject__startswith="Your vote is missing")
    assert (missing.count(), AuditEvent.objects.filter(verb="motion.nudged").count()) == (0, 0)


def asked_for_reviews(motion) -> int:
    return Notification.objects.filter(subject=f"Your review is late: {motion}").count()


@pytest.mark.parametrize(
    ("is_taken_back", "subject", "how"),
    [
        (False, "was taken out of use after an incident", "It was taken out of use after a corpus"),
        (True, "was withdrawn", "{institution} took it back after a corpus"),
    ],
)
def test_the_chair_reads_why_it_is_in_use_no_more(
    approved, programme, chair, steward, operator, isolate, is_taken_back, subject, how
):
    corpus = corpora.draft_corpus(programme, slug="one", title="one", by=None, now=timezone.now())
    corpora.add_generator(corpus, approved, image_count=2, seed=1, now=timezone.now())
    corpora.freeze(corpus, by=None, now=timezone.now())
    if is_taken_back:
        contributions.withdraw(approved, by=steward, reason="A patient asked.", now=timezone.now())
    delete(isolate(approved), by=operator)  # also of what was taken back before
    boards.sweep(now=timezone.now())
    told = chair.notifications.get(subject__endswith=": the board is to settle what follows")
    assert told.subject == f"{approved} {subject}: the board is to settle what follows"
    assert told.text.startswith(how.format(institution=approved.institution))


def test_after_the_deletion_the_question_is_taken_back(motion, isolate, operator):
    delete(isolate(motion.contribution), by=operator)
    boards.sweep(now=timezone.now())
    motion.refresh_from_db()
    assert motion.status == "withdrawn"


def test_the_board_reads_that_it_is_isolated_and_no_more(motion, board, outsider, isolate, sign_in, operator):
    contribution, colleague = motion.contribution, sign_in(board[1])
    contributing.check(contribution, 1, "pass", sentence="The header names Wanjiru K.")
    picture = reports.add_evidence(contribution, run_id=1, attempt=1, name="samples.png", content=PICTURE)
    run = runs.queue_run("validate", contribution.pk, title="Check it", inputs={}, by=None, now=timezone.now())
    page, api = f"/contributions/{contribution.pk}/", f"/api/v1/contributions/{contribution.pk}"
    shown = [page, f"{page}status/", f"/board/motions/{motion.pk}/", api, f"/runs/of-contribution/{contribution.pk}/"]
    evidence = f"{page}evidence/{picture.pk}/"
    assert evidence in colleague.get(shown[2]).content.decode()
    assert (colleague.get(evidence).status_code, colleague.get(run.get_absolute_url()).status_code) == (200, 200)

    row = isolate(contribution)
    found = {path: colleague.get(path, HTTP_HX_REQUEST="true") for path in shown}
    for path, answer in found.items():
        content = answer.content.decode()
        assert [word for word in ("Wanjiru", "weights.safetensors", "evidence/") if word in content] == [], path
    since = f"Isolated since {timezone.now():%-d %b %Y}, because of what it may hold"
    for path in shown[:3]:
        assert since in text(found[path]), path
    assert "the ballot rests" in text(found[shown[2]]) or "opens when the reviewers" in text(found[shown[2]])
    answer = found[api].json()
    assert (answer["checks"], answer["files"], answer["isolation"]["reason"]) == ([], [], None)
    file = f"{api}/files/{contribution.files.get().pk}"
    assert (colleague.get(file).status_code, sign_in(operator).get(file).status_code) == (404, 200)
    assert (colleague.get(evidence).status_code, colleague.get(run.get_absolute_url()).status_code) == (409, 404)
    assert sign_in(operator).get(evidence).status_code == 409
    assert [sign_in(outsider).get(path).status_code for path in (page, evidence, api)] == [404, 404, 404]

    lift(row, by=operator)
    assert "Wanjiru K., a patient" not in text(colleague.get(page))
    assert evidence in colleague.get(shown[2]).content.decode()
    assert colleague.get(evidence).content == PICTURE


# The pages


def test_pages_lead_an_operator_through_it(approved, steward, member, operator, auditor, programme, sign_in):
    page = f"/contributions/{approved.pk}/"
    found = [sign_in(person).get(page).content.decode() for person in (operator, steward, auditor)]
    assert [page + "isolate/" in content for content in found] == [True, False, False]
    corpus = corpora.draft_corpus(programme, slug="one", title="Corpus of May", by=None, now=timezone.now())
    corpora.add_generator(corpus, approved, image_count=2, seed=1, now=timezone.now())
    assert "Corpus of May, 2 images sampled from it" in text(sign_in(operator).get(page + "isolate/"))
    file = approved.files.get()
    for given in ({"reason": FOUND}, {"reason": "", "concerned": file.pk}):
        assert sign_in(operator).post(page + "isolate/", given).status_code == 200
    assert Isolation.objects.count() == 0

    sign_in(operator).post(page + "isolate/", {"reason": FOUND, "concerned": [file.pk]})
    there = f"{page}isolations/{Isolation.objects.get().pk}/"
    found = [sign_in(person).get(page) for person in (operator, steward, member, auditor)]
    for answer in found:
        assert (FOUND in text(answer), "evidence/" in answer.content.decode()) == (True, False)
        assert "neither results nor pictures are shown" in text(answer)
        assert "It is isolated: nothing goes on until" in text(answer)
    contents = [answer.content.decode() for answer in found]
    assert [there + "lift/" in content for content in contents] == [True, False, False, False]
    assert [there + "delete-files/" in content for content in contents] == [True, True, False, False]
    assert FOUND in text(sign_in(auditor).get("/ops/storage/"))
    assert FOUND in text(sign_in(operator).get(there + "lift/"))

    asks = text(sign_in(steward).get(there + "delete-files/"))
    said = ("Corpus of May, 2 images sampled from it", FOUND, "It cannot be undone")
    assert [words for words in said if words not in asks] == []
    assert sign_in(steward).post(there + "delete-files/", follow=True).status_code == 200
    tasks.delete_files(contribution_id=approved.pk)
    shown = text(sign_in(member).get(page))
    assert f"Deleted after an incident: {steward} had that done on" in shown
    assert f"had the files of {approved} deleted after an incident" in shown
    assert sign_in(operator).get(there + "lift/").status_code == 409
    assert FOUND not in text(sign_in(auditor).get("/ops/storage/"))


def test_a_lifted_one_leaves_a_trace(approved, steward, operator, isolate, sign_in):
    row = isolate(approved)
    sign_in(operator).post(f"/contributions/{approved.pk}/isolations/{row.pk}/lift/", {"reason": "A device's name."})
    answer = sign_in(steward).get(f"/contributions/{approved.pk}/")
    assert f"{FOUND} Lifted: A device's name." in text(answer)
    assert "evidence/" in answer.content.decode()


def test_the_api_isolates_lifts_and_deletes(approved, steward, operator, sign_in):
    address = f"/api/v1/contributions/{approved.pk}"
    asks = {"content_type": "application/json"}
    given = {"reason": FOUND, "files": [approved.files.get().pk]}
    assert sign_in(steward).get(address).json()["isolation"] is None
    assert sign_in(operator).post(address + "/isolations", {**given, "files": [0]}, **asks).status_code == 404
    assert sign_in(operator).post(address + "/isolations", {**given, "files": []}, **asks).status_code == 400
    sent = sign_in(operator).post(address + "/isolations", given, **asks)
    assert (sent.status_code, sent.json()["isolation"]["reason"]) == (200, FOUND)
    again = sign_in(operator).post(address + "/isolations", given, **asks)
    assert (again.status_code, again.json()["code"]) == (409, "cannot_isolate")
    assert sign_in(steward).get(address).json()["isolation"]["file_names"] == ["weights.safetensors"]
    lifted = f"{address}/isolations/{sent.json()['isolation']['id']}/lift"
    assert sign_in(steward).post(lifted, {"reason": "No."}, **asks).status_code == 403
    assert sign_in(operator).post(lifted, {"reason": "No."}, **asks).json()["isolation"] is None
    second = sign_in(operator).post(address + "/isolations", given, **asks).json()["isolation"]["id"]
    done = sign_in(steward).post(f"{address}/isolations/{second}/delete-files", **asks)
    assert (done.status_code, done.json()["status"]) == (200, "withdrawn")
    again = sign_in(steward).post(f"{address}/isolations/{second}/delete-files", **asks)
    assert (again.status_code, again.json()["code"]) == (409, "not_isolated")
