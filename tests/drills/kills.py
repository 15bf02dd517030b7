"""kill -9 at random moments: the process that executes runs, the whole worker, the sandboxed child, the scheduler."""

import random
import time

from django.db import connection

from jobs.lifecycle import ACTIVE
from jobs.models import Run
from tests.drills import load, rabbitmq
from tests.drills.report import counted, figure, percentile
from tests.drills.site import DIED, Site, wait_until

GOAL_SECONDS = 45.0
WORKER = "worker-cpu"
TARGETS = ("pool child", "worker tree", "sandboxed child", "scheduler")


def kills(site: Site, world: load.World, *, times: int) -> None:
    """Kill `times` times while contributions are checked, one after the other having begun again."""
    chosen = random.Random(times)
    numbers = load.submit_many(world, times + 10, drawing_every=4)
    done, waits = dict.fromkeys(TARGETS, 0), []
    while sum(done.values()) < times:
        if load.settled(numbers):
            numbers += load.submit_many(world, 20, drawing_every=4)
        target = chosen.choice(TARGETS)
        victim = _moment(chosen)
        if victim is None or not _kill(site, target):
            continue
        done[target] += 1
        if target != "scheduler":
            waits.append(_again(victim))
    wait_until(lambda: load.settled(numbers), seconds=120 + 3 * len(numbers), what="The end of every check")
    broker = "RabbitMQ" if rabbitmq.NAME in site.programs else "Valkey"
    print(f"kill -9, {times} times on {broker}: {done}")
    figure("until a run is at work again, p50", f"{percentile(waits, 0.5):.1f} s")
    figure("until a run is at work again, longest", f"{max(waits):.1f} s", met=max(waits) < GOAL_SECONDS, goal="45 s")
    counted(load.count(numbers), contributions=len(numbers))


def _moment(chosen: random.Random) -> tuple[int, int] | None:
    """
    Wait for a run at work, then a random moment of it; return it with its attempt.

    One that was lost twice is spared: the third loss parks it for a person, by rule.
    """
    try:
        wait_until(lambda: load.held(), seconds=60, what="A run at work")
        time.sleep(chosen.random() * 1.5)
        row = Run.objects.filter(status__in=ACTIVE, faults__lt=2).first()
        return (row.pk, row.attempt) if row else None
    finally:
        connection.close()


def _kill(site: Site, target: str) -> bool:
    """Kill one of the four; return False where there is none at this moment."""
    if target in {"worker tree", "scheduler"}:
        site.kill(WORKER if target == "worker tree" else "beat")
        return True
    victim = site.pool_child(WORKER) if target == "pool child" else site.sandboxed(WORKER)
    try:
        if victim is None:
            return False
        victim.kill()
    except DIED:
        return False
    return True


def _again(victim: tuple[int, int]) -> float:
    """Return how long it took until the run was at work in a new attempt, or had come to its end."""
    pk, attempt = victim

    def moved_on() -> bool:
        row = Run.objects.get(pk=pk)
        return (row.attempt > attempt and row.status in ACTIVE) or row.finished_at is not None

    try:
        return wait_until(moved_on, seconds=120, what=f"R-{pk} at work again")
    finally:
        connection.close()
