"""Writing and reading the audit log."""

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
