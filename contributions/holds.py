"""
Holding the files of a contribution back from deletion, for as long as a court, an authority or an inquiry needs them.

The law can oblige to keep what an agreement promises to delete (GDPR, Art. 17(3)(b) and (e)). An operator places the
hold and releases it, each with a reason that the institution is told; the audit log keeps both.
"""

from datetime import datetime
from http import HTTPStatus

from django.db import transaction
from django.db.models import QuerySet

from contributions import deletion
from contributions.lifecycle import Status
from contributions.models import Contribution, Hold
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.live import announce
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import enqueue


class CannotHold(DomainError):
    """There is nothing to hold back, or it is held back already."""

    code = "cannot_hold"
    status = HTTPStatus.CONFLICT


class NotHeld(DomainError):
    """Nothing holds the files back."""

    code = "not_held"
    status = HTTPStatus.CONFLICT


class HoldUnexplained(DomainError):
    """A hold, and its release, are explained."""

    code = "reason_missing"


def may_act(user: User) -> bool:
    """Test if the person may place and release holds: an operator."""
    return accounts.has_role(user, "operator")


def may_place(contribution: Contribution) -> bool:
    """Test if there are files that could be held back, and nothing does so yet."""
    is_sent = contribution.status != Status.DRAFT
    return is_sent and deletion.holds_files(contribution) and deletion.current_hold(contribution) is None


def require_operator(user: User) -> None:
    """Raise NotAllowed unless the person may place and release holds."""
    if not may_act(user):
        raise NotAllowed("Only an operator of the consortium can hold files back from deletion. Write to them.")


def require_placeable(contribution: Contribution) -> None:
    """Raise CannotHold where it is a draft, its files are gone, or a hold is there already."""
    if not may_place(contribution):
        raise CannotHold(_why_not(contribution), next_url=contribution.get_absolute_url())


def require_held(contribution: Contribution) -> Hold:
    """Return what holds the files back, or raise NotHeld."""
    hold = deletion.current_hold(contribution)
    if hold is None:
        raise NotHeld(f"Nothing holds the files of {contribution} back.", next_url=contribution.get_absolute_url())
    return hold


def current() -> QuerySet[Hold]:
    """Return every hold that is not released, the oldest first."""
    return Hold.objects.filter(released_at=None).select_related("contribution__institution", "placed_by")


@transaction.atomic
def place(contribution: Contribution, *, reason: str, by: User, now: datetime) -> Hold:
    """
    Hold the files back from deletion.

    Raises:
        CannotHold: see require_placeable(). A deletion that is at work is waited for, and then there is nothing left.
    """
    require_operator(by)
    contribution, reason = _locked(contribution), _explained(reason)
    require_placeable(contribution)
    hold = Hold.objects.create(contribution=contribution, reason=reason, placed_by=by, placed_at=now)
    audit.record("contribution.hold_placed", contribution, by=by, reason=reason)
    _tell(
        contribution,
        f"The files of {contribution} are held back from deletion",
        f"They are kept in the consortium's store until the hold is released. Why: {reason}",
    )
    return hold


@transaction.atomic
def release(contribution: Contribution, *, reason: str, by: User, now: datetime) -> Hold:
    """Let the files go their way: what is due by now is deleted at once. Raises NotHeld."""
    require_operator(by)
    contribution, reason = _locked(contribution), _explained(reason)
    hold = require_held(contribution)
    hold.release_reason, hold.released_by, hold.released_at = reason, by, now
    hold.save(update_fields=["release_reason", "released_by", "released_at"])
    audit.record("contribution.hold_released", contribution, by=by, reason=reason)
    _tell(
        contribution,
        f"The files of {contribution} are held back no longer",
        f"What the agreement and your institution say of their deletion holds again. Why: {reason}",
    )
    if deletion.is_due(contribution, now=now):
        enqueue("jobs.delete_files", contribution_id=contribution.pk)
    return hold


def _locked(contribution: Contribution) -> Contribution:
    """Return the row, locked against a deletion at work."""
    rows = Contribution.objects.select_for_update(of=("self",)).select_related("institution", "programme")
    return rows.get(pk=contribution.pk)


def _explained(reason: str) -> str:
    if not reason.strip():
        raise HoldUnexplained("Say in a sentence why: the institution is told, and it stays on record.")
    return reason.strip()


def _why_not(contribution: Contribution) -> str:
    if contribution.status == Status.DRAFT:
        return f"{contribution} is a draft, which only its institution sees. A hold is for what was sent."
    if deletion.current_hold(contribution) is not None:
        return f"The files of {contribution} are held back already. Its page says since when, and why."
    return f"No file of {contribution} is in the store: there is nothing to hold back."


def _tell(contribution: Contribution, subject: str, text: str) -> None:
    announce(f"contribution-{contribution.pk}")
    people = institutions.people(contribution.institution)
    notify(people, type=Type.CONTRIBUTION, subject=subject, text=text, path=contribution.get_absolute_url())
