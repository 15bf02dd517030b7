"""Telling people what happened."""

import logging
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.mail import EmailMessage
from django.db import models, transaction

from portal.audit.people import named
from portal.notifications.models import Mail
from portal.notifications.types import Type

logger = logging.getLogger(__name__)


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
    Tell each person, in the transaction of the change.

    Args:
        path: the page where the reader can act.
        key: what must be told only once to each person (a reminder); empty: each call tells.
        deadline_at: until when the reader can act.
    """
    for address in sorted({person.email for person in recipients}):  # type: ignore[attr-defined]
        notify_address(address, type=type, subject=subject, text=text, path=path)


def notify_address(address: str, *, type: Type, subject: str, text: str, path: str) -> None:
    """Mail an address that may belong to nobody here yet. A mail server that is down never fails the change."""
    subject = named(subject)
    body = f"{named(text)}\n\n{settings.PORTAL_URL}{path}\n\nGlobal RETFound consortium portal"

    def send() -> None:
        try:
            EmailMessage(subject, body, to=[address]).send()
        except OSError:  # smtplib's errors too
            logger.exception("No mail to the recipient of %r.", subject)

    transaction.on_commit(send, robust=True)


def erase(user: AbstractBaseUser, addresses: set[str]) -> None:
    """Take a person's mail out of the mailbox of the embedded default, and mail to others that names the person."""
    names = models.Q(pk__in=[])
    for text in {user.name, *addresses} - {""}:  # type: ignore[attr-defined]
        names |= models.Q(recipient__iexact=text) | models.Q(subject__icontains=text) | models.Q(body__icontains=text)
    Mail.objects.filter(names).delete()
