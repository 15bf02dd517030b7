"""Writing and reading the audit log."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import connection, models
from django.utils import timezone

from portal.audit.models import AuditEvent
from portal.audit.verbs import SENTENCES


def record(
    verb: str, subject: models.Model, *, by: AbstractBaseUser | None, institution_id: int | None = None, **facts: Any
) -> AuditEvent:
    """
    Write that `by` did `verb` to `subject`; called by services only.

    `by` None means the system. Secrets and file contents never enter `facts`; digests may.

    Raises:
        RuntimeError: outside a transaction, where the event could outlive a change that failed.
        KeyError: a verb without a sentence in `portal.audit.verbs`.
    """
    if not connection.in_atomic_block:
        raise RuntimeError(f"Audit event {verb} outside a transaction.")
    SENTENCES[verb]
    return AuditEvent.objects.create(
        at=timezone.now(),
        actor_id=by.pk if by else None,
        actor=str(by) if by else "system",
        verb=verb,
        subject_type=subject._meta.model_name or "",
        subject_id=subject.pk,
        subject=str(subject)[:300],
        institution_id=institution_id if institution_id is not None else getattr(subject, "institution_id", None),
        facts=facts,
    )


def sentence(event: AuditEvent) -> str:
    """Return the event as a sentence for people."""
    return SENTENCES[event.verb].format(actor=event.actor, subject=event.subject)


def of(subject: models.Model) -> models.QuerySet[AuditEvent]:
    """Return the events of one object, newest first."""
    return AuditEvent.objects.filter(subject_type=subject._meta.model_name, subject_id=subject.pk)


# What an institution's own people may read of its file: never who voted, and never what others did elsewhere.
_HISTORY_PREFIXES = ("institution.", "membership.", "agreement.", "motion.")


def history_of_institution(institution_id: int, *, limit: int = 20) -> list[AuditEvent]:
    """Return the newest events of an institution's file, newest first, each with its `sentence`."""
    own = models.Q()
    for prefix in _HISTORY_PREFIXES:
        own |= models.Q(verb__startswith=prefix)
    return with_sentences(AuditEvent.objects.filter(own, institution_id=institution_id)[:limit])


def with_sentences(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Return the events with the attribute `sentence`, for templates."""
    rows = list(events)
    for row in rows:
        row.sentence = sentence(row)  # type: ignore[attr-defined]
    return rows
