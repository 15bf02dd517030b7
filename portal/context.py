"""What every page knows."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from portal.accounts.models import ConsortiumRole


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the site's name, version and the signed-in person's consortium roles."""
    return {
        "site_name": "Global RETFound",
        "version": settings.VERSION,
        "embedded": settings.EMBEDDED,
        "mailbox_page": settings.MAILBOX_PAGE,
        "live_url": settings.LIVE_URL,
        "user_roles": _roles(request),
    }


def _roles(request: HttpRequest) -> set[str]:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return set()
    held = list(ConsortiumRole.objects.current().filter(user=user).values_list("role", "programme"))
    roles = {role for role, programme in held if programme is None}
    return roles | {"board"} if {role for role, _ in held} & {"board_member", "chair"} else roles
