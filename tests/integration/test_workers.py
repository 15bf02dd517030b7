"""Workers: who takes which run first, who may not, whose place is taken over, who is asked to stop."""

import os
import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from jobs import services, workers
from jobs.models import Run, Worker
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import factories
from tests.runs import H100, claim, queue


@pytest.fixture
def run(programme) -> Run:
    return queue()


@pytest.fixture
def worker(db) -> Worker:
    return factories.worker()


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


@pytest.mark.parametrize(("was_asked_to_stop", "takes_runs"), [(False, False), (True, True)])
def test_a_drained_worker_that_is_killed_stays_drained(run, worker, operator, was_asked_to_stop, takes_runs):
    """Its node makes another child in its place by itself; a node that is started again was meant to begin anew."""
    workers.drain(worker, on=True, by=operator, now=timezone.now())
    if was_asked_to_stop:
        workers.stop_node("cpu@site", now=timezone.now())
    Worker.objects.update(process=f"{workers._machine()}:{os.getpid()}:1.00")  # a process that had our number
    again = factories.worker()
    assert again.pk == worker.pk
    assert (services.claim(again, now=timezone.now()) is not None) == takes_runs


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
        ({"gpu_type": "NVIDIA H100", "gpu_count": 0}, "worker_gpu_type_means_gpus"),
        ({"stopping_at": timezone.now()}, "worker_stopping_is_draining"),
    ],
)
def test_worker_constraints(worker, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Worker.objects.filter(pk=worker.pk).update(**changes)
