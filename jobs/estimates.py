"""When a waiting run begins: how many stand before it, how long such runs take, how many workers there are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from django.db.models import F, Q

from jobs import services, workers
from jobs.lifecycle import ACTIVE, Status
from jobs.models import Run

HISTORY = 20  # of each kind, the newest


@dataclass(frozen=True)
class Place:
    """
    Where a waiting run stands. `position`: runs that go first. `starts_in`: None where nothing can be said yet.

    `problem` is a sentence where no worker that lives could do it.
    """

    position: int
    starts_in: timedelta | None
    problem: str = ""


def before(run: Run) -> Q:
    """Return the condition for the waiting runs that go before this one in its queue."""
    earlier = Q(priority__gt=run.priority) | Q(priority=run.priority, pk__lt=run.pk)
    return earlier & Q(queue=run.queue, status=Status.QUEUED)


def place(run: Run, *, now: datetime) -> Place:
    """Return where a waiting run stands."""
    ahead = list(Run.objects.filter(before(run)).values_list("kind", flat=True))
    living = workers.living(now=now).filter(pk__in=services.able(run).values("pk"), draining_at=None)
    if not living:
        return Place(len(ahead), None, _problem(run))
    active = list(Run.objects.filter(status__in=ACTIVE, worker__in=living).values_list("kind", "started_at"))
    usual = {kind: usual_seconds(kind) for kind in {*ahead, *(kind for kind, _ in active)}}
    left = [_left(usual[kind], started_at, now) for kind, started_at in active]
    waits = [*left, *(usual[kind] for kind in ahead)]
    if any(seconds is None for seconds in waits):
        return Place(len(ahead), None)
    if len(waits) < len(living):  # one of them is free
        return Place(len(ahead), timedelta(0))
    return Place(len(ahead), timedelta(seconds=sum(seconds or 0.0 for seconds in waits) / len(living)))


def _left(usual: float | None, started_at: datetime | None, now: datetime) -> float | None:
    if usual is None or started_at is None:
        return usual
    return max(0.0, usual - (now - started_at).total_seconds())


def usual_seconds(kind: str) -> float | None:
    """Return the median time at work of the newest runs of a kind that came to an end by themselves."""
    ended = Run.objects.filter(kind=kind, status__in=[Status.SUCCEEDED, Status.FAILED_INPUT], started_at__isnull=False)
    newest = ended.order_by("-finished_at").annotate(took=F("finished_at") - F("started_at"))[:HISTORY]
    took = [run.took.total_seconds() for run in newest]
    return median(took) if took else None


def _problem(run: Run) -> str:
    if run.gpu_count:
        asked = f"{run.gpu_count} × {run.gpu_type or 'GPU'}"
        asked += f" with {run.gpu_memory_bytes / 2**30:.0f} GiB" if run.gpu_memory_bytes else ""
        return f"No worker that is running has {asked}. It begins when one comes; the operators see this too."
    return f"No worker serves the queue “{run.queue}” now. It begins when one comes; the operators see this too."
