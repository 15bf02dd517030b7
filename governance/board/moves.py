"""Moving a motion through its life: the one place that changes its status."""

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Max

from governance.board import lifecycle
from governance.board.conflicts import sync_recusals
from governance.board.counting import count, described, unrecused
from governance.board.lifecycle import DECIDED, UNDECIDED, Status
from governance.board.models import Decision, Motion
from portal.accounts.models import User
from portal.audit import services as audit
from portal.lifecycle import verb
from portal.live import announce
from portal.notifications.services import notify
from portal.notifications.types import Type

DECISIONS_LOCK = 0x67726664  # advisory: decision numbers of a year have no gaps, so they are given one at a time


def locked(motion: Motion) -> Motion:
    """Return the motion as it is now, locked until the transaction ends."""
    return Motion.objects.select_for_update(of=("self",)).get(pk=motion.pk)


def move(motion: Motion, target: Status, *, by: User | None, now: datetime, reason: str = "") -> Motion:
    """Change the status, with the arithmetic and a number where something is decided, and one audit event."""
    name = verb(lifecycle.TRANSITIONS, Status(motion.status), target, subject=motion)
    facts = described(motion, count(motion, now=now)) if motion.status != Status.REVIEWING else {}
    motion.status = target
    motion.closed_at = None if target in UNDECIDED else now
    if target in DECIDED:
        motion.arithmetic = facts
    if reason:
        motion.reason = reason
    motion.save(update_fields=["status", "closed_at", "arithmetic", "reason"])
    if target in DECIDED:
        facts["decision"] = str(_number(motion, now=now))
    audit.record(name, motion, by=by, **facts)
    announce(f"motion-{motion.pk}")
    return motion


def _number(motion: Motion, *, now: datetime) -> Decision:
    """Give a decided motion the next number of its year."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [DECISIONS_LOCK])
    last = Decision.objects.filter(year=now.year).aggregate(last=Max("number"))["last"] or 0
    return Decision.objects.create(motion=motion, year=now.year, number=last + 1, decided_at=now)


def open_ballot(motion: Motion, *, now: datetime) -> Motion:
    """Open the ballot of a motion that came before the board or has been reviewed, and ask those who may vote."""
    motion.closes_at = now + timedelta(days=motion.days)
    if motion.status == Status.REVIEWING:
        motion.status = Status.OPEN
        audit.record("motion.ballot_opened", motion, by=None)
    motion.save(update_fields=["status", "closes_at"])
    sync_recusals(motion, now=now)
    notify(
        unrecused(motion),
        type=Type.BALLOT,
        subject=f"Your vote: {motion.audit_name}",
        text=f"The ballot is open until {motion.closes_at:%d %B %Y, %H:%M} UTC.",
        path=motion.get_absolute_url(),
        deadline_at=motion.closes_at,
    )
    announce(f"motion-{motion.pk}")
    return motion
