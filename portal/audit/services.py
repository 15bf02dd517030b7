"""Writing and reading the audit log."""

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import connection, models, transaction
from django.utils import timezone

from portal.audit import people
from portal.audit.models import AuditEvent
from portal.audit.verbs import SENTENCES


def record(
    verb: str, subject: models.Model, *, by: AbstractBaseUser | None, institution_id: int | None = None, **facts: Any
) -> AuditEvent:
    """
    Write that `by` did `verb` to `subject`; called by services only.

    `by` None means the system. A subject that is called after a person defines `audit_name`, with the person by
    reference. Secrets, file contents, names and addresses of people never enter `facts`; digests and numbers may.

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
        verb=verb,
        subject_type=subject._meta.model_name or "",
        subject_id=subject.pk,
        subject=(getattr(subject, "audit_name", None) or people.plain(subject))[:300],
        institution_id=institution_id if institution_id is not None else getattr(subject, "institution_id", None),
        facts=facts,
    )


def sentence(event: AuditEvent) -> str:
    """Return the event as a sentence for people. For more than one, `with_sentences` asks the database once."""
    return with_sentences([event])[0].sentence


def of(subject: models.Model) -> models.QuerySet[AuditEvent]:
    """Return the events of one object, newest first."""
    return of_number(subject._meta.model_name or "", subject.pk)


def of_number(subject_type: str, subject_id: int) -> models.QuerySet[AuditEvent]:
    """Return the events of the object that the log knows under this kind and number, newest first."""
    return AuditEvent.objects.filter(subject_type=subject_type, subject_id=subject_id)


def timeline(subject_type: str, subject_id: int) -> models.QuerySet[AuditEvent]:
    """Return everything that happened to an object, newest first; to an institution, all that is filed under it."""
    rows = of_number(subject_type, subject_id)
    return rows | AuditEvent.objects.filter(institution_id=subject_id) if subject_type == "institution" else rows


def page_of(subject_type: str, subject_id: int, reader: AbstractBaseUser | AnonymousUser) -> str:
    """Return the address of the object's own page, or nothing where it has none or the reader may not see it."""
    for model in apps.get_models():
        rows = model._default_manager.all()
        if (
            model._meta.model_name == subject_type
            and hasattr(model, "get_absolute_url")
            and hasattr(rows, "visible_to")
        ):
            row = rows.visible_to(reader).filter(pk=subject_id).first()
            return row.get_absolute_url() if row else ""
    return ""


@transaction.atomic
def export(
    rows: models.QuerySet[AuditEvent], *, by: AbstractBaseUser, file_format: str, filters: dict[str, Any]
) -> models.QuerySet[AuditEvent]:
    """Record that `by` takes these events along, and return them oldest first, up to that record."""
    event = record("log.exported", by, by=by, format=file_format, filters=filters, events=rows.count())
    return rows.filter(pk__lt=event.pk).order_by("pk")


# What an institution's own people may read of its file: never who voted, and never what others did elsewhere.
_HISTORY_PREFIXES = ("institution.", "membership.", "agreement.", "motion.", "signing_key.")


def history_of_institution(institution_id: int, *, limit: int = 20) -> list[AuditEvent]:
    """Return the newest events of an institution's file, newest first, each with its `sentence`."""
    own = models.Q()
    for prefix in _HISTORY_PREFIXES:
        own |= models.Q(verb__startswith=prefix)
    return with_sentences(AuditEvent.objects.filter(own, institution_id=institution_id)[:limit])


def with_sentences(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Return the events with `actor`, `subject` and `sentence` in the names of today; one query for all of them."""
    rows = list(events)
    actors = (people.SYSTEM if row.actor_id is None else f"{{person:{row.actor_id}}}" for row in rows)
    texts = people.named_all([*actors, *(row.subject for row in rows)])
    for row, actor, subject in zip(rows, texts, texts[len(rows) :], strict=False):
        row.actor, row.subject = actor, subject
        row.sentence = SENTENCES[row.verb].format(actor=actor, subject=subject)
    return rows
