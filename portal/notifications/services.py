"""Telling people what happened: the inbox, and by their choice a mail at once or once a day."""

import re
import uuid
from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from portal.audit.people import named_all
from portal.errors import DomainError
from portal.notifications.lifecycle import State
from portal.notifications.models import Mail, Notification, OutboxMessage, Preference, Webhook
from portal.notifications.types import BECAUSE, MANDATORY, Delivery, Type
from portal.queue import enqueue

Channel = OutboxMessage.Channel
COUNTED = 100  # beyond, the menu says 99+


class Mandatory(DomainError):
    """This kind of notification cannot be switched off."""

    code = "mandatory_notification"


@transaction.atomic
def notify(
    recipients: Iterable[AbstractBaseUser],
    *,
    type: Type,
    subject: str,
    text: str,
    path: str,
    key: str = "",
    deadline_at: datetime | None = None,
) -> None:
    """
    Tell each person, in the transaction of the change: in the inbox, and by mail as the person has chosen.

    Args:
        subject, text: plain text; a person in them is `portal.audit.people.reference(person)`.
        path: the page where the reader can act.
        key: what must be told only once to each person (a reminder); empty: each call tells.
        deadline_at: until when the reader can act.
    """
    people = {person.pk: person for person in recipients if person.is_active}
    chosen = dict(Preference.objects.filter(user__in=people, type=type).values_list("user", "delivery"))
    hooks = Webhook.objects.filter(owner__in=people, disabled_at__isnull=True)
    now = timezone.now()
    fields = {"type": type, "subject": _line(subject), "text": text, "path": path, "deadline_at": deadline_at}
    told: dict[int, Notification] = {}
    for pk in sorted(people):
        delivery = chosen.get(pk, Delivery.INSTANT)
        values = {**fields, "created_at": now, "waits_for_digest": delivery == Delivery.DAILY}
        row, created = _notification(pk, key, values)
        if created:
            told[pk] = row
    messages = [
        _of_notification(row, address=people[pk].email)  # type: ignore[attr-defined]
        for pk, row in told.items()
        if chosen.get(pk, Delivery.INSTANT) == Delivery.INSTANT
    ]
    messages += [_of_notification(told[hook.owner_id], webhook=hook) for hook in hooks if hook.owner_id in told]
    OutboxMessage.objects.bulk_create(messages)
    if messages:
        ring()


def told(keys: Iterable[str]) -> set[str]:
    """Return which of these keys anybody was told under already; one query, for sweeps that come often."""
    return set(Notification.objects.filter(key__in=list(keys)).values_list("key", flat=True))


def _notification(user_id: int, key: str, values: dict) -> tuple[Notification, bool]:
    """Write the entry, or find the one that was written under the same key."""
    if key:
        return Notification.objects.get_or_create(recipient_id=user_id, key=key, defaults=values)
    return Notification.objects.create(recipient_id=user_id, **values), True


def _of_notification(row: Notification, *, address: str = "", webhook: Webhook | None = None) -> OutboxMessage:
    channel = Channel.WEBHOOK if webhook else Channel.MAIL
    recipient = f"webhook-{webhook.pk}" if webhook else "mail"
    return OutboxMessage(
        key=f"notification-{row.pk}:{recipient}",
        channel=channel,
        type=row.type,
        user_id=row.recipient_id,
        notification=row,
        webhook=webhook,
        address=address,
        subject=row.subject,
        text=row.text,
        path=row.path,
        created_at=row.created_at,
        next_attempt_at=row.created_at,
    )


def notify_address(address: str, *, type: Type, subject: str, text: str, path: str) -> None:
    """Mail an address that may belong to nobody here yet, in the transaction of the change."""
    put(address, type=type, subject=subject, text=text, path=path)


@transaction.atomic
def put(
    address: str,
    *,
    type: Type,
    subject: str,
    text: str,
    path: str = "",
    html: str = "",
    user: AbstractBaseUser | None = None,
    key: str = "",
    notification: Notification | None = None,
) -> OutboxMessage:
    """Put one mail in the outbox. With `path` it is framed when it leaves; without, `text` and `html` are ready."""
    row = OutboxMessage.objects.create(
        key=key or f"mail-{uuid.uuid4()}",
        channel=Channel.MAIL,
        type=type,
        user_id=user.pk if user else None,
        notification=notification,
        address=address,
        subject=_line(subject),
        text=text,
        html=html,
        path=path,
    )
    ring()
    return row


def ring() -> None:
    """Wake the sender after the commit. The rows are the truth: a lost ring costs ten seconds, never a mail."""
    enqueue("jobs.send_outbox", queue="sweep")


def _line(text: str) -> str:
    """Return the text as one line that a mail's head and our column can hold."""
    return " ".join(text.split())[:300]


# The inbox


def unread_count(user: AbstractBaseUser) -> int:
    """Return how many entries are unread, counted up to 100."""
    return Notification.objects.unread().filter(recipient_id=user.pk)[:COUNTED].count()


def with_names(rows: list[Notification]) -> list[Notification]:
    """Give people in the texts their names, all in one query."""
    texts = iter(named_all([text for row in rows for text in (row.subject, row.text)]))
    for row, subject, text in zip(rows, texts, texts, strict=True):
        row.subject, row.text = subject, text
    return rows


def mark_read(row: Notification, *, now: datetime) -> None:
    """Mark an entry as read; the time of the first reading stays."""
    Notification.objects.unread().filter(pk=row.pk).update(read_at=now)


def mark_unread(row: Notification) -> None:
    """Mark an entry as unread."""
    Notification.objects.filter(pk=row.pk).update(read_at=None)


def mark_all_read(user: AbstractBaseUser, *, type: str = "", now: datetime) -> int:
    """Mark everything (of one kind) as read; return how many were unread."""
    rows = Notification.objects.unread().filter(recipient_id=user.pk)
    return (rows.filter(type=type) if type else rows).update(read_at=now)


# The choice per kind


def preferences(user: AbstractBaseUser) -> dict[str, str]:
    """Return how the person hears of each kind."""
    chosen = dict(Preference.objects.filter(user_id=user.pk).values_list("type", "delivery"))
    return {type.value: chosen.get(type.value, Delivery.INSTANT.value) for type in Type}


@transaction.atomic
def prefer(user: AbstractBaseUser, choices: dict[str, str]) -> None:
    """
    Choose how to hear of each kind.

    Raises:
        Mandatory: a kind that cannot be switched off.
    """
    for type, delivery in choices.items():
        if delivery == Delivery.OFF and type in MANDATORY:
            raise Mandatory(f"“{Type(type).label}” cannot be only in the inbox. {BECAUSE[type]}")
        Preference.objects.update_or_create(user_id=user.pk, type=type, defaults={"delivery": delivery})


# Leaving


@transaction.atomic
def erase(user: AbstractBaseUser, addresses: Iterable[str]) -> None:
    """
    Delete what was told to a person and how, every mail to the addresses, and what names the person or an address.

    A mail to somebody else that still waits is kept: it leaves within days, and then its text is cleared.
    """
    OutboxMessage.objects.filter(user_id=user.pk).delete()
    for model, owner in ((Notification, "recipient_id"), (Preference, "user_id"), (Webhook, "owner_id")):
        model._default_manager.filter(**{owner: user.pk}).delete()
    known = {address for address in addresses if address}
    for address in known:
        OutboxMessage.objects.filter(address__iexact=address).delete()
        Mail.objects.filter(recipient__iexact=address).delete()
    for word in known | {getattr(user, "name", "")} - {""}:
        whole = rf"\y{re.escape(word)}\y"  # "Li" is not in "Lisbon"
        OutboxMessage.objects.exclude(state=State.PENDING).filter(
            Q(subject__iregex=whole) | Q(text__iregex=whole) | Q(html__iregex=whole)
        ).delete()
        Mail.objects.filter(Q(subject__iregex=whole) | Q(body__iregex=whole)).delete()
