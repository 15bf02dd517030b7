"""What happens to runs. Every write names the attempt it belongs to; a late one has no effect."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Max, Q
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from jobs import lifecycle
from jobs.lifecycle import ACTIVE, LIVE, Status
from jobs.models import Run, RunEvent, RunLog
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.lifecycle import verb
from portal.live import announce
from portal.queue import enqueue

LEASE = timedelta(seconds=30)
MAX_ATTEMPTS = 3
RESEND_AFTER = timedelta(seconds=10)
RING_AGAIN_AFTER = timedelta(minutes=1)
RETRIED = [Status.FAILED_PLATFORM, Status.CANCELLED, Status.TIMED_OUT]
QUEUES = {Run.Kind.VALIDATE: "cpu", Run.Kind.PRETRAIN: "gpu", Run.Kind.EVALUATE: "gpu"}


class Superseded(Exception):
    """This attempt no longer holds the run: its lease was lost, or the run was cancelled."""


def _names(run: Run) -> list[str]:
    names = [f"run-{run.pk}", "runs"]
    return [*names, f"contribution-{run.subject_id}"] if run.kind == Run.Kind.VALIDATE else names


@transaction.atomic
def queue_run(kind: str, subject_id: int, *, title: str, inputs: dict[str, Any], by: User | None, now: datetime) -> Run:
    """Queue a run and ring the doorbell. A live run of the same kind on the same subject is returned as it is."""
    run, created = Run.objects.get_or_create(
        kind=kind,
        subject_id=subject_id,
        status__in=LIVE,
        defaults={
            "queue": QUEUES[Run.Kind(kind)],
            "title": title,
            "inputs": inputs,
            "status": Status.QUEUED,
            "requested_by": by,
            "created_at": now,
            "status_since": now,
        },
    )
    if created:
        RunEvent.objects.create(run=run, attempt=0, status=Status.QUEUED, at=now)
        audit.record("run.queued", run, by=by, kind=kind, subject_id=subject_id)
        ring(run)
    return run


def ring(run: Run) -> None:
    """Send the run's id to its queue; the row is the truth, the message a hint."""
    enqueue("jobs.execute_run", queue=run.queue, run_id=run.pk)


def _move(run: Run, target: Status, *, by: User | None = None, now: datetime, note: str = "", **changes: Any) -> Run:
    """Move a locked run, with its event and its audit line."""
    before = Status(run.status)
    name = verb(lifecycle.TRANSITIONS, before, target, subject=run)
    run.status, run.status_since = target, now
    for field, value in changes.items():
        setattr(run, field, value)
    if target not in LIVE:
        run.finished_at = now
    run.save(update_fields=["status", "status_since", "finished_at", *changes])
    RunEvent.objects.create(run=run, attempt=run.attempt, status=target, note=note, at=now)
    audit.record(name, run, by=by, attempt=run.attempt)
    announce(*_names(run))
    return run


@transaction.atomic
def claim(run_id: int, *, worker: str, now: datetime) -> Run | None:
    """Claim a queued run for a worker, or return None when somebody else has it or it has ended."""
    run = Run.objects.select_for_update(skip_locked=True).filter(pk=run_id, status=Status.QUEUED).first()
    if run is None:
        return None
    changes: dict[str, Any] = {
        "attempt": run.attempt + 1,
        "worker": worker,
        "lease_expires_at": now + LEASE,
        "heartbeat_at": now,
        "progress_done": 0,
        "progress_total": 0,
        "progress_text": "",
    }
    return _move(run, Status.LEASED, now=now, note=f"claimed by {worker}", **changes)


@contextmanager
def fenced(run: Run) -> Iterator[Run]:
    """
    Open a transaction in which `run` is locked and still held by this attempt: a result is written only here.

    Raises:
        Superseded: the attempt no longer holds the run.
    """
    with transaction.atomic():
        held = Run.objects.select_for_update().filter(pk=run.pk, attempt=run.attempt, status__in=ACTIVE).first()
        if held is None:
            raise Superseded(f"{run} was taken away from attempt {run.attempt}.")
        yield held
        run.refresh_from_db()


def move(run: Run, target: Status, *, now: datetime, note: str = "", **changes: Any) -> None:
    """Move a run that this attempt holds."""
    with fenced(run) as held:
        _move(held, target, now=now, note=note, **changes)


def renew(run: Run, *, now: datetime) -> None:
    """Renew the lease. Raises Superseded when the attempt has lost it or somebody asked to cancel."""
    held = Run.objects.filter(pk=run.pk, attempt=run.attempt, status__in=ACTIVE, cancel_requested_at__isnull=True)
    if held.update(lease_expires_at=now + LEASE, heartbeat_at=now) == 0:
        raise Superseded(f"{run} was taken away from attempt {run.attempt}.")


def progress(run: Run, *, done: int, total: int, text: str) -> None:
    """Record how far the attempt is."""
    held = Run.objects.filter(pk=run.pk, attempt=run.attempt, status__in=ACTIVE)
    held.update(progress_done=done, progress_total=total, progress_text=text[:200])
    announce(*_names(run))


@transaction.atomic
def log(run: Run, text: str) -> None:
    """Write one line of the run's log, then announce it."""
    Run.objects.select_for_update().get(pk=run.pk)
    last = RunLog.objects.filter(run=run).aggregate(last=Max("seq"))["last"] or 0
    RunLog.objects.create(run=run, seq=last + 1, attempt=run.attempt, text=text[:1000])
    announce(*_names(run))


@transaction.atomic
def cancel(run: Run, *, by: User, now: datetime) -> Run:
    """Cancel a run: at once while it waits, within a heartbeat while a worker holds it."""
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator can cancel a run.")
    run = Run.objects.select_for_update().get(pk=run.pk)
    if run.status == Status.QUEUED:
        return _move(run, Status.CANCELLED, by=by, now=now)
    if run.status in ACTIVE and run.cancel_requested_at is None:
        run.cancel_requested_at = now
        run.save(update_fields=["cancel_requested_at"])
        audit.record("run.cancel_requested", run, by=by, attempt=run.attempt)
        announce(*_names(run))
    return run


@transaction.atomic
def give_back(run: Run, *, note: str, now: datetime, at_once: bool = False) -> Run | None:
    """
    Put a run whose attempt failed through no fault of its input back in the queue, or stop after three attempts.

    The contribution of a check goes back with it, in the same transaction. Unless `at_once`, the sweep rings: a fault
    that lasts a few seconds must not use up three attempts. Return None where the attempt no longer holds the run.
    """
    held = Run.objects.select_for_update().filter(pk=run.pk, attempt=run.attempt, status__in=ACTIVE).first()
    if held is None:
        return None
    _release_subject(held, now=now)
    if held.cancel_requested_at is not None:
        return _move(held, Status.CANCELLED, now=now)
    if held.attempt >= MAX_ATTEMPTS:
        error = f"Stopped after {MAX_ATTEMPTS} attempts: {note} This is not your fault; an operator can start it again."
        return _move(held, Status.FAILED_PLATFORM, now=now, note=note, error=error)
    held = _move(held, Status.QUEUED, now=now, note=note, lease_expires_at=None, worker="")
    if at_once:
        ring(held)
    return held


def _release_subject(run: Run, *, now: datetime) -> None:
    """Put the contribution that a lost check held back in its queue."""
    if run.kind == Run.Kind.VALIDATE and Contribution.objects.filter(pk=run.subject_id, status="validating").exists():
        contributions.requeue(run.subject_id, now=now)


@transaction.atomic
def retry(run: Run, *, by: User, now: datetime) -> Run:
    """Queue a stopped run again, with the same inputs, as a new run."""
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator can start a run again.")
    if run.status not in RETRIED:
        raise NotAllowed(f"{run} is {run.get_status_display().lower()}; only a stopped run is started again.")
    return queue_run(run.kind, run.subject_id, title=run.title, inputs=run.inputs, by=by, now=now)


def overdue(*, now: datetime) -> list[Run]:
    """Return the runs whose worker has gone silent for longer than its lease."""
    return list(Run.objects.filter(status__in=ACTIVE, lease_expires_at__lt=now))


def ring_waiting(*, now: datetime) -> None:
    """Send the messages of queued runs again that may have been lost: after 10 seconds, then once a minute."""
    rung_lately = Q(heartbeat_at__gt=now - RING_AGAIN_AFTER) & Q(heartbeat_at__gt=F("status_since"))
    for run in Run.objects.filter(status=Status.QUEUED, status_since__lt=now - RESEND_AFTER).exclude(rung_lately):
        Run.objects.filter(pk=run.pk, status=Status.QUEUED).update(heartbeat_at=now)
        ring(run)


def position(run: Run) -> int:
    """Return how many runs stand before this one in its queue."""
    return Run.objects.filter(queue=run.queue, status=Status.QUEUED, pk__lt=run.pk).count()


def counts() -> dict[str, int]:
    """Return how many runs are queued, active, succeeded and stopped."""
    found = dict(Run.objects.values_list("status").annotate(n=Count("pk")))
    groups = {"queued": [Status.QUEUED], "active": ACTIVE, "succeeded": [Status.SUCCEEDED]}
    totals = {name: sum(found.get(status, 0) for status in group) for name, group in groups.items()}
    return {**totals, "stopped": sum(found.values()) - sum(totals.values())}


def now() -> datetime:
    """Return the time; workers are an edge, where the clock is read."""
    return timezone.now()
