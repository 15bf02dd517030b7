"""What became of a mail, for the page that waits for it."""

from typing import Any

from django import template
from django.template import Context

from portal.notifications.models import OutboxMessage

register = template.Library()


@register.simple_tag(takes_context=True)
def session_mail(context: Context, place: str) -> OutboxMessage | None:
    """Return the mail that this browser asked for; the session remembers it at `place`. Nobody else's is shown."""
    waiting: dict[str, Any] = context["request"].session.get(place) or {}
    return OutboxMessage.objects.filter(pk=waiting.get("message", 0)).first()
