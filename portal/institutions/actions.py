"""What a person can do with an institution now: the buttons of its pages and the `available_actions` of the API."""

from collections.abc import Iterator
from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.urls import reverse

from portal.accounts.models import User
from portal.actions import Action
from portal.institutions import lifecycle, services
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution


def available(institution: Institution, user: User | AnonymousUser, *, now: datetime) -> list[Action]:
    """Return what the person may do with the institution; a step that waits for something is there, blocked."""
    return [*_of_manager(institution, user)] if services.manages(user, institution) else []


def _of_manager(institution: Institution, user: User | AnonymousUser) -> Iterator[Action]:
    status = Status(institution.status)
    if lifecycle.is_editable(status):
        yield _action(institution, "edit", "Change the profile")
    if status == Status.DRAFT:
        led = services.people(institution, services.Role.PRINCIPAL_INVESTIGATOR).exists()
        reason = "" if led else "Name a principal investigator first: add the role or invite the person."
        yield _action(institution, "submit", "Send the application", reason=reason, method="post")
    if status in {Status.DRAFT, Status.APPLIED}:
        yield _action(institution, "withdraw", "Withdraw the application")
    yield _action(institution, "people", "Invite people")


def _action(institution: Institution, name: str, label: str, *, reason: str = "", method: str = "get") -> Action:
    url = reverse(f"institutions:{name}", args=[institution.slug])
    return Action(name, label, not reason, reason, url, method)
