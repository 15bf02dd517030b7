"""What happens to the people of an institution: roles and invitations."""

import secrets
from datetime import datetime, timedelta
from functools import reduce
from operator import or_

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils.crypto import constant_time_compare, salted_hmac

from portal import live
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.accounts.services import digest_of
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import leaving, lifecycle, services
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Invitation, JoinRequest, Membership
from portal.notifications.services import notify_address
from portal.notifications.types import Type

INVITATION_DAYS = 14
CODE_ATTEMPTS = 5
Role = Membership.Role
MANAGERS = [Role.PRINCIPAL_INVESTIGATOR, Role.STEWARD]


class InvitationInvalid(DomainError):
    """The invitation is used, withdrawn, too old, or meant for another address."""

    code = "invitation_invalid"


class ForAnotherAddress(InvitationInvalid):
    """Somebody else's invitation; the attempt is on record as `invitation.refused`."""

    on_record = True


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
def hand_over(membership: Membership, *, to: User, by: User, now: datetime) -> Membership:
    """
    Make somebody else of the institution its principal investigator and end the own role, in one step.

    So the only one who manages an institution can leave without leaving it alone.
    """
    if membership.user_id != by.pk:
        raise NotAllowed("You can hand over your own role only.")
    if to.pk == by.pk:
        raise NotAllowed("Choose somebody else to lead the work.")
    add_role(membership.institution, to, Role.PRINCIPAL_INVESTIGATOR, by=by, now=now)
    return end_membership(membership, by=by, now=now)


# Invitations


def _new_secrets() -> tuple[str, str]:
    """Return the link's secret and six digits to type."""
    return secrets.token_urlsafe(32), f"{secrets.randbelow(10**6):06d}"


def _code_hmac(code: str, digest: str) -> str:
    """Return under what six digits are kept: keyed, since a plain digest of six digits is guessed at once."""
    return salted_hmac("institutions.invitation.code", f"{digest}:{code}", algorithm="sha256").hexdigest()


def _keep(invitation: Invitation, *, by: User, now: datetime) -> str:
    """Give an invitation new secrets and a new term, mail them, and return the link's secret."""
    secret, code = _new_secrets()
    invitation.digest, invitation.code_attempts = digest_of(secret), 0
    invitation.code_hmac = _code_hmac(code, invitation.digest)
    invitation.invited_by, invitation.invited_at = by, now
    invitation.expires_at = now + timedelta(days=INVITATION_DAYS)
    invitation.save()
    notify_address(
        invitation.email,
        type=Type.INVITATION,
        subject=f"You are invited to {invitation.institution} on Global RETFound",
        text=f"You would be its {invitation.get_role_display().lower()}. The invitation is for this address, for "
        f"{INVITATION_DAYS} days. Sign in or create an account with this address, then confirm with the link below, or "
        f"type the code {code} on the page “My institution”.",
        path=f"/institutions/invitations/{secret}/",
    )
    return secret


@transaction.atomic
def invite(institution: Institution, *, email: str, role: str, by: User, now: datetime) -> tuple[Invitation, str]:
    """
    Invite an address to one role: single use, 14 days.

    Return the invitation and its secret, which goes out by mail with a code; only their digests are kept.
    """
    services.require_manager(by, institution)
    invitation = Invitation(institution=institution, email=User.objects.normalize_email(email), role=role)
    secret = _keep(invitation, by=by, now=now)
    audit.record("invitation.sent", invitation, by=by, role=role)
    return invitation, secret


@transaction.atomic
def resend_invitation(invitation: Invitation, *, by: User, now: datetime) -> tuple[Invitation, str]:
    """Send an invitation again: a new link, a new code, 14 more days; the old link and code are dead."""
    services.require_manager(by, invitation.institution)
    invitation = Invitation.objects.select_for_update(of=("self",)).select_related("institution").get(pk=invitation.pk)
    if invitation.accepted_at is not None or invitation.withdrawn_at is not None:
        raise InvitationInvalid(f"The invitation for {invitation.email} has ended. Send a new one.")
    secret = _keep(invitation, by=by, now=now)
    audit.record("invitation.resent", invitation, by=by, role=invitation.role)
    return invitation, secret


def invitation_of(secret: str, *, now: datetime) -> Invitation:
    """Return the open invitation with this secret."""
    invitation = Invitation.objects.select_related("institution", "invited_by").filter(digest=digest_of(secret)).first()
    if invitation is None or invitation.withdrawn_at or invitation.accepted_at or invitation.expires_at <= now:
        raise InvitationInvalid("This invitation was used, withdrawn, or is too old. Ask for a new one.")
    return invitation


def accept_invitation(secret: str, *, by: User, verified_emails: set[str], now: datetime) -> Membership:
    """Take the invited role. Only the invited address, verified, can; a forwarded invitation is refused on record."""
    invitation = invitation_of(secret, now=now)
    if invitation.email.lower() not in {email.lower() for email in verified_emails}:
        with transaction.atomic():
            audit.record("invitation.refused", invitation, by=by)
        raise ForAnotherAddress(
            "This invitation is for another address than yours, so it gives you nothing. Sign in with the address it "
            "was sent to, add that address to your account and verify it, or ask for an invitation of your own."
        )
    return _accept(invitation, by=by, now=now)


@transaction.atomic
def _accept(invitation: Invitation, *, by: User, now: datetime) -> Membership:
    leaving.require_there(invitation.institution, by)
    invitation = Invitation.objects.select_for_update(of=("self",)).select_related("institution").get(pk=invitation.pk)
    if invitation.accepted_at is not None:
        raise InvitationInvalid("This invitation was just used.")
    if invitation.withdrawn_at is not None:
        raise InvitationInvalid("This invitation was just withdrawn. Ask for a new one.")
    if invitation.institution.status in lifecycle.ENDED:
        raise InvitationInvalid(f"{invitation.institution} takes nobody in any more.")
    invitation.accepted_at, invitation.accepted_by, invitation.code_hmac = now, by, ""
    invitation.save(update_fields=["accepted_at", "accepted_by", "code_hmac"])
    audit.record("invitation.accepted", invitation, by=by)
    return services.start_membership(invitation.institution, by, invitation.role, by=by, now=now)


def accept_code(code: str, *, by: User, verified_emails: set[str], now: datetime) -> Membership:
    """
    Take the role of the invitation with these six digits, among those for the person's own verified addresses.

    Five wrong codes kill the code of each; the links stay good.
    """
    invitation = _matching(code.strip(), verified_emails=verified_emails, now=now)
    if invitation is None:
        raise InvitationInvalid(
            "No open invitation for your address has this code. Check the six digits of the newest mail; after five "
            "wrong codes only the link in the mail works."
        )
    return _accept(invitation, by=by, now=now)


@transaction.atomic
def _matching(code: str, *, verified_emails: set[str], now: datetime) -> Invitation | None:
    """Return the invitation whose code it is, or None; a wrong code counts, whatever happens afterwards."""
    own = reduce(or_, (Q(email__iexact=email) for email in verified_emails), Q(pk=None))
    live = Invitation.objects.select_for_update().filter(
        own, accepted_at=None, withdrawn_at=None, expires_at__gt=now, code_attempts__lt=CODE_ATTEMPTS
    )
    rows = list(live.exclude(code_hmac="").order_by("pk"))
    for row in rows:
        if constant_time_compare(row.code_hmac, _code_hmac(code, row.digest)):
            return row
    Invitation.objects.filter(pk__in=[row.pk for row in rows]).update(code_attempts=F("code_attempts") + 1)
    return None


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


# Leaving the portal (portal/erasure.py)


def only_managed_by(user: User) -> QuerySet[Institution]:
    """Return the live institutions that nobody else manages."""
    rows = user.memberships.current().filter(role__in=MANAGERS)
    over = [Status.DRAFT, Status.DECLINED, Status.WITHDRAWN]
    others = Membership.objects.current().filter(role__in=MANAGERS).exclude(user=user)
    managed = Institution.objects.filter(memberships__in=rows).exclude(status__in=over)
    return managed.exclude(pk__in=others.values("institution")).distinct().order_by("pk")


def erase_person(user: User, addresses: set[str], *, now: datetime) -> None:
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
    asked = JoinRequest.objects.filter(person=user)
    asked.filter(state=JoinRequest.State.ASKED).delete()  # nobody is there to be taken in
    asked.update(message="")
