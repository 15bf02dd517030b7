"""Two schedulers, none; a check behind long evaluations; a worker that is asked to stop; a run that is cancelled."""

import time
from dataclasses import replace

from django.db import connection
from django.utils import timezone

from contributions.models import Contribution
from jobs import health, services
from jobs.models import Run, RunEvent, Worker
from portal.accounts.models import User
from tests import publishing
from tests.drills import load
from tests.drills.report import counted, figure
from tests.drills.site import Site, wait_until

SEEN_SECONDS = 120.0


def two_schedulers(site: Site, world: load.World) -> None:
    """Run a second scheduler beside the first while contributions are checked."""
    beat = site.programs["beat"]
    argv = tuple(word.replace("run/beat", "run/beat-2") for word in beat.argv)
    site.add(replace(beat, name="beat-2", argv=argv))
    numbers = load.submit_many(world, 6)
    wait_until(lambda: load.settled(numbers), seconds=load.PATIENCE_SECONDS, what="The end of every check")
    site.hold("beat-2")
    print("Two schedulers at once")
    counted(load.count(numbers), contributions=len(numbers))


def no_scheduler(site: Site) -> None:
    """Take the scheduler away until the health page says so."""
    site.hold("beat")
    took = wait_until(_is_missing, seconds=200, what="The finding")
    site.release("beat")
    gone = wait_until(lambda: not _is_missing(), seconds=60, what="The end of the finding")
    print("No scheduler")
    figure("until the health page says so", f"{took:.0f} s", met=took <= SEEN_SECONDS, goal="120 s")
    figure("until it no longer does, after its return", f"{gone:.0f} s")


def _is_missing() -> bool:
    try:
        return any(finding.code == "scheduler_missing" for finding in health.findings(now=timezone.now()))
    finally:
        connection.close()


def check_behind_evaluations(site: Site, world: load.World, *, count: int = 20) -> None:
    """Queue evaluations of minutes, which the worker of the GPU queue takes one by one, then submit a contribution."""
    operator = User.objects.get(consortium_roles__role="operator")
    site.hold("worker-gpu")
    site.add(site.worker("long", "-Q", "gpu", "--include", "tests.drills.long_runs"))
    runs = [_evaluation(world, index, operator) for index in range(count)]
    wait_until(lambda: Run.objects.filter(kind="evaluate", status="running").exists(), seconds=60, what="One at work")
    number = load.submitted(world, load.different(world.good))
    wait_until(lambda: _check(number).started_at is not None, seconds=120, what="The check's start")
    waited = (_check(number).started_at - Contribution.objects.get(pk=number).submitted_at).total_seconds()
    left = Run.objects.filter(pk__in=[run.pk for run in runs], status__in=["queued", "running"]).count()
    print(f"{count} evaluations of minutes are queued, then a contribution is submitted")
    figure("until its check begins", f"{waited:.1f} s", met=waited < 10, goal="10 s")
    figure("evaluations that still wait or run then", str(left), met=left == count, goal=str(count))
    for run in runs:
        services.cancel(run, by=operator, now=timezone.now(), reason="The drill is over.")
    wait_until(lambda: load.settled([number]), seconds=60, what="The end of the check")
    site.hold("long")
    site.release("worker-gpu")


def _evaluation(world: load.World, index: int, operator: User) -> Run:
    candidate = publishing.candidate(world.programme, slug=f"drill-{index}-{time.time_ns()}")
    return services.queue_run(
        Run.Kind.EVALUATE, candidate.pk, title=f"Evaluate {candidate}", inputs={}, by=operator, now=timezone.now()
    )


def _check(number: int) -> Run:
    return Run.objects.filter(kind=Run.Kind.VALIDATE, subject_id=number).latest("pk")


def drain(site: Site, world: load.World) -> None:
    """Ask a worker to stop (SIGTERM) while it holds a run; another takes over."""
    site.add(site.worker("second", "-Q", "cpu", DATA_DIR=str(site.data_dir / "second-host")))  # a disk of its own
    wait_until(lambda: Worker.objects.filter(name__startswith="second@").exists(), seconds=60, what="The worker")
    numbers = load.submit_many(world, 6, drawing_every=1)
    wait_until(lambda: _held_by("cpu@"), seconds=60, what="A run at the first worker")
    run = _held_by("cpu@")
    site.held.add("worker-cpu")
    asked = timezone.now()
    site.ask_to_stop("worker-cpu")
    wait_until(lambda: load.settled(numbers), seconds=load.PATIENCE_SECONDS, what="The end of every check")
    print("SIGTERM while a run is at work")
    given = RunEvent.objects.filter(run=run, code="drained").first()
    if given:
        back = (given.at - asked).total_seconds()
        figure("until the run waits again", f"{back:.1f} s", met=back < 5, goal="5 s")
    else:
        figure("the run", "ended before it was asked to stop")
    counted(load.count(numbers), contributions=len(numbers))
    site.hold("second")
    site.release("worker-cpu")


def _held_by(prefix: str) -> Run | None:
    try:
        return Run.objects.filter(worker__name__startswith=prefix, status="running").first()
    finally:
        connection.close()


def cancelled(site: Site, world: load.World, *, times: int) -> None:
    """Cancel runs at work; the check of a contribution waits until an operator starts it again, who does."""
    operator = User.objects.get(consortium_roles__role="operator")
    waits = [waited for _ in range(times) if (waited := _cancelled_once(world, operator)) is not None]
    print(f"Cancelling a run at work, {times} times")
    longest = max(waits, default=0.0)
    figure(f"until it has ended, longest of {len(waits)}", f"{longest:.1f} s", met=longest < 5, goal="5 s")


def _cancelled_once(world: load.World, operator: User) -> float | None:
    """Return the seconds from asking to the end of a run at work; None where it ended by itself before."""
    number = load.submitted(world, load.different(world.good), draws=True)
    wait_until(lambda: _check(number).status == "running", seconds=60, what="The check at work")
    run, asked = _check(number), timezone.now()
    services.cancel(run, by=operator, now=asked, reason="The drill.")
    wait_until(lambda: Run.objects.get(pk=run.pk).finished_at, seconds=30, what="Its end")
    run.refresh_from_db()
    if run.status == "cancelled":
        services.retry(run, by=operator, now=timezone.now(), reason="The drill.")
    wait_until(lambda: load.settled([number]), seconds=60, what="The end of the check")
    return (run.finished_at - asked).total_seconds() if run.finished_at and run.status == "cancelled" else None
