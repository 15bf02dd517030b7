"""What happens to the people of an institution: roles and invitations."""

import secrets
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from portal import live
from portal.accounts import services as accounts
from portal.accounts.erasure import Hold
from portal.accounts.models import User
from portal.accounts.services import digest_of
from portal.audit import services as audit
from portal.audit.people import reference
from portal.errors import DomainError, NotAllowed
from portal.institutions import services
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Invitation, Membership
from portal.notifications.services import notify_address
from portal.notifications.types import Type

INVITATION_DAYS = 14
Role = Membership.Role
MANAGERS = [Role.PRINCIPAL_INVESTIGATOR, Role.STEWARD]


class InvitationInvalid(DomainError):
    """The invitation is used, withdrawn, too old, or meant for another address."""

    code = "invitation_invalid"


@transaction.atomic
def add_role(institution: Institution, user: User, role: str, *, by: User, now: datetime) -> Membership:
    """Give a person who is already in the institution another role."""
    services.require_manager(by, institution)
    if not services.is_member(user, institution):
        raise NotAllowed(f"{user} does not belong to {institution}. Send an invitation instead.")
    return services.start_membership(institution, user, role, by=by, now=now)


@transaction.atomic
def end_membership(membership: Membership, *, by: User, now: datetime) -> Membership:
    """End one role; what came with it ends at once. People may end their own."""
    if membership.user_id != by.pk:
        services.require_manager(by, membership.institution)
    Institution.objects.select_for_update().get(pk=membership.institution_id)  # two managers may end each other
    membership = Membership.objects.select_for_update().get(pk=membership.pk)
    if membership.ended_at is not None:
        return membership
    others = membership.institution.memberships.current().exclude(pk=membership.pk)
    if membership.role in MANAGERS and not others.filter(role__in=MANAGERS).exists():
        raise NotAllowed(
            f"{membership.user} is the only one who manages {membership.institution}. Give somebody else the role of "
            "principal investigator or data steward first."
        )
    membership.ended_at = now
    membership.save(update_fields=["ended_at"])
    audit.record("membership.ended", membership, by=by, role=membership.role)
    if others.filter(user=membership.user_id).exists():
        live.recheck(membership.user_id)
    else:
        accounts.end_access(membership.user, now=now)  # what came with the institution goes with it
    return membership


@transaction.atomic
def invite(institution: Institution, *, email: str, role: str, by: User, now: datetime) -> tuple[Invitation, str]:
    """
    Invite an address to one role: single use, 14 days.

    Return the invitation and its secret, which goes out by mail; only its digest is kept.
    """
    services.require_manager(by, institution)
    secret = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        institution=institution,
        email=User.objects.normalize_email(email),
        role=role,
        digest=digest_of(secret),
        invited_by=by,
        invited_at=now,
        expires_at=now + timedelta(days=INVITATION_DAYS),
    )
    audit.record("invitation.sent", invitation, by=by, role=role)
    notify_address(
        email,
        type=Type.INVITATION,
        subject=f"{reference(by)} invites you to {institution} on Global RETFound",
        text=f"You would be its {invitation.get_role_display().lower()}. The invitation is for this address, for "
        f"{INVITATION_DAYS} days. Sign in or create an account with this address, then confirm here:",
        path=f"/institutions/invitations/{secret}/",
    )
    return invitation, secret


def invitation_of(secret: str, *, now: datetime) -> Invitation:
    """Return the open invitation with this secret."""
    invitation = Invitation.objects.select_related("institution", "invited_by").filter(digest=digest_of(secret)).first()
    if invitation is None or invitation.withdrawn_at or invitation.accepted_at or invitation.expires_at <= now:
        raise InvitationInvalid("This invitation was used, withdrawn, or is too old. Ask for a new one.")
    return invitation


@transaction.atomic
def accept_invitation(secret: str, *, by: User, verified_emails: set[str], now: datetime) -> Membership:
    """Take the invited role. Only the invited address, verified, can."""
    invitation = Invitation.objects.select_for_update().get(pk=invitation_of(secret, now=now).pk)
    if invitation.accepted_at is not None:
        raise InvitationInvalid("This invitation was just used.")
    if invitation.email.lower() not in {email.lower() for email in verified_emails}:
        raise InvitationInvalid(
            f"This invitation is for {invitation.email}. Sign in with that address, or add it to your account and "
            "verify it."
        )
    invitation.accepted_at, invitation.accepted_by = now, by
    invitation.save(update_fields=["accepted_at", "accepted_by"])
    audit.record("invitation.accepted", invitation, by=by)
    return services.start_membership(invitation.institution, by, invitation.role, by=by, now=now)


@transaction.atomic
def withdraw_invitation(invitation: Invitation, *, by: User, now: datetime) -> Invitation:
    """Take an invitation back before it is used."""
    services.require_manager(by, invitation.institution)
    invitation = Invitation.objects.select_for_update().get(pk=invitation.pk)
    if invitation.accepted_at is not None:
        raise InvitationInvalid(f"{invitation.email} has already accepted it. End the membership instead.")
    invitation.withdrawn_at = now
    invitation.save(update_fields=["withdrawn_at"])
    audit.record("invitation.withdrawn", invitation, by=by)
    return invitation


# Erasing an account (portal/accounts/erasure.py)


def erasure_holds(user: User) -> list[Hold]:
    """Return the institutions that nobody else manages."""
    rows = user.memberships.current().filter(role__in=MANAGERS)
    over = [Status.DRAFT, Status.DECLINED, Status.WITHDRAWN]
    institutions = Institution.objects.filter(memberships__in=rows).exclude(status__in=over).distinct()
    managed = institutions.filter(
        pk__in=Membership.objects.current().filter(role__in=MANAGERS).exclude(user=user).values("institution")
    )
    return [
        Hold(
            f"You are the only one who manages {institution}. Give somebody else the role of principal investigator "
            "or data steward first.",
            reverse("institutions:people", args=[institution.slug]),
            "People of the institution",
        )
        for institution in institutions.exclude(pk__in=managed)
    ]


def erase_person(user: User, addresses: set[str], now: datetime) -> None:
    """End the person's roles, and blank the addresses of invitations to them."""
    for membership in user.memberships.current():
        membership.ended_at = now
        membership.save(update_fields=["ended_at"])
        audit.record("membership.ended", membership, by=user, role=membership.role)
    theirs = Q(accepted_by=user)
    for address in addresses:
        theirs |= Q(email__iexact=address)
    rows = Invitation.objects.filter(theirs)
    rows.filter(accepted_at=None, withdrawn_at=None).update(withdrawn_at=now)
    rows.update(email="")
