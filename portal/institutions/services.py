"""What happens to institutions and their people."""

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.text import slugify

from portal.accounts.models import User
from portal.accounts.services import digest_of
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import countries, lifecycle
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Invitation, Membership
from portal.lifecycle import verb
from portal.notifications.services import notify
from portal.queue import enqueue

INVITATION_DAYS = 14
RESERVED_SLUGS = {"apply", "invitations", "mine", "region"}  # addresses beside /institutions/<slug>/
Role = Membership.Role


class InvitationInvalid(DomainError):
    """The invitation is used, withdrawn, too old, or meant for another address."""

    code = "invitation_invalid"


class ApplicationIncomplete(DomainError):
    """Something that an application needs is missing."""

    code = "application_incomplete"


class RorIdTaken(DomainError):
    """Another live application or member has this ROR id."""

    code = "ror_id_taken"


def people(institution: Institution, *roles: str) -> QuerySet[User]:
    """Return the people who hold one of `roles` (any role when none is given) in the institution today."""
    memberships = institution.memberships.current()
    if roles:
        memberships = memberships.filter(role__in=roles)
    return User.objects.filter(memberships__in=memberships, is_active=True).distinct()


def is_member(user: User | AnonymousUser, institution: Institution, *roles: str) -> bool:
    """Test if the person holds one of `roles` (any role when none is given) in the institution today."""
    return user.is_authenticated and people(institution, *roles).filter(pk=user.pk).exists()


def manages(user: User | AnonymousUser, institution: Institution) -> bool:
    """Test if the person may change the institution's profile and people."""
    return is_member(user, institution, Role.PRINCIPAL_INVESTIGATOR, Role.STEWARD)


def institutions_of(user: User) -> QuerySet[Institution]:
    """Return the institutions in which the person holds a role today."""
    return Institution.objects.filter(memberships__in=user.memberships.current()).distinct()


def _free_slug(name: str) -> str:
    base = slugify(name)[:60] or "institution"
    taken = RESERVED_SLUGS | set(Institution.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for slug in (base, *(f"{base}-{i}" for i in range(2, 10_000))) if slug not in taken)


def _save(institution: Institution, **options: Any) -> Institution:
    """Save the profile. The database decides who was first with a ROR id, also when two people apply at once."""
    try:
        with transaction.atomic():
            institution.save(**options)
    except IntegrityError as exc:
        if "one_live_institution_per_ror_id" not in str(exc):
            raise
        raise RorIdTaken(
            f"An institution with the ROR id {institution.ror_id} is here already. Ask its principal investigator for "
            "an invitation instead of applying twice."
        ) from exc
    return institution


def _require_manager(user: User, institution: Institution) -> None:
    if not manages(user, institution):
        raise NotAllowed(f"Only a principal investigator or data steward of {institution} can do this.")


@transaction.atomic
def start_application(*, by: User, now: datetime, role: str, **profile: Any) -> Institution:
    """Begin an application as a draft; whoever begins it gets `role` in the institution."""
    institution = _save(
        Institution(
            slug=_free_slug(profile["name"]),
            subregion=countries.subregion_of(profile["country"]).code,
            created_at=now,
            status_since=now,
            **profile,
        ),
        force_insert=True,
    )
    audit.record("institution.drafted", institution, by=by, country=institution.country)
    _start_membership(institution, by, role, by=by, now=now)
    return institution


@transaction.atomic
def change_profile(institution: Institution, *, by: User, **profile: Any) -> Institution:
    """Change the profile, except while the board votes on it; the region follows the country."""
    _require_manager(by, institution)
    institution = Institution.objects.select_for_update().get(pk=institution.pk)
    if not lifecycle.is_editable(Status(institution.status)):
        raise NotAllowed(f"The profile of {institution} is fixed: {institution.get_status_display().lower()}.")
    changed = sorted(field for field, value in profile.items() if getattr(institution, field) != value)
    for field, value in profile.items():
        setattr(institution, field, value)
    institution.subregion = countries.subregion_of(institution.country).code
    _save(institution, update_fields=[*profile, "subregion"])
    audit.record("institution.changed", institution, by=by, fields=changed)
    return institution


def _move(institution_id: int, target: Status, *, by: User | None, now: datetime, **changes: Any) -> Institution:
    """Lock the row, check the move, save it and write the audit event: all or nothing."""
    institution = Institution.objects.select_for_update().get(pk=institution_id)
    before = Status(institution.status)
    name = verb(lifecycle.TRANSITIONS, before, target, subject=institution)
    institution.status, institution.status_since = target, now
    for field, value in changes.items():
        setattr(institution, field, value)
    institution.save(update_fields=["status", "status_since", *changes])
    audit.record(name, institution, by=by, before=before, **changes)
    return institution


@transaction.atomic
def apply(institution: Institution, *, by: User, now: datetime) -> Institution:
    """Send the application to the board."""
    _require_manager(by, institution)
    if not people(institution, Role.PRINCIPAL_INVESTIGATOR).exists():
        raise ApplicationIncomplete("Name a principal investigator first: add the role or invite the person.")
    institution = _move(institution.pk, Status.APPLIED, by=by, now=now)
    enqueue("jobs.refer_institution", institution_id=institution.pk)
    return institution


@transaction.atomic
def admit(institution_id: int, *, by: User | None, now: datetime) -> Institution:
    """Make the applicant a member, as the board decided."""
    institution = _move(institution_id, Status.MEMBER, by=by, now=now)
    _tell(institution, "is now a member", "The board admitted it. Next: your signing official signs the agreement.")
    return institution


@transaction.atomic
def decline(institution_id: int, *, by: User | None, reason: str, now: datetime) -> Institution:
    """Decline the application, always with a reason."""
    institution = _move(institution_id, Status.DECLINED, by=by, now=now, decision_reason=reason)
    _tell(institution, "was not admitted", f"The board's reason: {reason}")
    return institution


@transaction.atomic
def withdraw(institution: Institution, *, by: User, now: datetime) -> Institution:
    """Take the application back."""
    _require_manager(by, institution)
    return _move(institution.pk, Status.WITHDRAWN, by=by, now=now)


def _tell(institution: Institution, what: str, text: str) -> None:
    addresses = people(institution).values_list("email", flat=True)
    notify(addresses, subject=f"{institution} {what}", text=text, path=institution.get_absolute_url())


def _start_membership(institution: Institution, user: User, role: str, *, by: User, now: datetime) -> Membership:
    membership, created = Membership.objects.get_or_create(
        user=user, institution=institution, role=role, ended_at=None, defaults={"started_at": now}
    )
    if created:
        audit.record("membership.started", membership, by=by, role=role)
    return membership


@transaction.atomic
def add_role(institution: Institution, user: User, role: str, *, by: User, now: datetime) -> Membership:
    """Give a person who is already in the institution another role."""
    _require_manager(by, institution)
    if not is_member(user, institution):
        raise NotAllowed(f"{user} does not belong to {institution}. Send an invitation instead.")
    return _start_membership(institution, user, role, by=by, now=now)


@transaction.atomic
def end_membership(membership: Membership, *, by: User, now: datetime) -> Membership:
    """End one role; what came with it ends at once. People may end their own."""
    if membership.user_id != by.pk:
        _require_manager(by, membership.institution)
    Institution.objects.select_for_update().get(pk=membership.institution_id)  # two managers may end each other
    membership = Membership.objects.select_for_update().get(pk=membership.pk)
    if membership.ended_at is not None:
        return membership
    others = membership.institution.memberships.current().exclude(pk=membership.pk)
    managers = [Role.PRINCIPAL_INVESTIGATOR, Role.STEWARD]
    if membership.role in managers and not others.filter(role__in=managers).exists():
        raise NotAllowed(
            f"{membership.user} is the only one who manages {membership.institution}. Give somebody else the role of "
            "principal investigator or data steward first."
        )
    membership.ended_at = now
    membership.save(update_fields=["ended_at"])
    audit.record("membership.ended", membership, by=by, role=membership.role)
    return membership


@transaction.atomic
def invite(institution: Institution, *, email: str, role: str, by: User, now: datetime) -> tuple[Invitation, str]:
    """
    Invite an address to one role: single use, 14 days.

    Return the invitation and its secret, which goes out by mail; only its digest is kept.
    """
    _require_manager(by, institution)
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
    notify(
        [email],
        subject=f"{by} invites you to {institution} on Global RETFound",
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
    return _start_membership(invitation.institution, by, invitation.role, by=by, now=now)


@transaction.atomic
def withdraw_invitation(invitation: Invitation, *, by: User, now: datetime) -> Invitation:
    """Take an invitation back before it is used."""
    _require_manager(by, invitation.institution)
    invitation = Invitation.objects.select_for_update().get(pk=invitation.pk)
    if invitation.accepted_at is not None:
        raise InvitationInvalid(f"{invitation.email} has already accepted it. End the membership instead.")
    invitation.withdrawn_at = now
    invitation.save(update_fields=["withdrawn_at"])
    audit.record("invitation.withdrawn", invitation, by=by)
    return invitation
