"""What a mail looks like: text and HTML from the same words, one button, why it came and how to change that."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string
from django.urls import reverse

from portal.audit.people import named_all
from portal.notifications.models import Notification, OutboxMessage
from portal.notifications.types import Type


@dataclass(frozen=True)
class Rendered:
    """The two forms of a mail's body."""

    text: str
    html: str


def absolute(path: str) -> str:
    """Return the address of one of our pages as a reader of mail needs it."""
    return f"{settings.PORTAL_URL}{path}"


def frame(
    text: str, *, subject: str, url: str, label: str = "", why: str = "", code: str = "", choice: bool = False
) -> Rendered:
    """
    Set a text into the mail's frame.

    Args:
        url: where the one button leads.
        why: why the reader gets this.
        choice: whether the reader can choose what comes by mail: who has no account cannot.
    """
    context = {
        "subject": subject,
        "text": text,
        "url": url,
        "label": label or "Open the page",
        "why": why,
        "code": code,
        "settings_url": absolute(reverse("inbox:settings")) if choice else "",
    }
    return _both("notice", context)


def digest(rows: list[Notification]) -> Rendered:
    """Return the body of the daily mail."""
    texts = iter(named_all([text for row in rows for text in (row.subject, row.text)]))
    entries = [
        {"subject": subject, "text": text, "url": absolute(row.path), "deadline_at": row.deadline_at}
        for row, subject, text in zip(rows, texts, texts, strict=True)
    ]
    context = {
        "entries": entries,
        "inbox_url": absolute(reverse("inbox:list")),
        "settings_url": absolute(reverse("inbox:settings")),
    }
    return _both("digest", context)


def _both(name: str, context: dict[str, Any]) -> Rendered:
    text = render_to_string(f"notifications/mail/{name}.txt", context).strip() + "\n"
    return Rendered(text, render_to_string(f"notifications/mail/{name}.html", context))


def compose(message: OutboxMessage, *, connection: BaseEmailBackend | None = None) -> EmailMultiAlternatives:
    """
    Return the message as Django sends it.

    Its Message-ID stays the same in every attempt, so that mail servers and people recognise a second delivery.
    """
    subject, text = named_all([message.subject, message.text])
    body = Rendered(message.text, message.html)
    if message.path:
        why = f"You get this because of: {Type(message.type).label}."
        body = frame(text, subject=subject, url=absolute(message.path), why=why, choice=message.user_id is not None)
    host = urlsplit(settings.PORTAL_URL).hostname
    headers = {"Message-ID": f"<outbox-{message.pk}@{host}>", "Auto-Submitted": "auto-generated"}
    mail = EmailMultiAlternatives(subject, body.text, to=[message.address], headers=headers, connection=connection)
    if body.html:
        mail.attach_alternative(body.html, "text/html")
    return mail
