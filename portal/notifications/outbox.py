"""Carrying the outbox: claim a message, send it outside of the lock, write what became of it."""

import logging
import smtplib
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import Q

from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.lifecycle import verb
from portal.notifications import mail, webhooks
from portal.notifications.lifecycle import TRANSITIONS, State
from portal.notifications.models import OutboxMessage
from portal.notifications.services import ring

logger = logging.getLogger(__name__)
Channel = OutboxMessage.Channel

_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
# How long a message waits after each failed attempt; after the last it is given up, 52 hours after the first.
WAITS = [
    *(10 * _SECOND, 30 * _SECOND, 1 * _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(1 * _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 12 * _HOUR, 12 * _HOUR, 12 * _HOUR),
]
# How long a worker may take over one message. It is lost with its worker for this long, then sent (again).
CLAIM = timedelta(minutes=2)
BUDGET_SECONDS = 10.0  # of one call; the queue has other work
BODY_KEPT = timedelta(days=7)  # of a message that failed: so long can an operator send it again


class BodyCleared(DomainError):
    """The message's text is gone, so it cannot be sent again."""

    code = "body_cleared"


class _Bounced(Exception):
    """The recipient's mail server refused the message for good."""


class _NotNow(Exception):
    """The recipient's mail server refused the message for the moment."""


class _Unreachable(Exception):
    """The mail server itself is in trouble: no message would get through now."""


def send_due(*, now: datetime) -> int:
    """
    Send what is due, one message after the other, and return how many were handed over. Safe to call twice at once.

    One bad address costs no other its mail. A mail server in trouble ends the round: the next call tries again.
    """
    sent, started = 0, time.monotonic()
    for channel in (Channel.MAIL, Channel.WEBHOOK):
        connection = get_connection() if channel == Channel.MAIL else None
        try:
            while time.monotonic() - started < BUDGET_SECONDS and (message := claim(channel, now=now)):
                sent += _send(message, connection, now=now)
        except _Unreachable:
            logger.warning("The mail server is in trouble; the outbox tries again.")
        finally:
            _close(connection)
    return sent


@transaction.atomic
def claim(channel: str, *, now: datetime) -> OutboxMessage | None:
    """Take the message that has been due for longest: for CLAIM, no other worker takes it."""
    due = OutboxMessage.objects.filter(state=State.PENDING, channel=channel, next_attempt_at__lte=now)
    message = due.select_for_update(skip_locked=True).order_by("next_attempt_at", "pk").first()
    if message is not None:
        message.attempts, message.next_attempt_at = message.attempts + 1, now + CLAIM
        message.save(update_fields=["attempts", "next_attempt_at"])
    return message


def _send(message: OutboxMessage, connection: BaseEmailBackend | None, *, now: datetime) -> bool:
    """Make one attempt and write its outcome."""
    try:
        if connection is not None:
            _send_mail(message, connection)
        else:
            webhooks.send(message, now=now)
    except _Bounced as refusal:
        _settle(message, State.BOUNCED, now=now, error=str(refusal))
        return False
    except webhooks.Gone as refusal:
        _settle(message, State.DEAD, now=now, error=str(refusal))
        return False
    except Exception as error:
        _try_later(message, now=now, error=_in_words(error))
        if isinstance(error, _Unreachable):
            raise
        return False
    return _settle(message, State.SENT, now=now, error="")


def _send_mail(message: OutboxMessage, connection: BaseEmailBackend) -> None:
    """Hand a mail to the mail server; sort its refusals into the recipient's, the server's and ours."""
    try:
        connection.open()  # kept open for the next one
        mail.compose(message, connection=connection).send()
    except smtplib.SMTPRecipientsRefused as refused:
        code, text = next(iter(refused.recipients.values()))
        raise _refusal(code, text, connection) from refused
    except smtplib.SMTPDataError as refused:
        raise _refusal(refused.smtp_code, refused.smtp_error, connection) from refused
    except (OSError, smtplib.SMTPException) as trouble:
        _close(connection)
        raise _Unreachable(_in_words(trouble)) from trouble


def _refusal(code: int, text: bytes | str, connection: BaseEmailBackend) -> Exception:
    """Return what a refusal of one message means: 5xx for good, 4xx not now."""
    answer = f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
    if 500 <= code < 600:
        return _Bounced(answer)
    _close(connection)  # after 421 the server has closed it
    return _NotNow(answer)


def _close(connection: BaseEmailBackend | None) -> None:
    """Close the connection to the mail server; one that is broken already is as good as closed."""
    try:
        if connection is not None:
            connection.close()
    except Exception:
        logger.info("The mail server did not say good-bye.", exc_info=True)


def _in_words(error: BaseException) -> str:
    """Return an error for the outbox page, on one line."""
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {text}"
    return str(error) or type(error).__name__


def _settle(message: OutboxMessage, state: State, *, now: datetime, error: str) -> bool:
    """Move a message of this attempt to where it stays; a sent one loses its text. Return whether it was ours."""
    verb(TRANSITIONS, State(message.state), state, subject=message)
    cleared = {"text": "", "html": "", "path": ""} if state == State.SENT else {}
    held = OutboxMessage.objects.filter(pk=message.pk, state=State.PENDING, attempts=message.attempts)
    changes = {"state": state, "settled_at": now, "next_attempt_at": None, "last_error": _short(error), **cleared}
    return held.update(**changes) == 1


def _try_later(message: OutboxMessage, *, now: datetime, error: str) -> None:
    """Let a message wait for its next attempt, or give it up after the last."""
    if message.attempts > len(WAITS):
        _settle(message, State.DEAD, now=now, error=error)
        return
    held = OutboxMessage.objects.filter(pk=message.pk, state=State.PENDING, attempts=message.attempts)
    held.update(next_attempt_at=now + WAITS[message.attempts - 1], last_error=_short(error))


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


# What people see of it


def bounced_address(user: AbstractBaseUser) -> OutboxMessage | None:
    """Return the mail that came back, where the newest mail to the person's address did."""
    address = getattr(user, "email", "")
    ended = OutboxMessage.objects.filter(address=address, channel=Channel.MAIL, state__in=[State.SENT, State.BOUNCED])
    newest = ended.order_by("-settled_at").first()
    return newest if newest is not None and newest.state == State.BOUNCED else None


# What an operator does


def _require_operator(by: AbstractBaseUser) -> None:
    if not by.has_perm("notifications.change_outbox"):  # type: ignore[attr-defined]
        raise NotAllowed("Only an operator can change what the outbox does with a message.")


@transaction.atomic
def retry(message: OutboxMessage, *, by: AbstractBaseUser, now: datetime) -> OutboxMessage:
    """Send a message that came back or was given up once more, with all its attempts before it; a waiting one now."""
    _require_operator(by)
    message = OutboxMessage.objects.select_for_update().get(pk=message.pk)
    if message.state != State.PENDING:
        verb(TRANSITIONS, State(message.state), State.PENDING, subject=message)
        message.attempts = 0
    if not message.has_body and message.channel == Channel.MAIL:
        raise BodyCleared(
            f"The text of {message} was cleared {BODY_KEPT.days} days after it failed. It has to be told anew."
        )
    message.state, message.next_attempt_at, message.settled_at = State.PENDING, now, None
    message.save(update_fields=["state", "attempts", "next_attempt_at", "settled_at"])
    audit.record("message.retried", message, by=by)
    ring()
    return message


@transaction.atomic
def give_up(message: OutboxMessage, *, by: AbstractBaseUser, now: datetime) -> OutboxMessage:
    """Stop trying to send a message."""
    _require_operator(by)
    message = OutboxMessage.objects.select_for_update().get(pk=message.pk)
    verb(TRANSITIONS, State(message.state), State.DEAD, subject=message)
    message.state, message.next_attempt_at, message.settled_at = State.DEAD, None, now
    message.save(update_fields=["state", "next_attempt_at", "settled_at"])
    audit.record("message.given_up", message, by=by)
    return message


def tidy(*, now: datetime) -> None:
    """Clear the texts of what failed a week ago, and forget what ended three months ago."""
    failed = OutboxMessage.objects.filter(state__in=[State.BOUNCED, State.DEAD], settled_at__lt=now - BODY_KEPT)
    failed.filter(~Q(text="") | ~Q(html="") | ~Q(path="")).update(text="", html="", path="")
    OutboxMessage.objects.filter(settled_at__lt=now - timedelta(days=settings.OUTBOX_KEPT_DAYS)).delete()


def attempts_left(message: OutboxMessage) -> int:
    """Return how often a waiting message will still be tried."""
    return max(0, len(WAITS) + 1 - message.attempts)
