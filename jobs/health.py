"""What is wrong with the site, in words: each finding says what happens, to what, and what to do next."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Exists, Max, Min, OuterRef, Q
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext as _

from contributions import deletion, holds, incidents, room
from contributions.models import Contribution
from jobs import estimates, fixity, workers
from jobs.lifecycle import ACTIVE, Status
from jobs.models import Beat, Run, Worker
from portal import malware, storage
from portal.audit.models import AuditEvent, AuditLeaf, AuditPending, Checkpoint
from portal.celery import app
from portal.notifications.lifecycle import State
from portal.notifications.models import OutboxMessage

SCHEDULER_LATE = timedelta(seconds=90)
OUTBOX_LATE = timedelta(minutes=10)
LOG_LATE = timedelta(minutes=5)
LATE_DELETION = timedelta(days=1)  # it comes each hour
DISK_LOW_BYTES = 20 * 2**30
STUCK_SHARE = 0.5  # of the time without progress that a run may have


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `tone`: "bad" where work stands still, "warn" where it soon may."""

    code: str
    tone: str
    sentence: str
    remedy: str
    url: str = ""


def note_beat(name: str, *, now: datetime) -> None:
    """Note that a periodic task has run."""
    Beat.objects.update_or_create(name=name, defaults={"at": now})


def findings(*, now: datetime) -> list[Finding]:
    """Return everything that is wrong, the worst first."""
    looks: list[Callable[..., Iterator[Finding]]] = [
        _broker, _store, _scanner, _scheduler, _queues, _silent, _draining, _waiting, _stuck, _parked, _outbox, _log,
        _disks, _quotas, _damaged, _kept,
    ]  # fmt: skip
    found = [finding for look in looks for finding in look(now=now)]
    return sorted(found, key=lambda finding: finding.tone != "bad")


def _broker(*, now: datetime) -> Iterator[Finding]:
    try:
        with app.connection_for_write(connect_timeout=2, transport_options={"max_retries": 0}) as link:
            link.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
    except Exception:
        yield Finding(
            "broker_away",
            "bad",
            _("The message broker does not answer: new runs wait, and pages do not refresh by themselves."),
            _("Start Valkey (or RabbitMQ) again. Nothing is lost: the sweep sends the messages again."),
        )


def _store(*, now: datetime) -> Iterator[Finding]:
    try:
        storage.size(storage.VAULT, "health")
    except storage.Unavailable:
        yield Finding(
            "store_away",
            "bad",
            _("The object store does not answer: uploads, downloads and checks stand still."),
            _("Start it again. Runs that were reading are tried again by themselves; uploads go on."),
        )


def _scanner(*, now: datetime) -> Iterator[Finding]:
    try:
        malware.scanner()
    except malware.Unavailable:
        yield Finding(
            "scanner_away",
            "bad",
            _("The malware scanner does not answer: what arrives waits for it."),
            _("Start clamd at %(address)s again and see that its StreamMaxLength is at least 25M.")
            % {"address": settings.CLAMD_ADDRESS},
        )


def _scheduler(*, now: datetime) -> Iterator[Finding]:
    beat = Beat.objects.filter(name="sweep").first()
    if beat is None or beat.at < now - SCHEDULER_LATE:
        yield Finding(
            "scheduler_missing",
            "bad",
            _("The scheduler has done nothing for 90 seconds: lost runs are not found, and mail waits.")
            if beat
            else _("The scheduler has never run."),
            _("Start Celery's beat, and the worker of the queue “sweep”."),
        )


def _queues(*, now: datetime) -> Iterator[Finding]:
    living = workers.living(now=now).filter(draining_at=None)
    for queue in Run.Queue.values:
        if not living.filter(queues__contains=[queue]).exists():
            waiting = Run.objects.filter(queue=queue, status=Status.QUEUED).count()
            yield Finding(
                f"no_worker_{queue}",
                "bad" if waiting else "warn",
                _("No worker serves the queue “%(queue)s”; %(waiting)s runs wait in it.")
                % {"queue": queue, "waiting": waiting},
                _("Start one: celery -A portal.celery worker -Q %(queue)s -n %(queue)s@%%h") % {"queue": queue},
                reverse("jobs:workers"),
            )


def _silent(*, now: datetime) -> Iterator[Finding]:
    gone = Worker.objects.filter(stopped_at=None, seen_at__lt=now - workers.SILENT_AFTER)
    for worker in gone.filter(seen_at__gt=now - timedelta(days=1)):
        yield Finding(
            "worker_silent",
            "warn",
            _("The worker %(worker)s has been silent since %(at)s UTC.")
            % {"worker": worker, "at": f"{worker.seen_at:%d %b, %H:%M:%S}"},
            _("Look at its machine. What it held is given to another worker within 45 seconds."),
            reverse("jobs:workers"),
        )


def _draining(*, now: datetime) -> Iterator[Finding]:
    for worker in workers.living(now=now).filter(draining_at__lt=now - timedelta(hours=1)):
        yield Finding(
            "worker_draining",
            "warn",
            _("The worker %(worker)s has been draining for more than an hour.") % {"worker": worker},
            _("Stop it once it is idle, or let it take runs again."),
            reverse("jobs:workers"),
        )


def _waiting(*, now: datetime) -> Iterator[Finding]:
    asks = ("queue", "gpu_count", "gpu_type", "gpu_memory_bytes")  # one look for all that ask for the same
    for run in Run.objects.filter(status=Status.QUEUED, gpu_count__gt=0).order_by(*asks, "pk").distinct(*asks):
        if problem := estimates.place(run, now=now).problem:
            yield Finding(
                "no_capacity",
                "warn",
                f"{run}: {problem}",
                _("Add such a worker, or start the run again asking for less."),
                run.get_absolute_url(),
            )


def stuck(*, now: datetime) -> list[Run]:
    """Return the runs at work that have told nothing for half the time after which they are ended."""
    active = Run.objects.filter(status__in=ACTIVE, started_at__isnull=False)
    rows = active.annotate(told_at=Coalesce("progress_at", "started_at")).order_by("told_at")
    return [run for run in rows if (now - run.told_at).total_seconds() > STUCK_SHARE * run.stall_seconds]


def _stuck(*, now: datetime) -> Iterator[Finding]:
    for run in stuck(now=now):
        yield Finding(
            "run_stuck",
            "warn",
            _("%(run)s has made no progress for a long time.") % {"run": run},
            _("Read its log. It is ended by itself at its limit; cancel it if you know better."),
            run.get_absolute_url(),
        )


def parked() -> int:
    """Return how many subjects wait for a person, since a fault or an operator ended their last run."""
    later = Run.objects.filter(kind=OuterRef("kind"), subject_id=OuterRef("subject_id"), pk__gt=OuterRef("pk"))
    waiting = Contribution.objects.filter(stalled_at__isnull=False).values("pk")
    stopped = [Status.FAILED_PLATFORM, Status.TIMED_OUT]
    checks = Q(kind=Run.Kind.VALIDATE, status__in=[*stopped, Status.CANCELLED], subject_id__in=waiting)
    return Run.objects.filter(checks | Q(~Q(kind=Run.Kind.VALIDATE), status__in=stopped), ~Exists(later)).count()


def _parked(*, now: datetime) -> Iterator[Finding]:
    if count := parked():
        yield Finding(
            "runs_parked",
            "warn",
            _("%(count)s runs, stopped by faults of the platform or cancelled, wait for a person.") % {"count": count},
            _("Read why, mend it, and start them again. No site is to blame, and none is asked for anything."),
            reverse("jobs:list"),
        )


def _outbox(*, now: datetime) -> Iterator[Finding]:
    late = OutboxMessage.objects.filter(state=State.PENDING, created_at__lt=now - OUTBOX_LATE)
    totals = late.aggregate(count=Count("pk"), oldest=Min("created_at"))
    if totals["count"]:
        yield Finding(
            "outbox_growing",
            "warn",
            _("%(count)s messages have waited for more than ten minutes, the oldest since %(at)s UTC.")
            % {"count": totals["count"], "at": f"{totals['oldest']:%d %b, %H:%M}"},
            _("Look at the mail server and at the last error in the outbox."),
            reverse("outbox:list"),
        )


def _log(*, now: datetime) -> Iterator[Finding]:
    """Look for events outside the tree, and for those that no checkpoint covers: an old copy that was restored."""
    pending = AuditPending.objects.values("event_id")
    unsigned = AuditLeaf.objects.filter(index__gte=Checkpoint.objects.aggregate(n=Max("size"))["n"] or 0)
    events, signs_within = AuditEvent.objects, timedelta(seconds=settings.AUDIT_CHECKPOINT_SECONDS)
    behind = events.filter(pk__in=pending, at__lt=now - LOG_LATE).count()
    behind += events.filter(pk__in=unsigned.values("event_id"), at__lt=now - LOG_LATE - signs_within).count()
    if behind:
        yield Finding(
            "log_behind",
            "warn",
            _("%(count)s events are under no checkpoint of the verifiable log after five minutes.") % {"count": behind},
            _("The worker of the queue “sweep” writes them; read its log and see whether both it and the store run."),
        )


def _disks(*, now: datetime) -> Iterator[Finding]:
    for worker in workers.living(now=now).filter(disk_free_bytes__lt=DISK_LOW_BYTES):
        yield Finding(
            "disk_low",
            "warn",
            _("The disk of %(worker)s has %(free)s GiB left.")
            % {"worker": worker, "free": f"{worker.disk_free_bytes / 2**30:.0f}"},
            _("Make room in %(folder)s: cache/ can be emptied at any time.") % {"folder": settings.DATA_DIR},
            reverse("jobs:workers"),
        )


def _quotas(*, now: datetime) -> Iterator[Finding]:
    for row in room.rooms():
        if row.is_nearly_full:
            yield Finding(
                "quota_nearly_full",
                "warn",
                _("%(name)s has used %(used)s GiB of its storage.")
                % {"name": row.institution, "used": f"{row.used_bytes / 2**30:.0f}"},
                _("Ask them to withdraw what is superseded, or to ask for more room."),
                reverse("contributions:room", args=[row.slug]),
            )
    for asked in room.waiting().filter(asked_at__lt=now - room.ANSWER_WITHIN):
        yield Finding(
            "room_request_waits",
            "warn",
            _("%(name)s has waited for an answer to its request for more room since %(day)s.")
            % {"name": asked.institution, "day": f"{asked.asked_at:%d %b %Y}"},
            _("Grant it or decline it."),
            reverse("contributions:room_decide", args=[asked.institution.slug, asked.pk]),
        )


def _kept(*, now: datetime) -> Iterator[Finding]:
    late = list(deletion.due(now=now - LATE_DELETION))
    if late:
        yield Finding(
            "files_kept_too_long",
            "bad",
            _("The files of %(count)s closed contributions should have been deleted a day ago or earlier.")
            % {"count": len(late)},
            _("The log of the workers of the queue “cpu” says why; it is tried again each hour."),
            late[0].get_absolute_url(),
        )
    for hold in holds.current().filter(placed_at__lt=now - holds.LOOK_AGAIN_AFTER):
        yield Finding(
            "hold_is_old",
            "warn",
            _("The files of %(contribution)s have been held back from deletion since %(day)s.")
            % {"contribution": hold.contribution, "day": f"{hold.placed_at:%d %b %Y}"},
            _("Ask whether they are still needed, and release them if they are not."),
            hold.contribution.get_absolute_url(),
        )
    late_for = {"placed_at__lt": now - incidents.LOOK_AGAIN_AFTER, "deletion_ordered_at": None}
    for row in incidents.current().filter(**late_for):
        yield Finding(
            "isolation_is_old",
            "warn",
            _("%(contribution)s has been isolated since %(day)s.")
            % {"contribution": row.contribution, "day": f"{row.placed_at:%d %b %Y}"},
            _("Have its files deleted once the incident is reported, or lift the isolation if it was a mistake."),
            row.contribution.get_absolute_url(),
        )


def _damaged(*, now: datetime) -> Iterator[Finding]:
    newest = fixity.newest(verification=True)
    if newest is not None and newest.fault_count:
        yield Finding(
            "files_damaged",
            "bad",
            _("%(count)s stored files are missing or have other bytes than were registered.")
            % {"count": newest.fault_count},
            _("Bring them back from the backup, then verify again. No worker uses a file whose hash differs."),
            reverse("ops:storage"),
        )
