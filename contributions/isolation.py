"""Whether a contribution is isolated because of what it may hold: asked wherever one is used. incidents.py isolates."""

from http import HTTPStatus

from django.db.models import QuerySet

from contributions.lifecycle import Status
from contributions.models import Contribution, Isolation
from portal.errors import DomainError


class Isolated(DomainError):
    """Nothing uses a contribution, or shows what is in it, while it is isolated."""

    code = "isolated"
    status = HTTPStatus.CONFLICT


def current(contribution: Contribution) -> Isolation | None:
    """Return why nothing may use the contribution, or None."""
    return contribution.isolations.standing().first()


def isolated() -> QuerySet[Isolation, int]:
    """Return the ids of the contributions that are isolated, for a query."""
    return Isolation.objects.standing().values_list("contribution_id", flat=True)


def usable() -> QuerySet[Contribution]:
    """Return approved contributions that are not isolated; of these, embargo.usable() says which may be used."""
    return Contribution.objects.filter(status=Status.APPROVED).exclude(pk__in=isolated())


def ended(contribution: Contribution) -> bool:
    """Test if the deletion after an incident took it out of use; what is withdrawn else, its institution took back."""
    ordered = contribution.isolations.standing().filter(deletion_ordered_at__lte=contribution.status_since)
    return contribution.status == Status.WITHDRAWN and ordered.exists()


def require_none(contribution: Contribution) -> None:
    """Raise Isolated while the contribution is."""
    if (isolation := current(contribution)) is not None:
        raise Isolated(
            f"{contribution} has been isolated since {isolation.placed_at:%d %B %Y} because of what it may hold. "
            "Nothing of it is shown or used until an operator lifts that.",
            next_url=contribution.get_absolute_url(),
        )
