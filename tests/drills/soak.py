"""Many jobs, some hostile, for long: the worker does not grow; nothing is lost, done twice, stuck or left behind."""

import psutil

from tests.drills import load
from tests.drills.report import counted, figure
from tests.drills.site import DIED, Site, wait_until

WORKER = "worker-cpu"
BATCH = 40  # a multiple of twenty


def soak(site: Site, world: load.World, *, jobs: int) -> None:
    """Check `jobs` contributions, one in twenty hostile, in batches."""
    numbers = load.submit_many(world, 20, hostile_every=20, drawing_every=10)  # what is loaded once is loaded now
    wait_until(lambda: load.settled(numbers), seconds=load.PATIENCE_SECONDS, what="The end of every check")
    first, began = _memory(site), _processes(site)
    while len(numbers) < jobs:
        numbers += _checked(world, min(BATCH, jobs - len(numbers)))
    last = _memory(site)
    growth = last / first - 1
    print(f"{jobs} jobs, one in twenty hostile")
    figure("memory of worker and child", f"{first / 2**20:.0f} to {last / 2**20:.0f} MiB")
    figure("growth", f"{100 * growth:+.1f} %", met=growth <= 0.10, goal="10 %")
    counted(load.count(numbers), contributions=len(numbers))
    stuck = len(load.held())
    figure("stuck", str(stuck), met=stuck == 0, goal="0")
    zombies = _zombies(site)
    figure("zombies", str(zombies), met=zombies == 0, goal="0")
    figure("the same worker process", str(began == _processes(site)), met=began == _processes(site))


def _checked(world: load.World, count: int) -> list[int]:
    """Return a batch of contributions once all are decided."""
    batch = load.submit_many(world, count, hostile_every=20, drawing_every=25)
    wait_until(lambda: load.settled(batch), seconds=60 + 10 * count, what="The end of a batch")
    return batch


def _family(site: Site) -> list[psutil.Process]:
    worker = psutil.Process(site.pid(WORKER))
    return [worker, *worker.children(recursive=True)]


def _memory(site: Site) -> int:
    """Return what worker and pool child hold, pages shared by both counted once for each sharer's part (PSS)."""
    return sum(process.memory_full_info().pss for process in _family(site))


def _processes(site: Site) -> list[int]:
    return [process.pid for process in _family(site)][:2]


def _zombies(site: Site) -> int:
    count = 0
    for process in psutil.Process().children(recursive=True):
        try:
            count += process.status() == psutil.STATUS_ZOMBIE
        except DIED:
            continue
    return count
