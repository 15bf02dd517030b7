"""What happens to runs. Every write names the attempt it belongs to; a late one has no effect."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from jobs import ledger, lifecycle, maintenance
from jobs.lifecycle import ACTIVE, LIVE, Code, Status
from jobs.models import Run, RunEvent, Worker
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.lifecycle import verb
from portal.live import announce
from portal.queue import enqueue

LEASE = timedelta(seconds=30)
MAX_FAULTS = 3
BACK_OFF = timedelta(seconds=10)  # after the first fault, twice that after the second
BACK_OFF_OF = {Code.SCANNER_AWAY: timedelta(minutes=2)}  # one that starts reads its signatures for minutes
RING_AGAIN_AFTER = timedelta(seconds=20)  # a broker that forgot tells nobody
MOST_RINGS = 200  # of one sweep: every message is one try to claim the run that is due first
NO_FAULT = [Code.DRAINED, Code.GAVE_WAY, Code.SCANNER_AWAY]
NO_CAPACITY_AFTER = timedelta(days=1)
RETRIED = [Status.FAILED_PLATFORM, Status.CANCELLED, Status.TIMED_OUT]


@dataclass(frozen=True)
class Profile:
    """What runs of a kind get: a check is short and goes first, a training may take a week."""

    queue: str
    priority: int
    wall_seconds: int
    stall_seconds: int


PROFILES = {
    Run.Kind.VALIDATE: Profile("cpu", 10, 3600, 1200),
    Run.Kind.EVALUATE: Profile("gpu", 5, 12 * 3600, 3600),
    Run.Kind.PRETRAIN: Profile("gpu", 0, 7 * 24 * 3600, 3600),
    Run.Kind.INSPECT: Profile("cpu", -10, 7 * 24 * 3600, 3600),
}


class Superseded(Exception):
    """This attempt no longer holds the run: its lease was lost, or the run was cancelled."""


def names_of(run: Run) -> list[str]:
    """Return the names under which open pages follow a run."""
    names = [f"run-{run.pk}", "runs"]
    return [*names, f"contribution-{run.subject_id}"] if run.kind == Run.Kind.VALIDATE else names


@transaction.atomic
def queue_run(
    kind: str, subject_id: int, *, title: str, inputs: dict[str, Any], by: User | None, now: datetime, **more: Any
) -> Run:
    """
    Queue a run and ring the doorbell. A live run of the same kind on the same subject is returned as it is.

    `more`: programme and institution for the ledger, what of the kind's profile is to be different, and what it is a
    retry of. Raises OverBudget where the programme has no GPU time left this month.
    """
    profile = PROFILES[Run.Kind(kind)]
    ledger.require_budget(profile.queue, more.get("programme"), now=now)
    defaults = {
        "queue": profile.queue,
        "priority": profile.priority,
        "wall_seconds": profile.wall_seconds,
        "stall_seconds": profile.stall_seconds,
        "title": title,
        "inputs": inputs,
        "config_sha256": digest(inputs),
        "requested_by": by,
        "created_at": now,
        "status_since": now,
        "rung_at": now,
        **more,
    }
    run, created = Run.objects.get_or_create(kind=kind, subject_id=subject_id, status__in=LIVE, defaults=defaults)
    if created:
        RunEvent.objects.create(run=run, attempt=0, status=Status.QUEUED, by=by, at=now)
        facts: dict[str, Any] = {"retry_of": run.retry_of_id, "reason": run.retry_reason} if run.retry_of_id else {}
        audit.record("run.queued", run, by=by, kind=kind, subject_id=subject_id, **facts)
        ring(run)
    return run


def inputs_of_check(contribution: Contribution) -> dict[str, Any]:
    """Return what the verdicts on a contribution follow from: its files, the base and the thresholds as they stand."""
    base = contribution.base_model
    return {
        "manifest_sha256": contribution.manifest_sha256,
        "base_sha256": base.sha256 if base else "",
        "thresholds_sha256": digest(base.effective_config() if base else contribution.programme.thresholds),
        "checks": sorted(contribution.programme.checks),
    }


def digest(document: Any) -> str:
    """Return the SHA-256 of a document as canonical JSON: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def ring(run: Run) -> None:
    """Send the run's id to its queue. A message that the broker does not take is sent again by the next sweep."""

    def lost() -> None:
        Run.objects.filter(pk=run.pk).update(rung_at=None)

    enqueue("jobs.execute_run", queue=run.queue, on_lost=lost, run_id=run.pk)


def _move(
    run: Run, target: Status, *, by: User | None = None, now: datetime, note: str = "", code: str = "", **changes: Any
) -> Run:
    """Move a locked run, with its event, its audit line and, where an attempt ends, its line in the ledger."""
    before = Status(run.status)
    name = verb(lifecycle.TRANSITIONS, before, target, subject=run)
    if before in ACTIVE and target not in ACTIVE:
        ledger.write(run, now=now)
    run.status, run.status_since = target, now
    changes["code"] = code
    for field, value in changes.items():
        setattr(run, field, value)
    if before in LIVE and target not in LIVE:
        run.finished_at = now
    run.save(update_fields=["status", "status_since", "finished_at", *changes])
    RunEvent.objects.create(run=run, attempt=run.attempt, status=target, code=code, note=note, by=by, at=now)
    facts: dict[str, Any] = {"code": code} if code else {}
    audit.record(name, run, by=by, attempt=run.attempt, **facts)
    announce(*names_of(run))
    return run


@transaction.atomic
def claim(worker: Worker, *, now: datetime) -> Run | None:
    """Claim the run that is due first among those this worker can do; None where there is none."""
    worker = Worker.objects.get(pk=worker.pk)
    if worker.draining_at is not None or maintenance.is_on():
        return None
    run = due(worker, now=now).select_for_update(skip_locked=True).order_by("-priority", "pk").first()
    if run is None:
        return None
    changes: dict[str, Any] = {
        "attempt": run.attempt + 1,
        "worker": worker,
        "device": worker.device,
        "code_version": worker.version,
        "environment": {name: told for name, told in {**worker.versions, "driver": worker.driver}.items() if told},
        "lease_expires_at": now + LEASE,
        "heartbeat_at": now,
        "started_at": None,
        "progress_done": 0,
        "progress_total": 0,
        "progress_text": "",
        "progress_at": None,
        "error": "",
    }
    return _move(run, Status.LEASED, now=now, note=f"claimed by {worker}", **changes)


def fitting(worker: Worker) -> Any:
    """Return the waiting runs of the worker's queues that ask for no more than it has."""
    return Run.objects.filter(
        Q(gpu_type="") | Q(gpu_type=worker.gpu_type),
        status=Status.QUEUED,
        queue__in=worker.queues,
        gpu_count__lte=worker.gpu_count,
        gpu_memory_bytes__lte=worker.gpu_memory_bytes,
    )


def due(worker: Worker, *, now: datetime) -> Any:
    """Return the waiting runs that the worker could begin now."""
    return fitting(worker).filter(Q(not_before=None) | Q(not_before__lte=now))


def somebody_waits(run: Run, *, now: datetime) -> bool:
    """Test if a run of a higher priority waits that the worker of this one could begin."""
    return run.worker is not None and due(run.worker, now=now).filter(priority__gt=run.priority).exists()


def able(run: Run) -> Any:
    """Return the workers, dead or alive, that have what the run asks for."""
    rows = Worker.objects.filter(
        queues__contains=[run.queue], gpu_count__gte=run.gpu_count, gpu_memory_bytes__gte=run.gpu_memory_bytes
    )
    return rows.filter(gpu_type=run.gpu_type) if run.gpu_type else rows


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


def move(run: Run, target: Status, *, now: datetime, note: str = "", code: str = "", **changes: Any) -> None:
    """Move a run that this attempt holds."""
    with fenced(run) as held:
        _move(held, target, now=now, note=note, code=code, **changes)


def succeed(run: Run, *, result_sha256: str = "", now: datetime) -> None:
    """Move a run that this attempt holds to its good end; called in the transaction that stores its results."""
    move(run, Status.FINALISING, now=now)
    move(run, Status.SUCCEEDED, now=now, result_sha256=result_sha256)


def renew(run: Run, *, now: datetime) -> None:
    """Renew the lease. Raises Superseded when the attempt has lost it."""
    held = Run.objects.filter(pk=run.pk, attempt=run.attempt, status__in=ACTIVE)
    if held.update(lease_expires_at=now + LEASE, heartbeat_at=now) == 0:
        raise Superseded(f"{run} was taken away from attempt {run.attempt}.")


def progress(run: Run, *, done: int, total: int, text: str, now: datetime) -> None:
    """Record how far the attempt is, and that it goes on."""
    held = Run.objects.filter(pk=run.pk, attempt=run.attempt, status__in=ACTIVE)
    held.update(progress_done=done, progress_total=total, progress_text=text[:200], progress_at=now)
    announce(*names_of(run))


@transaction.atomic
def cancel(run: Run, *, by: User, now: datetime, reason: str = "") -> Run:
    """
    Cancel a run: at once while it waits, within seconds while a worker holds it.

    What a check was to look at waits until an operator starts that again: else the sweep would, within seconds.
    """
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator can cancel a run.")
    run = Run.objects.select_for_update().get(pk=run.pk)
    if run.status == Status.QUEUED:
        _release_subject(run, now=now, stall=True)
        return _move(run, Status.CANCELLED, by=by, now=now, code=Code.ASKED, note=reason)
    if run.status in ACTIVE and run.cancel_requested_at is None:
        run.cancel_requested_at = now
        run.save(update_fields=["cancel_requested_at"])
        audit.record("run.cancel_requested", run, by=by, attempt=run.attempt, reason=reason)
        announce(*names_of(run))
    return run


@transaction.atomic
def give_back(run: Run, *, note: str, now: datetime, code: str = Code.FAULT, at_once: bool = False) -> Run | None:
    """
    Put a run whose attempt failed through no fault of its input back in the queue, or stop after three faults.

    The contribution of a check goes back with it, in the same transaction. Unless `at_once` it waits a little: a fault
    that lasts a few seconds must not use up three attempts. A worker that was asked to stop is no fault, nor is a
    malware scanner that is away. Return None where the attempt no longer holds the run.
    """
    held = Run.objects.select_for_update().filter(pk=run.pk, attempt=run.attempt, status__in=ACTIVE).first()
    if held is None:
        return None
    faults, is_cancelled = held.faults + (code not in NO_FAULT), held.cancel_requested_at is not None
    is_last = faults >= MAX_FAULTS and not is_cancelled
    _release_subject(held, now=now, stall=is_last or is_cancelled)
    if is_cancelled:
        return _move(held, Status.CANCELLED, now=now, code=Code.ASKED)
    if is_last:
        error = f"Stopped after {faults} faults: {note} This is not your fault; an operator can start it again."
        return _move(held, Status.FAILED_PLATFORM, now=now, note=note, code=code, error=error, faults=faults)
    back_off = BACK_OFF_OF.get(Code(code), BACK_OFF * 2 ** max(0, faults - 1))
    waits: dict[str, Any] = {"not_before": None if at_once else now + back_off, "faults": faults}
    held = _move(
        held, Status.QUEUED, now=now, note=note, code=code, lease_expires_at=None, worker=None, rung_at=None,
        started_at=None, **waits,
    )  # fmt: skip
    if at_once:
        Run.objects.filter(pk=held.pk).update(rung_at=now)
        ring(held)
    return held


@transaction.atomic
def time_out(run: Run, *, code: str, error: str, now: datetime) -> None:
    """End an attempt that took too long or stood still; what it worked on is free again, and a person decides."""
    with fenced(run) as held:
        _release_subject(held, now=now, stall=True)
        _move(held, Status.TIMED_OUT, now=now, code=code, error=error)


def _release_subject(run: Run, *, now: datetime, stall: bool) -> None:
    """Put the contribution that a check held back in its queue; with `stall`, until an operator starts it again."""
    subject = Contribution.objects.select_for_update().filter(pk=run.subject_id if run.kind == Run.Kind.VALIDATE else 0)
    status = subject.values_list("status", flat=True).first()  # locked: nobody withdraws it meanwhile
    if stall and status in {"submitted", "validating"}:
        contributions.stall(run.subject_id, now=now)
    elif status == "validating":
        contributions.requeue(run.subject_id, now=now)


@transaction.atomic
def mark_fault(run: Run, *, reason: str, by: User, now: datetime) -> Run:
    """
    Say that a run which refused its input did so by a fault of the platform, and start it again; return the new run.

    The contribution that a check rejected waits for its checks again, and its institution is told why.
    """
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator says that the platform was at fault.")
    run = Run.objects.select_for_update().get(pk=run.pk)
    if run.status != Status.FAILED_INPUT:
        raise NotAllowed(f"{run} is {run.get_status_display().lower()}: it did not refuse its input.")
    run = _move(run, Status.FAILED_PLATFORM, by=by, now=now, code=Code.FAULT, note=reason)
    if run.kind == Run.Kind.VALIDATE:
        contributions.reopen(run.subject_id, reason=reason, by=by, now=now)
    return retry(run, reason=reason, by=by, now=now)


def may_retry(run: Run) -> bool:
    """Test if a run can be started again: one that stopped, once, and an evaluation, to compare its result."""
    return (run.status in RETRIED and not run.retries.exists()) or (
        run.status == Status.SUCCEEDED and run.kind == Run.Kind.EVALUATE
    )


@transaction.atomic
def retry(run: Run, *, reason: str, by: User, now: datetime, **wanted: Any) -> Run:
    """
    Queue a run again with the same inputs, as a new run; `wanted` (GPUs, limits) differs from the old one.

    A check is made by the base and the thresholds of today, so these are its inputs.
    """
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator can start a run again.")
    if run.status in RETRIED and (again := run.retries.first()) is not None:
        raise NotAllowed(f"{run} was started again already, as {again}.")
    if not may_retry(run):
        raise NotAllowed(f"{run} is {run.get_status_display().lower()}; only a stopped run is started again.")
    fields = ("programme", "institution", "gpu_count", "gpu_type", "gpu_memory_bytes", "wall_seconds", "stall_seconds")
    kept = {field: getattr(run, field) for field in fields}
    more = {**kept, **wanted, "retry_of": run, "retry_reason": reason}
    inputs = run.inputs
    if run.kind == Run.Kind.VALIDATE:
        inputs = inputs_of_check(Contribution.objects.get(pk=run.subject_id))
    return queue_run(run.kind, run.subject_id, title=run.title, inputs=inputs, by=by, now=now, **more)


def overdue(*, now: datetime) -> list[Run]:
    """Return the runs whose worker has gone silent for longer than its lease."""
    return list(Run.objects.filter(status__in=ACTIVE, lease_expires_at__lt=now))


def ring_waiting(*, now: datetime) -> None:
    """Send messages for waiting runs again: at once where the broker took none, else each 20 seconds."""
    due = Q(rung_at=None) | Q(rung_at__lt=now - RING_AGAIN_AFTER)
    waiting = Run.objects.filter(due, Q(not_before=None) | Q(not_before__lte=now), status=Status.QUEUED)
    rows = list(waiting.order_by("-priority", "pk")[:MOST_RINGS])
    Run.objects.filter(pk__in=[run.pk for run in rows]).update(rung_at=now)  # before: a message not taken takes it back
    for run in rows:
        ring(run)


def end_hopeless(*, now: datetime) -> None:
    """Stop the runs that have waited a day for what no worker has had in that day."""
    for run in Run.objects.filter(status=Status.QUEUED, status_since__lt=now - NO_CAPACITY_AFTER):
        if not able(run).filter(seen_at__gt=now - NO_CAPACITY_AFTER).exists():
            _end_hopeless(run.pk, now=now)


@transaction.atomic
def _end_hopeless(run_id: int, *, now: datetime) -> None:
    run = Run.objects.select_for_update().filter(pk=run_id, status=Status.QUEUED).first()
    if run is not None:
        error = "No worker has had what it asks for in a day. Add one, or start the run again asking for less."
        _move(run, Status.FAILED_PLATFORM, now=now, code=Code.NO_CAPACITY, error=error)
        _release_subject(run, now=now, stall=True)


def now() -> datetime:
    """Return the time; workers are an edge, where the clock is read."""
    return timezone.now()
