"""What happens to institutions; who belongs to them. Roles and invitations change in memberships.py."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.text import slugify

from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import countries, lifecycle
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Membership
from portal.lifecycle import verb
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import enqueue

RESERVED_SLUGS = {"apply", "invitations", "mine", "region"}  # addresses beside /institutions/<slug>/
Role = Membership.Role


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


def require_manager(user: User, institution: Institution) -> None:
    """Raise NotAllowed unless the person may change the institution's profile and people."""
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
    start_membership(institution, by, role, by=by, now=now)
    return institution


@transaction.atomic
def change_profile(institution: Institution, *, by: User, **profile: Any) -> Institution:
    """Change the profile, except while the board votes on it; the region follows the country."""
    require_manager(by, institution)
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
    require_manager(by, institution)
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
    require_manager(by, institution)
    return _move(institution.pk, Status.WITHDRAWN, by=by, now=now)


def _tell(institution: Institution, what: str, text: str) -> None:
    notify(
        people(institution),
        type=Type.APPLICATION,
        subject=f"{institution} {what}",
        text=text,
        path=institution.get_absolute_url(),
    )


def start_membership(institution: Institution, user: User, role: str, *, by: User, now: datetime) -> Membership:
    """Give a person a role; a role that the person holds already stays as it is. The caller has authorised it."""
    membership, created = Membership.objects.get_or_create(
        user=user, institution=institution, role=role, ended_at=None, defaults={"started_at": now}
    )
    if created:
        audit.record("membership.started", membership, by=by, role=role)
    return membership
