"""Sandboxed children that misbehave, through a real worker: the right end for each, and nobody else notices."""

from django.db import connection

from contributions.models import Contribution
from jobs.models import Run, Worker
from tests.drills import load
from tests.drills.faulty_worker import DEEDS
from tests.drills.report import figure
from tests.drills.site import Site, wait_until

NAME = "faulty"


def children(site: Site, world: load.World) -> None:
    """Let each contribution's child do one bad thing, and good ones between them."""
    site.hold("worker-cpu")
    site.add(site.worker(NAME, "-Q", "cpu", "--include", "tests.drills.faulty_worker"))
    wait_until(lambda: _place() is not None, seconds=60, what="The worker")
    before = (site.pid(NAME), _place())
    numbers = {deed: load.submitted(world, load.different(world.good), title=deed) for deed in DEEDS}
    good = load.submit_many(world, 3)
    wait_until(lambda: load.settled([*numbers.values(), *good]), seconds=240, what="An end for each")
    print("A sandboxed child that ...")
    for deed, number in numbers.items():
        run = Run.objects.filter(subject_id=number, kind=Run.Kind.VALIDATE).latest("pk")
        found = (run.status, run.code)
        figure(deed, f"{run.status}, {run.code}, {run.attempt}", met=found == DEEDS[deed].end, goal=DEEDS[deed].end[0])
    ended = [Contribution.objects.get(pk=number).status for number in good]
    figure("good ones beside them", str(ended), met=ended == ["review"] * 3, goal="all in review")
    after = (site.pid(NAME), _place())
    figure("worker and its child are the same processes", str(after == before), met=after == before, goal="unchanged")
    site.hold(NAME)
    site.release("worker-cpu")
    connection.close()


def _place() -> int | None:
    """Return the number of the process in which the worker executes runs."""
    try:
        return Worker.objects.filter(name__startswith=f"{NAME}@", stopped_at=None).values_list("pid", flat=True).first()
    finally:
        connection.close()
