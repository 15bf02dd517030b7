"""Who may do what to contributions; when is in lifecycle.py."""

from django.db.models import QuerySet

from contributions.lifecycle import Status
from contributions.models import Contribution
from portal.accounts.models import User
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership

STEWARDS = [Membership.Role.PRINCIPAL_INVESTIGATOR, Membership.Role.STEWARD]


def is_steward(user: User, contribution: Contribution) -> bool:
    """Test if the user is a data steward or principal investigator of the institution that owns the contribution."""
    return institutions.manages(user, institutions.acting_for(contribution.institution))


def moved_to(contribution: Contribution) -> Institution | None:
    """Return where a draft is begun anew, if its institution was merged: what is not sent yet is not sent any more."""
    return contribution.institution.merged_into if contribution.status == Status.DRAFT else None


def require_not_moved(contribution: Contribution) -> None:
    """Raise NotAllowed for a draft whose institution was merged."""
    if moved_to(contribution) is not None:
        raise NotAllowed(
            institutions.why_not_member(contribution.institution, "contribute"),
            next_url=contribution.get_absolute_url(),
        )


def require_steward(user: User, institution: Institution) -> None:
    """Raise NotAllowed unless the user is a data steward or principal investigator there; a superuser is not enough."""
    institution = institutions.acting_for(institution)
    if not institutions.manages(user, institution):
        raise NotAllowed(
            f"Only a data steward or principal investigator of {institution} can do this. Ask one of them, or ask for "
            "the role."
        )


def institutions_to_act_for(user: User) -> QuerySet[Institution]:
    """Return the institutions in which the user is a data steward or principal investigator today."""
    return Institution.objects.filter(memberships__in=user.memberships.current().filter(role__in=STEWARDS)).distinct()
