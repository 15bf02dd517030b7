"""What every page knows."""

from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from jobs import maintenance
from portal.accounts.standing import standing_of
from portal.notifications import services as notifications


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the site's name, version and the signed-in person's consortium roles."""
    return {
        "site_name": "Global RETFound",
        "portal_version": settings.VERSION,
        "embedded": settings.EMBEDDED,
        "mailbox_page": settings.MAILBOX_PAGE,
        "live_url": settings.LIVE_URL,
        "orcid_enabled": bool(settings.ORCID_CLIENT_ID),
        "user_roles": _roles(request),
        "maintenance": maintenance.message(),
        "unread_count": cache(lambda: _unread(request)),  # asked only where the menu is drawn
    }


def _unread(request: HttpRequest) -> int:
    user = getattr(request, "user", None)
    return notifications.unread_count(user) if user is not None and user.is_authenticated else 0


def _roles(request: HttpRequest) -> set[str]:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return set()
    standing = getattr(request, "standing", None) or standing_of(user)  # none on an error page
    roles = set(standing.consortium_roles)
    return roles | {"board"} if standing.has_seat else roles
