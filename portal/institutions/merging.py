"""Two members become one: the alias keeps its record, its people go on in the other."""

from datetime import datetime

from django.db import transaction

from portal.accounts.models import User
from portal.accounts.services import has_role
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions import services
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, JoinRequest, Membership


class MergeRefused(NotAllowed):
    """The two cannot become one."""

    code = "merge_refused"


@transaction.atomic
def merge(institution: Institution, into: Institution, *, by: User, now: datetime) -> Institution:
    """
    Merge a member into another; an operator does, after both have said so.

    Contributions and signatures stay on record where they are. The ROR id goes; open invitations and requests end.
    """
    if not has_role(by, "operator"):
        raise NotAllowed("Only an operator merges institutions.")
    if institution.pk == into.pk:
        raise MergeRefused(f"{institution} cannot be merged into itself. Choose the other institution.")
    list(Institution.objects.select_for_update().filter(pk__in=[institution.pk, into.pk]).order_by("pk"))
    into = Institution.objects.get(pk=into.pk)
    if into.status != Status.MEMBER:
        raise MergeRefused(f"{into} is not a member, so nothing can be merged into it.")
    alias = services.retire(institution.pk, into=into, by=by, now=now)
    Institution.objects.filter(merged_into=alias).update(merged_into=into)
    for membership in alias.memberships.current().select_related("user"):
        _carry_over(membership, into, by=by, now=now)
    alias.invitations.filter(accepted_at=None, withdrawn_at=None).update(withdrawn_at=now)
    alias.join_requests.filter(state=JoinRequest.State.ASKED).update(
        state=JoinRequest.State.DECLINED, answered_by=by, answered_at=now, reason=f"Merged into {into}: ask there."
    )
    services.tell(into, "has taken in another member", f"{alias} was merged into it; its people are yours now.")
    return alias


def _carry_over(membership: Membership, into: Institution, *, by: User, now: datetime) -> None:
    """Start the same role in the other institution; who would lead and sign there at once becomes a member."""
    membership.ended_at = now
    membership.save(update_fields=["ended_at"])
    audit.record("membership.ended", membership, by=by, role=membership.role)
    role, other = membership.role, services.EXCLUSIVE.get(services.Role(membership.role))
    if other and services.is_member(membership.user, into, other):
        role = Membership.Role.MEMBER
    services.start_membership(into, membership.user, role, by=by, now=now)
