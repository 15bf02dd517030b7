"""Telling people what happened."""

import logging
from collections.abc import Iterable

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

logger = logging.getLogger(__name__)


def notify(recipients: Iterable[str], *, subject: str, text: str, path: str) -> None:
    """
    Mail each recipient after the current transaction commits.

    `path` is the page where the reader can act; the message ends with its full address. A mail server that is down
    never fails the change that it tells about.
    """
    addresses = sorted(set(recipients))
    body = f"{text}\n\n{settings.PORTAL_URL}{path}\n\nGlobal RETFound consortium portal"

    def send() -> None:
        for address in addresses:
            try:
                EmailMessage(subject, body, to=[address]).send()
            except OSError:  # smtplib's errors too: one address must not cost the others their mail
                logger.exception("No mail to one of %d recipients of %r.", len(addresses), subject)

    transaction.on_commit(send, robust=True)
