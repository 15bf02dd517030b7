"""The ledger of what runs have used, by programme and institution, and the budgets of programmes that bound it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, Sum

from jobs.models import Budget, Run, Usage
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions.models import Institution
from portal.programmes.models import Programme

Account = tuple[int, int | None]  # a programme, as a whole or of it one institution, by number


class OverBudget(DomainError):
    """The GPU time of this month is used up."""

    code = "over_budget"


def write(run: Run, *, now: datetime) -> None:
    """Write what the attempt that ends now has used; one that never began used nothing."""
    if run.started_at is None or run.worker is None:
        return
    seconds = max(0.0, (now - run.started_at).total_seconds())
    # A worker tells what its machine has; a check, in its sandbox on the CPU, uses none of that.
    gpus = max(run.gpu_count, 1) if run.queue == Run.Queue.GPU and run.worker.gpu_count else 0
    Usage.objects.create(
        run=run,
        attempt=run.attempt,
        programme=run.programme,
        institution=run.institution,
        device=run.worker.device,
        seconds=seconds,
        gpu_seconds=seconds * gpus,
        ended_at=now,
    )


def month_of(now: datetime) -> datetime:
    """Return the first moment of the month, UTC."""
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def used(programme: Programme, *, now: datetime) -> float:
    """Return the GPU-seconds that a programme has used this month."""
    rows = Usage.objects.filter(programme=programme, ended_at__gte=month_of(now))
    return rows.aggregate(total=Sum("gpu_seconds"))["total"] or 0.0


def require_budget(queue: str, programme: Programme | None, *, now: datetime) -> None:
    """
    Raise OverBudget where a run on a GPU would begin with nothing left. Checks, on CPUs, are never refused.

    What is at work counts once it ends: a budget stops the next run, never one in the middle.
    """
    if queue != Run.Queue.GPU or programme is None:
        return
    budget = Budget.objects.filter(programme=programme).first()
    if budget is not None and used(programme, now=now) >= budget.gpu_seconds:
        raise OverBudget(
            f"The {budget.gpu_seconds / 3600:,.1f} GPU-hours of {programme} for this month are used up. Wait for the "
            "next month, or set a larger budget in the ledger of machine time."
        )


@transaction.atomic
def set_budget(programme: Programme, *, gpu_seconds: int | None, by: User, now: datetime) -> None:
    """Set, change or (None) lift a budget."""
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator sets a budget.")
    if gpu_seconds is None:
        Budget.objects.filter(programme=programme).delete()
    else:
        Budget.objects.update_or_create(programme=programme, defaults={"gpu_seconds": gpu_seconds, "set_at": now})
    audit.record("budget.set", programme, by=by, gpu_seconds=gpu_seconds)


@dataclass(frozen=True)
class Line:
    """What a programme, and an institution in it, used this month; a budget is of a whole programme, or None."""

    programme: str
    institution: str
    attempts: int
    seconds: float
    gpu_seconds: float
    budget: int | None

    @property
    def share(self) -> float | None:
        """How much of the budget is used, from 0 to 1 and beyond."""
        return self.gpu_seconds / self.budget if self.budget else None


def lines(*, now: datetime) -> list[Line]:
    """Return the ledger of this month: each programme as a whole, then its institutions."""
    rows = Usage.objects.filter(ended_at__gte=month_of(now), programme__isnull=False).order_by()
    sums = {"attempts": Count("pk"), "seconds": Sum("seconds"), "gpu": Sum("gpu_seconds")}
    found: dict[Account, dict[str, Any]] = {}
    for whole in rows.values("programme").annotate(**sums):
        found[whole["programme"], None] = dict(whole)
    for site in rows.filter(institution__isnull=False).values("programme", "institution").annotate(**sums):
        found[site["programme"], site["institution"]] = dict(site)
    budgets: dict[Account, int] = {(row.programme_id, None): row.gpu_seconds for row in Budget.objects.all()}
    nothing = {"attempts": 0, "seconds": 0.0, "gpu": 0.0}
    return [
        Line(*names, row["attempts"], row["seconds"], row["gpu"], budgets.get(key))
        for names, key in _named({*found, *budgets})
        for row in [found.get(key, nothing)]
    ]


def _named(accounts: set[Account]) -> list[tuple[tuple[str, str], Account]]:
    """Return each with its names and in their order; two hospitals may have one name."""
    programmes = Programme.objects.in_bulk({programme for programme, _ in accounts})
    sites = Institution.objects.in_bulk({site for _, site in accounts if site is not None})
    pairs = [((programmes[one].name, sites[two].name if two else ""), (one, two)) for one, two in accounts]
    return sorted(pairs, key=lambda pair: (*pair[0], pair[1][0], pair[1][1] or 0))
