"""Checks whose worker stops for a while at the wrong statement, and what comes late or twice."""

from datetime import timedelta

import pytest
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from jobs import engine, health, services, tasks, validate
from jobs.lifecycle import Code, Status
from jobs.models import Run
from portal import storage
from tests import factories
from tests.races import then, while_locked

pytestmark = pytest.mark.services


@pytest.fixture
def submitted(institution) -> Contribution:
    return factories.submitted_contribution(institution)


def claimed(contribution: Contribution) -> Run:
    """A check at work."""
    validate.queue_check(contribution)
    run = services.claim(factories.worker("cpu@site/1", queues=["cpu"]), now=timezone.now())
    assert run is not None
    services.move(run, Status.RUNNING, now=timezone.now(), started_at=timezone.now())
    return run


def lose(run: Run) -> None:
    services.give_back(run, note="Its worker went silent.", code=Code.WORKER_LOST, now=timezone.now(), at_once=True)


def status_of(contribution: Contribution) -> str:
    return Contribution.objects.get(pk=contribution.pk).status


def test_a_worker_that_wakes_after_its_run_was_taken_away_does_not_take_the_contribution(submitted):
    """Taken by nobody's run it would stand as being checked for ever."""
    run = claimed(submitted)
    lose(run)
    with pytest.raises(services.Superseded):
        validate.validate(engine.Attempt(run))
    assert status_of(submitted) == "submitted"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("faults", "status"), [(0, "queued"), (services.MAX_FAULTS - 1, "failed_platform")])
def test_a_run_is_given_back_though_its_contribution_is_withdrawn_at_the_same_instant(
    submitted, steward, faults, status
):
    run = claimed(submitted)
    contributions.begin_validation(submitted.pk, now=timezone.now())
    Run.objects.filter(pk=run.pk).update(faults=faults)
    withdrawn = {"by": steward, "reason": "Wrong file.", "now": timezone.now()}
    assert while_locked(lambda: contributions.withdraw(submitted, **withdrawn), lambda: lose(run)) is None
    run.refresh_from_db()
    assert (status_of(submitted), run.status) == ("withdrawn", status)


def test_a_worker_that_shows_a_sign_of_life_at_the_last_instant_keeps_its_run(submitted, monkeypatch):
    run = claimed(submitted)
    Run.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    then(monkeypatch, services, "overdue", lambda: services.renew(run, now=timezone.now()))
    tasks.sweep()
    run.refresh_from_db()
    assert (run.status, run.faults) == ("running", 0)
    Run.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    tasks.sweep()
    run.refresh_from_db()
    assert (run.status, run.faults) == ("queued", 1)


def test_a_late_message_starts_no_check_that_waits_for_an_operator(submitted):
    contributions.stall(submitted.pk, now=timezone.now())
    tasks.validate_contribution(contribution_id=submitted.pk)
    assert Run.objects.count() == 0
    tasks.sweep()
    assert Run.objects.count() == 0


def test_a_store_that_does_not_answer_while_a_file_is_promoted_is_named(submitted, monkeypatch):
    contributions.begin_validation(submitted.pk, now=timezone.now())
    monkeypatch.setattr(storage, "_s3", lambda: storage._client("http://127.0.0.1:1"))
    with pytest.raises(storage.Unavailable):
        contributions.promote_files(submitted.pk)


@pytest.mark.parametrize("begun", [False, True])
def test_a_check_that_an_operator_cancels_stays_cancelled_until_one_starts_it_again(submitted, operator, begun):
    run = claimed(submitted) if begun else validate.queue_check(submitted)
    if begun:
        contributions.begin_validation(submitted.pk, now=timezone.now())
    services.cancel(run, by=operator, now=timezone.now(), reason="It uses up the disk.")
    if begun:
        lose(run)
    tasks.sweep()
    submitted.refresh_from_db()
    assert list(Run.objects.values_list("status", flat=True)) == ["cancelled"]
    assert (submitted.status, submitted.stalled_at is not None, health.parked()) == ("submitted", True, 1)
    services.retry(Run.objects.get(), reason="The disk is larger.", by=operator, now=timezone.now())
    assert contributions.begin_validation(submitted.pk, now=timezone.now()).stalled_at is None
    assert health.parked() == 0
