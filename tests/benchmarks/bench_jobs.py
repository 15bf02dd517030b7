"""
Runs through the engine beside bare Celery tasks on the same broker and worker, and the time from commit to start.

The runs end at once: what is timed is claiming, the transitions with their audit events, and the message. In each
round the bare tasks and the runs go through the same worker, one after the other. Latency: paced, the worker idle.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.bench_web import report
from tests.drills.site import Site, running_site, wait_until

ROUNDS, TASKS, PACED = 3, 200, 150
RATE_GOAL = 0.02  # of bare tasks, which touch no database
LATENCY_GOAL_MS = 100.0  # BENCHMARKS.md, P22
LATENCY_ROUNDS_GOAL = 10.0  # times a round trip to the broker


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-jobs-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user where we are root
        with running_site(folder) as site:
            return _measured(site)


def _measured(site: Site) -> int:
    import redis
    from django.conf import settings
    from django.utils import timezone

    from jobs import services
    from jobs.models import Run, Worker
    from portal.celery import app

    valkey = redis.Redis.from_url(settings.CACHES["default"]["LOCATION"])
    site.hold("worker-gpu")
    site.add(site.worker("bench", "-Q", "gpu", "--include", "tests.benchmarks.instant_runs"))
    wait_until(lambda: Worker.objects.filter(name__startswith="bench@").exists(), seconds=60, what="The worker")
    numbers = iter(range(1, 10**6))

    def queue() -> Run:
        return services.queue_run(
            Run.Kind.EVALUATE, next(numbers), title="Nothing", inputs={}, by=None, now=timezone.now()
        )

    def latency() -> float:
        """Return the milliseconds from the commit to the start of one run."""
        run = queue()
        committed = timezone.now()
        wait_until(lambda: Run.objects.get(pk=run.pk).finished_at, seconds=30, what="The end")
        run.refresh_from_db()
        assert run.started_at is not None
        return 1000 * (run.started_at - committed).total_seconds()

    def timed(send: Callable[[], object]) -> float:
        """Return how long TASKS of one kind take from the first message to the last end."""
        valkey.delete("bench:done")
        began = time.perf_counter()
        for _ in range(TASKS):
            send()
        while int(valkey.get("bench:done") or 0) < TASKS:
            time.sleep(0.002)
        return time.perf_counter() - began

    pairs = [(timed(lambda: app.send_task("bench.nothing", queue="gpu")), timed(queue)) for _ in range(ROUNDS + 1)][1:]
    ratio = statistics.median(bare / ours for bare, ours in pairs)
    per_second = [TASKS / statistics.median(column) for column in zip(*pairs, strict=True)]
    waits, trips = [], []
    for _ in range(PACED):
        began = time.perf_counter()
        valkey.ping()
        trips.append(1000 * (time.perf_counter() - began))
        waits.append(latency())
    waits.sort()
    p99 = waits[int(0.99 * len(waits))]
    goal = max(LATENCY_GOAL_MS, LATENCY_ROUNDS_GOAL * max(trips))
    return max(
        report(
            "runs/s through the engine / bare tasks", ratio, RATE_GOAL, higher=True,
            detail=f"n={ROUNDS} {per_second[1]:.0f} runs/s, {per_second[0]:.0f} bare tasks/s",
        ),
        report(
            "ms from commit to start, p99, idle worker", p99, goal, higher=False,
            detail=f"n={PACED} median {statistics.median(waits):.1f} ms, longest {waits[-1]:.1f} ms",
        ),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
