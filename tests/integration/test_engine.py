"""Runs: claimed once, in their order, by who can do them; fenced by attempt; given back when their worker is lost."""

import os
import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from jobs import engine, ledger, logs, services, workers
from jobs.lifecycle import Code, Status
from jobs.models import Budget, Maintenance, Run, Usage, Worker
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import factories

H100 = {"gpu_type": "NVIDIA H100", "gpu_count": 2, "gpu_memory_bytes": 80 * 2**30}


@pytest.fixture
def run(programme) -> Run:
    return queue()


@pytest.fixture
def worker(db) -> Worker:
    return factories.worker()


def queue(subject_id: int = 1, kind: str = Run.Kind.EVALUATE, **more) -> Run:
    return services.queue_run(
        kind, subject_id, title="Evaluate something", inputs={"seed": 1}, by=None, now=timezone.now(), **more
    )


def claim(worker: Worker | None = None) -> Run:
    held = services.claim(worker or factories.worker(), now=timezone.now())
    assert held is not None
    return held


def running(**more) -> Run:
    """A run at work for a minute."""
    queue(**more)
    held = claim()
    began = timezone.now() - timedelta(minutes=1)
    services.move(held, Status.RUNNING, now=timezone.now(), started_at=began)
    return held


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


# Who takes what


def test_a_check_goes_before_what_has_waited_longer(programme, worker):
    long, urgent = queue(1), queue(2, Run.Kind.VALIDATE)
    assert [claim(worker).pk, claim(worker).pk] == [urgent.pk, long.pk]


def test_a_worker_takes_what_it_can_do(programme):
    big = queue(1, gpu_count=1, gpu_type="NVIDIA H100", gpu_memory_bytes=60 * 2**30)
    small = factories.worker("gpu@small/1", gpu_type="NVIDIA T4", gpu_count=4, gpu_memory_bytes=16 * 2**30)
    only_cpu = factories.worker("cpu@site/2", queues=["cpu"])
    assert services.claim(small, now=timezone.now()) is None
    assert services.claim(only_cpu, now=timezone.now()) is None
    assert claim(factories.worker("gpu@big/1", **H100)).pk == big.pk


def test_a_draining_worker_takes_nothing(run, worker, operator):
    workers.drain(worker, on=True, by=operator, now=timezone.now())
    assert services.claim(worker, now=timezone.now()) is None
    workers.drain(worker, on=False, by=operator, now=timezone.now())
    assert claim(worker).pk == run.pk
    assert list(AuditEvent.objects.filter(subject_type="worker").order_by("pk").values_list("verb", flat=True)) == [
        "worker.drained", "worker.resumed",
    ]  # fmt: skip


def test_only_an_operator_drains(worker, auditor):
    with pytest.raises(NotAllowed):
        workers.drain(worker, on=True, by=auditor, now=timezone.now())


def test_a_day_without_a_worker_that_could_is_the_end(programme, worker):
    run = queue(1, gpu_count=1)
    later = timezone.now() + services.NO_CAPACITY_AFTER + timedelta(seconds=1)
    services.end_hopeless(now=timezone.now())
    run.refresh_from_db()
    assert run.status == "queued"
    services.end_hopeless(now=later)
    run.refresh_from_db()
    assert (run.status, run.code) == ("failed_platform", "no_capacity")


def test_a_worker_that_could_lets_it_wait(programme):
    run = queue(1, gpu_count=1)
    later = timezone.now() + services.NO_CAPACITY_AFTER + timedelta(seconds=1)
    factories.worker("gpu@big/1", **H100, seen_at=later)
    services.end_hopeless(now=later)
    run.refresh_from_db()
    assert run.status == "queued"


# Workers


def test_whoever_takes_the_place_of_a_process_that_is_gone_gives_back_what_it_held(run):
    claim(factories.worker(process=f"{workers._machine()}:{os.getpid()}:1.00"))  # that number, of another start
    factories.worker()
    run.refresh_from_db()
    assert (run.status, run.code, run.faults, run.not_before) == ("queued", "worker_lost", 1, None)


def test_two_living_workers_of_one_name_do_not_share_a_place(run):
    first = factories.worker()
    held, second = claim(first), factories.worker()
    held.refresh_from_db()
    assert (held.status, second.name) == ("leased", f"{first.name}-{os.getpid()}")


def test_a_worker_elsewhere_has_ended_when_its_lease_has(worker):
    Worker.objects.filter(pk=worker.pk).update(process="another-machine:pid:1:1.00")
    worker.refresh_from_db()
    now = timezone.now()
    assert not workers.has_ended(worker, now=now)
    assert workers.has_ended(worker, now=now + services.LEASE + timedelta(seconds=1))


def test_a_node_that_is_asked_to_stop_marks_its_own_children(db):
    mine, other = factories.worker("gpu@a/1"), factories.worker("gpu@ab/1")
    workers.stop_node("gpu@a", now=timezone.now())
    mine.refresh_from_db()
    other.refresh_from_db()
    assert (mine.stopping_at is None, other.stopping_at is None) == (False, True)


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


# Ledger


def test_what_an_attempt_used_is_written_when_it_ends(programme, institution):
    queue(1, programme=programme, institution=institution)
    held = claim(factories.worker("gpu@big/1", **H100))
    now = timezone.now()
    services.move(held, Status.RUNNING, now=now, started_at=now)
    services.give_back(held, note="Lost.", now=now + timedelta(seconds=40))
    row = Usage.objects.get()
    assert (row.attempt, row.programme, row.institution, row.seconds, row.gpu_seconds) == (
        1, programme, institution, 40.0, 40.0,
    )  # fmt: skip
    whole, site = ledger.lines(now=now)
    assert [(line.institution, line.attempts, line.gpu_seconds, line.budget) for line in (whole, site)] == [
        ("", 1, 40.0, None), (institution.name, 1, 40.0, None),
    ]  # fmt: skip


def test_an_attempt_that_never_began_used_nothing(run):
    services.give_back(claim(), note="Lost.", now=timezone.now())
    assert Usage.objects.count() == 0


def test_a_budget_stops_the_next_run_and_never_a_check(programme, institution, operator):
    now = timezone.now()
    ledger.set_budget(programme, None, gpu_seconds=30, by=operator, now=now)
    queue(1, programme=programme)
    held = claim(factories.worker("gpu@big/1", **H100))
    services.move(held, Status.RUNNING, now=now, started_at=now)
    services.move(held, Status.FAILED_INPUT, now=now + timedelta(seconds=40))
    with pytest.raises(ledger.OverBudget, match="used up"):
        queue(2, programme=programme)
    assert queue(2, Run.Kind.VALIDATE, programme=programme).status == "queued"
    ledger.set_budget(programme, None, gpu_seconds=None, by=operator, now=now)
    assert queue(2, programme=programme).status == "queued"


def test_only_an_operator_sets_a_budget(programme, auditor):
    with pytest.raises(NotAllowed):
        ledger.set_budget(programme, None, gpu_seconds=1, by=auditor, now=timezone.now())


@pytest.mark.django_db(transaction=True)
def test_eight_racing_workers_claim_once():
    queue()
    places, claimed = [factories.worker(f"gpu@site/{number}") for number in range(8)], []

    def race(place: Worker) -> None:
        claimed.append(services.claim(place, now=timezone.now()))
        connection.close()

    threads = [threading.Thread(target=race, args=[place]) for place in places]
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


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"gpu_type": "NVIDIA H100", "gpu_count": 0}, "worker_gpu_type_means_gpus"),
        ({"stopping_at": timezone.now()}, "worker_stopping_is_draining"),
    ],
)
def test_worker_constraints(worker, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Worker.objects.filter(pk=worker.pk).update(**changes)


def test_the_ledger_has_one_line_for_an_attempt_and_none_below_zero(run):
    row = {"run": run, "attempt": 1, "device": "cpu", "gpu_seconds": 0, "ended_at": timezone.now()}
    Usage.objects.create(**row, seconds=1)
    with pytest.raises(IntegrityError, match="one_usage_per_attempt"), transaction.atomic():
        Usage.objects.create(**row, seconds=1)
    with pytest.raises(IntegrityError, match="usage_not_negative"), transaction.atomic():
        Usage.objects.create(**{**row, "attempt": 2}, seconds=-1)


def test_one_budget_for_a_programme_and_one_row_of_maintenance(programme):
    Budget.objects.create(programme=programme, gpu_seconds=1)
    with pytest.raises(IntegrityError, match="one_budget_per_programme_and_site"), transaction.atomic():
        Budget.objects.create(programme=programme, gpu_seconds=2)
    with pytest.raises(IntegrityError, match="maintenance_is_one_row"), transaction.atomic():
        Maintenance.objects.create(pk=2)
