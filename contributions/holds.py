"""
Holding the files of a contribution back from deletion, for as long as a court, an authority or an inquiry needs them.

The law can oblige to keep what an agreement promises to delete (GDPR, Art. 17(3)(b) and (e)). An operator places the
hold and releases it, each with a reason; the institution is told. The reason is not for the board: it may name a case.
"""

from datetime import datetime, timedelta
from http import HTTPStatus

from django.db import transaction
from django.db.models import QuerySet

from contributions import deletion
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

LOOK_AGAIN_AFTER = timedelta(days=180)  # kept no longer than the purpose needs (GDPR, Art. 5(1)(e))


class CannotHold(DomainError):
    """There is nothing to hold back, or it is held back already."""

    code = "cannot_hold"
    status = HTTPStatus.CONFLICT


class NotHeld(DomainError):
    """The hold is released already."""

    code = "not_held"
    status = HTTPStatus.CONFLICT


class Unexplained(DomainError):
    """What an operator does with an institution's files, a hold or an isolation, and its end, are explained."""

    code = "reason_missing"


def may_act(user: User, contribution: Contribution) -> bool:
    """Test if the person may place and release holds on it: an operator who does not belong to its institution."""
    return accounts.has_role(user, "operator") and not _belongs(user, contribution)


def may_read(user: User, contribution: Contribution) -> bool:
    """
    Test if the person may read why its files are held back: its institution's people, auditors and operators.

    Not the chair, who reads all else that auditors read: the board is to decide without it.
    """
    return accounts.has_role(user, "auditor", "operator") or _belongs(user, contribution)


def _belongs(user: User, contribution: Contribution) -> bool:
    return institutions.is_member(user, institutions.acting_for(contribution.institution))


def may_place(contribution: Contribution) -> bool:
    """Test if files lie in the store that could be held back, and nothing does so yet."""
    return (
        contribution.submitted_at is not None
        and contribution.deletion_began_at is None
        and (deletion.present(contribution).exists() or contribution.evidence_files.exists())
        and deletion.current_hold(contribution) is None
    )


def require_may_act(user: User, contribution: Contribution) -> None:
    """Raise NotAllowed unless the person may place and release holds on it."""
    if not may_act(user, contribution):
        raise NotAllowed(
            "Only an operator of the consortium who does not belong to the institution can hold its files back from "
            "deletion, and release them."
        )


def require_placeable(contribution: Contribution) -> None:
    """Raise CannotHold where it is a draft, its files are gone or going, or a hold is there already."""
    if not may_place(contribution):
        raise CannotHold(_why_not(contribution), next_url=contribution.get_absolute_url())


def require_held(hold: Hold) -> None:
    """Raise NotHeld where the hold is released."""
    if hold.released_at is not None:
        contribution = hold.contribution
        raise NotHeld(
            f"This hold on the files of {contribution} was released already. Look whether another one stands.",
            next_url=contribution.get_absolute_url(),
        )


def current() -> QuerySet[Hold]:
    """Return every hold that is not released, the oldest first."""
    return Hold.objects.standing().select_related("contribution__institution", "placed_by")


@transaction.atomic
def place(contribution: Contribution, *, reason: str, by: User, now: datetime) -> Hold:
    """Hold the files back from deletion. Raises CannotHold: see require_placeable()."""
    require_may_act(by, contribution)
    contribution, reason = locked(contribution.pk), explained(reason)
    require_placeable(contribution)
    hold = Hold.objects.create(contribution=contribution, reason=reason, placed_by=by, placed_at=now)
    audit.record("contribution.hold_placed", contribution, by=by, hold=hold.pk)
    _tell(
        contribution,
        f"The files of {contribution} are held back from deletion",
        "They are kept in the consortium's store until the hold is released. Why, says its page:",
    )
    return hold


@transaction.atomic
def release(hold: Hold, *, reason: str, by: User, now: datetime) -> Hold:
    """Let the files go their way: what is due by now is deleted at once. Raises NotHeld."""
    require_may_act(by, hold.contribution)
    contribution, reason = locked(hold.contribution_id), explained(reason)
    hold = contribution.holds.get(pk=hold.pk)
    require_held(hold)
    hold.release_reason, hold.released_by, hold.released_at = reason, by, now
    hold.save(update_fields=["release_reason", "released_by", "released_at"])
    audit.record("contribution.hold_released", contribution, by=by, hold=hold.pk)
    _tell(
        contribution,
        f"The files of {contribution} are held back no longer",
        "What the agreement and your institution say of their deletion holds again. Why, says its page:",
    )
    if deletion.is_due(contribution, now=now):
        enqueue("jobs.delete_files", contribution_id=contribution.pk)
    return hold


def locked(contribution_id: int) -> Contribution:
    """Return the row, locked against a deletion that begins, and a worker or a vote that would use it."""
    rows = Contribution.objects.select_for_update(of=("self",)).select_related("institution", "programme")
    return rows.get(pk=contribution_id)


def explained(reason: str) -> str:
    """Return the reason; raises Unexplained where there is none."""
    if not reason.strip():
        raise Unexplained("Say in a sentence why: the institution reads it, and it stays on record.")
    return reason.strip()


def _why_not(contribution: Contribution) -> str:
    if contribution.submitted_at is None:
        return f"{contribution} was never submitted: only its institution sees it. A hold is for what was sent."
    if deletion.current_hold(contribution) is not None:
        return f"The files of {contribution} are held back already. Its page says since when, and why."
    if contribution.deletion_began_at is not None and deletion.holds_files(contribution):
        return f"The files of {contribution} are being deleted: a hold comes too late."
    return f"No file of {contribution} is in the store: there is nothing to hold back."


def _tell(contribution: Contribution, subject: str, text: str) -> None:
    announce(f"contribution-{contribution.pk}")
    people = institutions.people_acting_for(contribution.institution)
    notify(people, type=Type.CONTRIBUTION, subject=subject, text=text, path=contribution.get_absolute_url())
