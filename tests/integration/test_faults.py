"""An operator says that the platform was at fault where a run refused its input: nothing of it is the site's."""

import pytest
from django.utils import timezone

from contributions import reports
from contributions import services as contributions
from contributions.models import ContributionFile
from jobs import services, validate
from jobs.lifecycle import Code, Status
from jobs.models import Run
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.notifications.models import Notification
from tests import factories, runs

REASON = "The worker had too little memory."
FAILED = {
    "number": 1, "name": "format", "verdict": "fail", "sentence": "No.", "fix": "", "evidence": {},
    "duration_seconds": 0.1,
}  # fmt: skip
States = ContributionFile.State


def refuse(contribution) -> Run:
    """Let a worker find a contribution invalid, as jobs.validate does."""
    queued = validate.queue_check(contribution)
    run = services.claim(factories.worker("cpu@site/1", queues=["cpu"]), now=timezone.now())
    assert run == queued
    services.move(run, Status.RUNNING, now=timezone.now(), started_at=timezone.now())
    contributions.begin_validation(contribution.pk, now=timezone.now())
    contributions.record_check(contribution, run_id=run.pk, attempt=1, result=dict(FAILED))
    contributions.find_invalid(contribution.pk, reason="No.", now=timezone.now())
    services.move(run, Status.FAILED_INPUT, now=timezone.now(), code=Code.REFUSED, error="No.")
    contribution.refresh_from_db()
    return run


@pytest.fixture
def contribution(institution):
    return factories.submitted_contribution(institution)


@pytest.fixture
def refused(contribution) -> Run:
    return refuse(contribution)


def mark(run: Run, by: User) -> Run:
    return services.mark_fault(run, reason=REASON, by=by, now=timezone.now())


def test_marked_it_is_checked_again_and_its_institution_is_told(refused, contribution, operator, steward, sign_in):
    ended = refused.finished_at
    client = sign_in(operator)
    assert f'href="/runs/{refused.pk}/fault/"' in client.get(f"/runs/{refused.pk}/").content.decode()
    assert client.get(f"/runs/{refused.pk}/fault/").status_code == 200
    assert client.post(f"/runs/{refused.pk}/fault/", {"reason": ""}).status_code == 422
    contribution.refresh_from_db()
    assert contribution.status == "rejected"
    answer = client.post(f"/runs/{refused.pk}/fault/", {"reason": REASON})

    again = Run.objects.get(retry_of=refused)
    refused.refresh_from_db()
    contribution.refresh_from_db()
    assert (answer.url, again.status, again.subject_id, again.inputs) == (
        f"/runs/{again.pk}/",
        "queued",
        contribution.pk,
        refused.inputs,
    )
    assert (refused.status, refused.code, refused.finished_at) == ("failed_platform", "fault", ended)
    event = refused.events.last()
    assert (event.note, event.by) == (REASON, operator)
    assert (contribution.status, contribution.reason, contribution.decided_at) == ("submitted", "", None)
    assert list(contribution.files.values_list("state", flat=True)) == [States.UPLOADED]
    assert reports.latest_results(contribution) == ([], [])
    told = Notification.objects.get(recipient=steward, subject=f"{contribution} is checked again")
    assert REASON in told.text
    assert again.inputs["manifest_sha256"] == contribution.manifest_sha256 != ""
    verbs = ("run.marked_fault", "contribution.reopened")
    assert [AuditEvent.objects.get(verb=verb).actor_id for verb in verbs] == [operator.pk] * 2

    held = services.claim(factories.worker("cpu@site/1", queues=["cpu"]), now=timezone.now())
    assert (held, contributions.begin_validation(contribution.pk, now=timezone.now()).status) == (again, "validating")


@pytest.mark.parametrize("person", ["auditor", "chair", "steward"])
def test_nobody_else_says_so(refused, contribution, person, sign_in, request):
    by = request.getfixturevalue(person)
    client = sign_in(by)
    assert client.post(f"/runs/{refused.pk}/fault/", {"reason": REASON}).status_code == 403
    assert f"/runs/{refused.pk}/fault/" not in client.get(f"/runs/{refused.pk}/").content.decode()
    with pytest.raises(services.NotAllowed):
        mark(refused, by)
    contribution.refresh_from_db()
    assert contribution.status == "rejected"


def test_only_what_was_refused_is_marked(operator):
    run = runs.running()
    with pytest.raises(services.NotAllowed, match="did not refuse its input"):
        mark(run, operator)
    run.refresh_from_db()
    assert run.status == "running"


def test_what_a_correction_has_replaced_stays_rejected(refused, contribution, operator, steward):
    correction = contributions.replace(contribution, by=steward, now=timezone.now())
    with pytest.raises(contributions.CannotReopen) as refusal:
        mark(refused, operator)
    refused.refresh_from_db()
    assert (refusal.value.next_url, refused.status) == (correction.get_absolute_url(), "failed_input")
    contributions.withdraw(correction, reason="Made by mistake.", by=steward, now=timezone.now())
    assert mark(refused, operator).subject_id == contribution.pk


def test_the_same_files_do_not_stand_twice(refused, contribution, operator, institution):
    other = factories.submitted_contribution(institution)
    with pytest.raises(contributions.Duplicate) as refusal:
        mark(refused, operator)
    assert refusal.value.next_url == other.get_absolute_url()
    contribution.refresh_from_db()
    assert contribution.status == "rejected"


def test_what_the_board_rejected_is_not_a_matter_of_machines(institution, board, operator):
    contribution = factories.reviewed_contribution(institution)
    factories.vote_all(contribution.motions.get(), "against", "No.")
    with pytest.raises(contributions.CannotReopen):
        contributions.reopen(contribution.pk, reason=REASON, by=operator, now=timezone.now())


def test_an_evaluation_is_marked_too(operator):
    run = runs.running()
    services.move(run, Status.FAILED_INPUT, now=timezone.now(), code=Code.REFUSED, error="No.")
    again = mark(run, operator)
    run.refresh_from_db()
    assert (run.status, again.retry_of, again.kind, again.retry_reason) == ("failed_platform", run, "evaluate", REASON)
