"""One mail a day for who has chosen so, from six in the morning (UTC)."""

from datetime import datetime

from django.contrib.auth import get_user_model
from django.db import transaction

from portal.notifications import mail
from portal.notifications.models import Notification, OutboxMessage
from portal.notifications.services import put
from portal.notifications.types import Type

HOUR = 6


def send_daily(*, now: datetime) -> int:
    """Put the daily mail of each person in the outbox; return how many. What came after six waits for tomorrow."""
    morning = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if now < morning:
        return 0
    waiting = Notification.objects.filter(waits_for_digest=True, created_at__lt=morning)
    people = waiting.order_by().values_list("recipient", flat=True).distinct()
    return sum(_send_to(person, morning=morning) for person in people)


@transaction.atomic
def _send_to(user_id: int, *, morning: datetime) -> bool:
    """Write one person's mail and take its entries off the list, together: a second call finds none."""
    key = f"digest-{user_id}-{morning:%Y-%m-%d}"
    if OutboxMessage.objects.filter(key=key).exists():
        return False  # what was late for it waits for tomorrow's
    rows = list(
        Notification.objects.select_for_update(of=("self",))
        .filter(recipient=user_id, waits_for_digest=True, created_at__lt=morning)
        .order_by("pk")
    )
    Notification.objects.filter(pk__in=[row.pk for row in rows]).update(waits_for_digest=False)
    unread = [row for row in rows if row.read_at is None]
    person = get_user_model().objects.filter(pk=user_id, is_active=True).first()
    if person is None or not unread:
        return False
    body = mail.digest(unread)
    subject = f"Your day on Global RETFound: {len(unread)} {'entry' if len(unread) == 1 else 'entries'}"
    put(person.email, type=Type.ACCOUNT, subject=subject, text=body.text, html=body.html, user=person, key=key)
    return True
