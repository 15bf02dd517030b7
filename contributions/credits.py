"""Naming people on a contribution; each confirms the own line, with the roles that are true."""

from collections.abc import Iterable
from datetime import datetime
from http import HTTPStatus

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse

from contributions import holds
from contributions.credit_models import Contributor, CreditRole
from contributions.lifecycle import CLOSED
from contributions.models import Contribution
from contributions.rules import require_steward
from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.people import reference
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.notifications.services import notify
from portal.notifications.types import Type


class NotTheirs(DomainError):
    """Only people of the institution are named."""

    code = "contributor_not_of_institution"
    status = HTTPStatus.BAD_REQUEST


class NamedAlready(DomainError):
    """The person has a line already."""

    code = "contributor_named_already"


class NotNamed(DomainError):
    """The line was taken off a moment ago."""

    code = "contributor_not_named"


class RolesMissing(DomainError):
    """A line is confirmed with at least one role of the taxonomy."""

    code = "contributor_roles_missing"
    status = HTTPStatus.BAD_REQUEST


class CreditFixed(DomainError):
    """What was rejected, returned or withdrawn credits nobody any more."""

    code = "credit_fixed"


def _standing(contributor: Contributor) -> Contributor:
    """Return the line as it is now, its contribution locked. Raises NotNamed."""
    contribution = holds.locked(contributor.contribution_id)
    row = contribution.contributors.select_related("person").filter(pk=contributor.pk).first()
    if row is None:
        raise NotNamed(f"{contributor.person} is not on the list of contributors any more.")
    return row


def _require_live(contribution: Contribution) -> None:
    if contribution.status in CLOSED:
        # No word of how it ended: who left the institution reads this too, and sees nothing else of it.
        raise CreditFixed(f"{contribution} credits nobody any more, so its list of contributors stays as it is.")


@transaction.atomic
def add(contribution: Contribution, person: User, *, by: User, now: datetime) -> Contributor:
    """Name a person of the institution; they are asked to confirm the line."""
    require_steward(by, contribution.institution)
    contribution = holds.locked(contribution.pk)
    _require_live(contribution)
    if not institutions.people_acting_for(contribution.institution).filter(pk=person.pk).exists():
        raise NotTheirs(f"{person} does not belong to {contribution.institution}. Invite them there first.")
    try:
        with transaction.atomic():
            row = Contributor.objects.create(contribution=contribution, person=person, added_at=now)
    except IntegrityError as exc:
        raise NamedAlready(f"{person} is on the list already.") from exc
    audit.record("contributor.added", row, by=by)
    notify(
        [person],
        type=Type.CONTRIBUTION,
        subject=f"You are named on {contribution}",
        text="Say what you did, by the CRediT taxonomy, and confirm your line, which nobody else can; or take your "
        "name off. A data steward or principal investigator can take it off too, and then you are told.",
        path=reverse("contributions:own_line", args=[contribution.pk]),
    )
    return row


def line_of(contribution: Contribution, person: User) -> Contributor | None:
    """Return the person's line, if there is one."""
    return contribution.contributors.filter(person=person).first()


@transaction.atomic
def confirm(contributor: Contributor, *, roles: Iterable[str], by: User, now: datetime) -> Contributor:
    """Confirm one's own line with one's roles; again changes them. Raises NotNamed."""
    contributor = _standing(contributor)
    _require_own(contributor, by)
    known = {role.value for role in CreditRole}
    chosen = sorted(set(roles))
    if not chosen or not set(chosen) <= known:
        raise RolesMissing("Choose at least one role: what you did for this contribution.")
    contributor.roles, contributor.confirmed_at = chosen, now
    contributor.save(update_fields=["roles", "confirmed_at"])
    audit.record("contributor.confirmed", contributor, by=by, roles=chosen)
    return contributor


@transaction.atomic
def remove(contributor: Contributor, *, by: User) -> None:
    """
    Take a name off: one's own at any time; a steward another's, who is told, while the contribution lives.

    Raises:
        NotNamed: another was first.
    """
    contributor = _standing(contributor)
    contribution, person = contributor.contribution, contributor.person
    if person != by:
        require_steward(by, contribution.institution)
        _require_live(contribution)
    audit.record("contributor.removed", contributor, by=by)
    contributor.delete()
    if person != by:
        _tell_removed(contribution, person, by=by)


def _tell_removed(contribution: Contribution, person: User, *, by: User) -> None:
    institution = institutions.acting_for(contribution.institution)
    is_inside = institutions.is_member(person, institution)
    notify(
        [person],
        type=Type.CONTRIBUTION,
        subject=f"You are no longer named on {contribution}",
        text=f"{reference(by)} took your line off the list of contributors. If you did part of the work, ask a data "
        f"steward or principal investigator of {institution} to name you again.",
        path=(contribution if is_inside else institution).get_absolute_url(),
    )


def _require_own(contributor: Contributor, by: User) -> None:
    if contributor.person_id != by.pk:
        raise NotAllowed("Each person confirms the own line, and nobody for another.")
    _require_live(contributor.contribution)


def shown(contribution: Contribution, reader: User) -> QuerySet[Contributor]:
    """Return the lines that the reader may see: confirmed ones, and to the institution's people all."""
    rows = contribution.contributors.select_related("person")
    if institutions.is_member(reader, institutions.acting_for(contribution.institution)):
        return rows
    return rows.filter(confirmed_at__isnull=False)


def candidates(contribution: Contribution) -> QuerySet[User]:
    """Return the people of the institution who have no line yet."""
    named = contribution.contributors.values("person")
    return institutions.people_acting_for(contribution.institution).exclude(pk__in=named).order_by("name")
