"""Runs: claimed once, fenced by attempt, given back when their worker is lost."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from jobs import engine, services
from jobs.lifecycle import Status
from jobs.models import Run
from portal.errors import NotAllowed


@pytest.fixture
def run(programme) -> Run:
    return queue()


def queue(subject_id: int = 1) -> Run:
    return services.queue_run(
        Run.Kind.EVALUATE, subject_id, title="Evaluate something", inputs={}, by=None, now=timezone.now()
    )


def claim(run: Run) -> Run:
    held = services.claim(run.pk, worker="w1", now=timezone.now())
    assert held is not None
    return held


def succeed(attempt: engine.Attempt) -> None:
    with services.fenced(attempt.run):
        services.move(attempt.run, Status.FINALISING, now=timezone.now())
        services.move(attempt.run, Status.SUCCEEDED, now=timezone.now())


def execute(run: Run, work) -> Run:
    engine.execute(run.pk, work={Run.Kind.EVALUATE: work})
    run.refresh_from_db()
    return run


def test_a_run_succeeds_and_its_transitions_are_rows(run):
    execute(run, succeed)
    assert [event.status for event in run.events.all()] == ["queued", "leased", "running", "finalising", "succeeded"]


def test_a_second_delivery_has_no_effect(run):
    execute(run, succeed)
    engine.execute(run.pk, work={Run.Kind.EVALUATE: succeed})
    assert run.events.count() == 5


def test_queueing_twice_gives_the_same_live_run(run):
    assert queue().pk == run.pk


def test_refused_input_is_told_apart(run):
    def work(attempt):
        raise engine.InputRefused("The file is empty. Send another.")

    execute(run, work)
    assert (run.status, run.error) == ("failed_input", "The file is empty. Send another.")


def test_a_fault_is_tried_three_times_then_stops(run):
    def work(attempt):
        raise MemoryError

    states = [(execute(run, work).status, run.attempt) for _ in range(3)]
    assert states == [("queued", 1), ("queued", 2), ("failed_platform", 3)]


def test_a_late_result_of_a_lost_attempt_is_refused(run):
    held = claim(run)
    services.give_back(held, note="The worker went silent.", now=timezone.now())
    claim(run)
    with pytest.raises(services.Superseded):
        services.move(held, Status.RUNNING, now=timezone.now())


def test_a_silent_worker_is_overdue_after_its_lease(run):
    held = claim(run)
    assert services.overdue(now=timezone.now()) == []
    assert services.overdue(now=timezone.now() + services.LEASE + timedelta(seconds=1)) == [held]


def test_a_waiting_run_is_cancelled_at_once(run, operator):
    assert services.cancel(run, by=operator, now=timezone.now()).status == "cancelled"


def test_a_held_run_is_cancelled_by_its_next_heartbeat(run, operator):
    held = claim(run)
    services.cancel(run, by=operator, now=timezone.now())
    with pytest.raises(services.Superseded):
        services.renew(held, now=timezone.now())
    given_back = services.give_back(held, note="", now=timezone.now())
    assert given_back is not None
    assert given_back.status == "cancelled"


def test_an_operator_starts_a_stopped_run_again(run, operator):
    services.cancel(run, by=operator, now=timezone.now())
    run.refresh_from_db()
    again = services.retry(run, by=operator, now=timezone.now())
    assert (again.status, again.subject_id, again.pk == run.pk) == ("queued", run.subject_id, False)


def test_an_attempt_that_lost_the_run_gives_nothing_back(run):
    held = claim(run)
    services.give_back(held, note="The worker went silent.", now=timezone.now())
    assert services.give_back(held, note="late", now=timezone.now()) is None


def test_only_an_operator_cancels(run, researcher):
    with pytest.raises(NotAllowed):
        services.cancel(run, by=researcher, now=timezone.now())


def test_log_lines_are_numbered(run):
    held = claim(run)
    for text in ("one", "two"):
        services.log(held, text)
    assert list(run.log.values_list("seq", "text")) == [(1, "one"), (2, "two")]


@pytest.mark.django_db(transaction=True)
def test_eight_racing_workers_claim_once():
    run, claimed = queue(), []

    def race() -> None:
        held = services.claim(run.pk, worker="w", now=timezone.now())
        claimed.append(held)
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(held is not None for held in claimed) == 1


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"status": "lost", "finished_at": timezone.now()}, "run_status_known"),
        ({"status": "succeeded"}, "run_finished_at_iff_ended"),
        ({"finished_at": timezone.now()}, "run_finished_at_iff_ended"),
        ({"status": "leased"}, "run_lease_while_held"),
    ],
)
def test_run_constraints(run, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(**changes)


def test_one_live_run_per_kind_and_subject(run):
    twin = Run.objects.get(pk=run.pk)
    twin.pk = None
    with pytest.raises(IntegrityError, match="one_live_run_per_kind_and_subject"), transaction.atomic():
        twin.save()
