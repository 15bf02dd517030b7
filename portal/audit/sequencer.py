"""
Puts events into the Merkle tree, after their transactions, and publishes signed checkpoints of it.

One writer at a time (advisory lock); whoever else comes does nothing. The hashing is the database's own
(migrations/_tree.py). Source: RFC 6962, section 2.1; c2sp.org/tlog-checkpoint.
"""

import base64
import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from portal import signing, storage
from portal.audit import tree
from portal.audit.models import Checkpoint

logger = logging.getLogger(__name__)
LOCK = 6962  # advisory locks of PostgreSQL are numbers; this is the sequencer's
BATCH = 500  # events in one transaction
ADD_LEAVES = """
    INSERT INTO audit_auditleaf (index, event_id, hash)
    SELECT %(size)s + row_number() OVER (ORDER BY event.id) - 1, event.id, audit_leaf_hash(event)
    FROM audit_auditevent event
    WHERE event.id IN (SELECT event_id FROM audit_auditpending ORDER BY event_id LIMIT %(batch)s)
    ORDER BY event.id
"""


class Forked(Exception):
    """The bucket holds a checkpoint of this size with another root: the log was rewritten, or an old copy restored."""


def run(*, now: datetime) -> None:
    """Sequence all that waits, with a checkpoint whenever one is due. While the store is down only checkpoints wait."""
    going_on = True
    while going_on:
        going_on = sequence() == BATCH
        try:
            publish(now=now)
        except storage.Unavailable:
            logger.warning("The object store did not take a checkpoint of the log; the next run tries again.")
        except Forked:
            logger.exception("The log cannot be published.")


def sequence() -> int:
    """Add a batch of waiting events to the tree: all of it or nothing. Returns how many; 0 while another is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if cursor.fetchone() == (False,):
            return 0
        cursor.execute(ADD_LEAVES, {"size": tree.size(), "batch": BATCH})
        return cursor.rowcount


def publish(*, now: datetime) -> Checkpoint | None:
    """
    Write a checkpoint that is due: first into the bucket, then as a row, so that none that is seen can be taken back.

    Raises:
        Forked: the bucket has another tree of this size.
        storage.Unavailable: the store is down; nothing is written.
    """
    size, last = tree.size(), Checkpoint.objects.first()
    if not _is_due(size, last, now=now):
        return None
    root = tree.root(size)
    text = f"{settings.AUDIT_ORIGIN}\n{size}\n{base64.b64encode(root).decode()}\n"
    note = _keep(size, text, now=now)
    return _record(Checkpoint(size=size, root=root, note=note, at=now))


def _is_due(size: int, last: Checkpoint | None, *, now: datetime) -> bool:
    if last is None:
        return size > 0
    waited = (now - last.at).total_seconds() >= settings.AUDIT_CHECKPOINT_SECONDS
    return size - last.size >= settings.AUDIT_CHECKPOINT_EVENTS or waited and size > last.size


def key_of(size: int) -> str:
    """Return where the checkpoint of a size lies in the bucket."""
    return f"checkpoints/{settings.AUDIT_ORIGIN}/{size:012}"


def _keep(size: int, text: str, *, now: datetime) -> str:
    """Return the note as it lies in the bucket: this one, or that of a run that was cut off before its row."""
    note = signing.sign_note(text, name=settings.AUDIT_ORIGIN)
    until = now + timedelta(days=settings.AUDIT_RETENTION_DAYS)
    where = storage.RELEASES, key_of(size)
    if storage.put_once(*where, note.encode(), retain_until=until, content_type="text/plain; charset=utf-8"):
        return note
    kept = storage.get(*where).decode()
    if not kept.startswith(f"{text}\n"):
        raise Forked(f"The checkpoint of {size} events in the bucket is not that of this database: {kept!r}.")
    return kept


@transaction.atomic
def _record(checkpoint: Checkpoint) -> Checkpoint | None:
    """Add the row, unless another run was faster."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    if Checkpoint.objects.filter(size__gte=checkpoint.size).exists():
        return None
    checkpoint.save(force_insert=True)
    return checkpoint
