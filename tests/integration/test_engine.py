"""Runs: fenced by attempt, bound by limits, stopped, given back, started again; their messages and their log."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from jobs import engine, logs, services, workers
from jobs.lifecycle import Code, Status
from jobs.models import Run, Worker
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import factories
from tests.runs import claim, queue, running


@pytest.fixture
def run(programme) -> Run:
    return queue()


@pytest.fixture
def worker(db) -> Worker:
    return factories.worker()


def succeed(attempt: engine.Attempt) -> None:
    with services.fenced(attempt.run):
        services.succeed(attempt.run, result_sha256="ab" * 32, now=timezone.now())


def execute(run: Run, work) -> Run:
    engine.execute(work={Run.Kind.EVALUATE: work})
    run.refresh_from_db()
    return run


def due(run: Run) -> None:
    """Let the pause after a fault be over."""
    Run.objects.filter(pk=run.pk).update(not_before=None)


def test_a_run_succeeds_and_its_transitions_are_rows(run):
    execute(run, succeed)
    assert [event.status for event in run.events.all()] == ["queued", "leased", "running", "finalising", "succeeded"]


def test_a_second_delivery_has_no_effect(run):
    execute(run, succeed)
    assert engine.execute(work={Run.Kind.EVALUATE: succeed}) is None
    assert run.events.count() == 5


def test_queueing_twice_gives_the_same_live_run(run):
    assert queue().pk == run.pk


def test_what_it_was_worked_out_from_is_on_record(run):
    execute(run, succeed)
    row = workers.current()
    assert (run.config_sha256, run.code_version, run.device, run.result_sha256) == (
        services.digest({"seed": 1}), workers.code_version(), row.device, "ab" * 32,
    )  # fmt: skip


def test_refused_input_is_told_apart(run):
    def work(attempt):
        raise engine.InputRefused("The file is empty. Send another.")

    execute(run, work)
    assert (run.status, run.code, run.error) == ("failed_input", "refused", "The file is empty. Send another.")


def test_a_fault_waits_a_little_and_stops_after_the_third(run):
    def work(attempt):
        raise MemoryError

    states = []
    for _ in range(3):
        execute(run, work)
        states.append((run.status, run.code, run.attempt, run.faults, run.not_before is not None))
        assert engine.execute(work={Run.Kind.EVALUATE: work}) is None  # it is not its time
        due(run)
    assert states == [
        ("queued", "out_of_memory", 1, 1, True),
        ("queued", "out_of_memory", 2, 2, True),
        ("failed_platform", "out_of_memory", 3, 3, False),
    ]


def test_a_database_that_is_away_is_named(run):
    def work(attempt):
        raise engine.DatabaseError("gone")

    assert execute(run, work).code == "database_away"


def test_a_drained_worker_is_no_fault(run):
    for attempt in range(1, 5):
        held = claim()
        services.give_back(held, note="Asked to stop.", code=Code.DRAINED, now=timezone.now(), at_once=True)
        run.refresh_from_db()
        assert (run.status, run.attempt, run.faults, run.not_before) == ("queued", attempt, 0, None)


def test_a_late_result_of_a_lost_attempt_is_refused(run):
    held = claim()
    services.give_back(held, note="The worker went silent.", now=timezone.now(), at_once=True)
    claim()
    with pytest.raises(services.Superseded):
        services.move(held, Status.RUNNING, now=timezone.now())


def test_a_silent_worker_is_overdue_after_its_lease(run):
    held = claim()
    assert services.overdue(now=timezone.now()) == []
    assert services.overdue(now=timezone.now() + services.LEASE + timedelta(seconds=1)) == [held]


# Limits and stopping: what the heartbeat sees


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({"cancel_requested_at": timezone.now()}, "asked", "cancelled"),
        ({"started_at": timezone.now() - timedelta(days=2)}, "wall_limit", "timed_out"),
        ({"progress_at": timezone.now() - timedelta(hours=2)}, "stalled", "timed_out"),
        ({}, "", "running"),
    ],
)
def test_the_row_and_the_limits_stop_an_attempt(programme, changes, code, status):
    attempt = engine.Attempt(running())
    Run.objects.filter(pk=attempt.run.pk).update(**changes)
    attempt._look()
    assert (attempt.stop_code, attempt.should_stop()) == (code, bool(code))
    if code:
        engine.settle(attempt, services.Superseded("stopped"))
    attempt.run.refresh_from_db()
    assert (attempt.run.status, attempt.run.code) == (status, code)


def test_a_worker_that_is_asked_to_stop_gives_its_run_back_at_once(programme):
    attempt = engine.Attempt(running())
    workers.stop_node("cpu@site", now=timezone.now())
    attempt._look()
    engine.settle(attempt, services.Superseded("stopped"))
    attempt.run.refresh_from_db()
    assert (attempt.run.status, attempt.run.code, attempt.run.faults) == ("queued", "drained", 0)


def test_work_that_does_not_stop_is_ended_in_the_table(programme, operator):
    attempt = engine.Attempt(running())
    services.cancel(attempt.run, by=operator, now=timezone.now())
    attempt._look()
    assert attempt._is_deaf() is False  # it has a moment
    attempt._asked_at -= engine.GRACE_SECONDS
    assert attempt._is_deaf() is True
    attempt.run.refresh_from_db()
    assert attempt.run.status == "cancelled"
    with pytest.raises(services.Superseded), services.fenced(attempt.run):
        pass


def test_an_attempt_that_lost_its_run_is_told(programme):
    attempt = engine.Attempt(running())
    services.give_back(attempt.run, note="The worker went silent.", now=timezone.now())
    with pytest.raises(services.Superseded):
        attempt._look()


# Cancelling and starting again


def test_a_waiting_run_is_cancelled_at_once(run, operator):
    assert services.cancel(run, by=operator, now=timezone.now()).status == "cancelled"


def test_an_operator_starts_a_stopped_run_again_on_another_device(run, operator):
    services.cancel(run, by=operator, now=timezone.now())
    run.refresh_from_db()
    wanted = {"gpu_count": 1, "gpu_type": "NVIDIA H100", "wall_seconds": 99}
    again = services.retry(run, reason="More memory.", by=operator, now=timezone.now(), **wanted)
    assert (again.status, again.subject_id, again.inputs, again.retry_of, again.retry_reason) == (
        "queued", run.subject_id, run.inputs, run, "More memory.",
    )  # fmt: skip
    assert {name: getattr(again, name) for name in wanted} == wanted
    with pytest.raises(NotAllowed, match=f"started again already, as R-{again.pk} "):
        services.retry(run, reason="Twice.", by=operator, now=timezone.now())
    facts = AuditEvent.objects.filter(verb="run.queued").latest("pk").facts
    assert (facts["retry_of"], facts["reason"]) == (run.pk, "More memory.")


def test_an_evaluation_that_succeeded_is_started_again_to_compare(run, operator):
    execute(run, succeed)
    assert services.retry(run, reason="Compare.", by=operator, now=timezone.now()).retry_of == run


def test_an_attempt_that_lost_the_run_gives_nothing_back(run):
    held = claim()
    services.give_back(held, note="The worker went silent.", now=timezone.now())
    assert services.give_back(held, note="late", now=timezone.now()) is None


def test_only_an_operator_cancels_and_starts_again(run, researcher):
    with pytest.raises(NotAllowed):
        services.cancel(run, by=researcher, now=timezone.now())
    with pytest.raises(NotAllowed):
        services.retry(run, reason="Because.", by=researcher, now=timezone.now())


# Messages


def test_a_message_that_the_broker_did_not_take_is_sent_by_the_next_sweep(run, monkeypatch):
    rung = []
    monkeypatch.setattr(services, "ring", lambda run: rung.append(run.pk))
    services.ring_waiting(now=timezone.now())
    Run.objects.update(rung_at=None)
    services.ring_waiting(now=timezone.now())
    services.ring_waiting(now=timezone.now())
    assert rung == [run.pk]
    services.ring_waiting(now=timezone.now() + services.RING_AGAIN_AFTER + timedelta(seconds=1))
    assert rung == [run.pk, run.pk]


def test_a_run_that_pauses_after_a_fault_is_rung_when_its_time_has_come(run, monkeypatch):
    rung = []
    monkeypatch.setattr(services, "ring", lambda run: rung.append(run.pk))
    services.give_back(claim(), note="A fault.", now=timezone.now())
    services.ring_waiting(now=timezone.now())
    assert rung == []
    services.ring_waiting(now=timezone.now() + services.BACK_OFF)
    assert rung == [run.pk]


# Log


def test_log_lines_are_numbered_and_hold_no_secret(run):
    held = claim()
    for text in ("one", "GET https://store/part?X-Amz-Signature=abcdef", "password=hunter2"):
        logs.write(held, text)
    assert list(run.log.values_list("seq", "text")) == [
        (1, "one"), (2, "GET https://store/part?X-Amz-Signature=[redacted]"), (3, "password=[redacted]"),
    ]  # fmt: skip
    assert [line.seq for line in logs.lines(run, since=1)] == [2, 3]
    assert [line.seq for line in logs.lines(run, holding="ONE")] == [1]


def test_a_log_is_full_once(run, monkeypatch):
    monkeypatch.setattr(logs, "MOST_LINES", 3)
    for number in range(6):
        logs.write(run, f"line {number}")
    assert list(run.log.values_list("seq", "text")) == [(1, "line 0"), (2, "line 1"), (3, "line 2"), (4, logs.FULL)]


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"status": "lost", "finished_at": timezone.now()}, "run_status_known"),
        ({"status": "succeeded"}, "run_finished_at_iff_ended"),
        ({"finished_at": timezone.now()}, "run_finished_at_iff_ended"),
        ({"status": "leased"}, "run_lease_while_held"),
        ({"status": "leased", "lease_expires_at": timezone.now()}, "run_worker_while_held"),
        ({"wall_seconds": 0}, "run_limits_positive"),
        ({"gpu_type": "NVIDIA H100"}, "run_gpu_needs_count"),
        ({"retry_of": 1}, "run_retry_has_a_reason"),
    ],
)
def test_run_constraints(run, changes, constraint):
    if "retry_of" in changes:
        changes = {"retry_of": run}
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(**changes)


def test_one_live_run_per_kind_and_subject(run):
    twin = Run.objects.get(pk=run.pk)
    twin.pk = None
    with pytest.raises(IntegrityError, match="one_live_run_per_kind_and_subject"), transaction.atomic():
        twin.save()
