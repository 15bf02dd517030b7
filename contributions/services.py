"""What happens to contributions. Only this module moves them; drafts are in drafts.py, files in uploads.py."""

import hashlib
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from contributions import deletion, embargo, isolation, lifecycle, uploads
from contributions.drafts import (
    CannotReplace,
    CardRefused,
    KindNotOpen,
    NotADraft,
    OtherProgramme,
    change,
    draft,
    replace,
)
from contributions.lifecycle import CLOSED, LIVE, Status
from contributions.models import Contribution, ContributionFile
from contributions.promotion import FileKnown, promote_files, require_new
from contributions.readiness import CardIncomplete, FilesIncomplete, manifest, obstacles
from contributions.reports import add_evidence, latest_results, record_check, storable
from contributions.rules import is_steward, moved_to, require_steward
from contributions.uploads import add_file, complete_file, parts_uploaded, remove_file, sign_parts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.people import plain, reference
from portal.errors import DomainError
from portal.institutions import services as institutions
from portal.lifecycle import TransitionNotAllowed, verb
from portal.live import announce
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import enqueue

__all__ = [
    "CannotReplace",
    "CardIncomplete",
    "CardRefused",
    "FileKnown",
    "FilesIncomplete",
    "KindNotOpen",
    "NotADraft",
    "OtherProgramme",
    "TransitionNotAllowed",
    "add_evidence",
    "add_file",
    "approve",
    "available_actions",
    "begin_validation",
    "change",
    "complete_file",
    "draft",
    "find_invalid",
    "latest_results",
    "manifest",
    "obstacles",
    "parts_uploaded",
    "promote_files",
    "record_check",
    "refer",
    "reject",
    "remove_file",
    "reopen",
    "replace",
    "requeue",
    "require_being_checked",
    "sign_parts",
    "stall",
    "submit",
    "withdraw",
]

State = ContributionFile.State


class Duplicate(DomainError):
    """The institution has a live contribution of exactly these files."""

    code = "duplicate_contribution"


class ReasonMissing(DomainError):
    """A withdrawal is explained."""

    code = "reason_missing"


class CannotReopen(DomainError):
    """Only what its checks rejected is checked again, and only while no correction has taken its place."""

    code = "cannot_reopen"


def available_actions(contribution: Contribution, user: User) -> list[str]:
    """Return what the person may do now: change, submit, withdraw, delete_files, replace."""
    if not is_steward(user, contribution):
        return []
    status = Status(contribution.status)
    actions = ["change", "submit"] if status == Status.DRAFT and not moved_to(contribution) else []
    if (status, Status.WITHDRAWN) in lifecycle.TRANSITIONS:
        actions.append("withdraw")
    if deletion.may_ask(contribution):
        actions.append("delete_files")
    if status in CLOSED and not Contribution.objects.filter(supersedes=contribution).exists():
        actions.append("replace")
    return actions


# The life of a contribution


def _move(
    contribution_id: int,
    target: Status,
    *,
    by: User | None,
    now: datetime,
    only_from: Status | None = None,
    moves: dict[tuple[Status, Status], str] = lifecycle.TRANSITIONS,
    facts: dict[str, Any] | None = None,
    **changes: Any,
) -> Contribution:
    """
    Lock the row, check the move, save it and write the audit event: all or nothing.

    `only_from` keeps verbs with the same target apart: submit is not requeue, find_invalid is not reject.
    """
    contribution = Contribution.objects.select_for_update().get(pk=contribution_id)
    before = Status(contribution.status)
    table = moves if only_from in {None, before} else {}
    name = verb(table, before, target, subject=contribution)
    contribution.status, contribution.status_since, contribution.stalled_at = target, now, None
    for field, value in changes.items():
        setattr(contribution, field, value)
    contribution.save(update_fields=["status", "status_since", "stalled_at", *changes])
    audit.record(name, contribution, by=by, before=before, **(facts or {}))
    announce(f"contribution-{contribution.pk}")
    return contribution


@transaction.atomic
def submit(contribution: Contribution, *, by: User, now: datetime) -> Contribution:
    """
    Send the files to the checks.

    Raises:
        AgreementRequired: the institution has not signed the agreement in force.
        CardIncomplete, FilesIncomplete: something is missing; the first obstacle is told.
        Duplicate: the institution has a live contribution of exactly these files.
    """
    require_steward(by, contribution.institution)
    contribution = Contribution.objects.select_for_update().get(pk=contribution.pk)
    for obstacle in obstacles(contribution) if contribution.status == Status.DRAFT else []:
        raise obstacle
    digest = hashlib.sha256(manifest(contribution).encode()).hexdigest()
    facts = {"manifest_sha256": digest} | ({"embargo_until": str(day)} if (day := contribution.embargo_until) else {})
    try:
        with transaction.atomic():
            contribution = _move(
                contribution.pk,
                Status.SUBMITTED,
                only_from=Status.DRAFT,
                by=by,
                now=now,
                facts=facts,
                manifest_sha256=digest,
                submitted_at=now,
                submitted_by=by,
            )
    except IntegrityError as exc:
        raise _duplicate(contribution, digest, "Withdraw this draft, or send other files.") from exc
    enqueue("jobs.validate_contribution", contribution_id=contribution.pk)
    return contribution


def _duplicate(contribution: Contribution, digest: str, advice: str) -> Duplicate:
    other = Contribution.objects.get(institution=contribution.institution, manifest_sha256=digest, status__in=LIVE)
    return Duplicate(
        f"The same files are in {other}, which is {other.get_status_display().lower()}. {advice}",
        next_url=other.get_absolute_url(),
    )


@transaction.atomic
def withdraw(contribution: Contribution, *, by: User, reason: str, now: datetime) -> Contribution:
    """Take a contribution back, with a reason. Its record stays; its files go as the agreement says (deletion.py)."""
    require_steward(by, contribution.institution)
    reason = reason.strip()
    if not reason:
        raise ReasonMissing("Say in a sentence why you withdraw it: the reason stays on record.")
    contribution = _move(contribution.pk, Status.WITHDRAWN, by=by, now=now, facts={"reason": reason}, reason=reason)
    uploads.drop_unfinished(contribution)
    text = f"{reference(by)} withdrew it: “{plain(reason)}” Where it was used, and what becomes of its files, is here:"
    _tell(contribution, "was withdrawn", text, but=by)
    return contribution


@transaction.atomic
def remove(contribution_id: int, *, by: User, now: datetime) -> Contribution:
    """Take an isolated contribution out of use for good, and have its files deleted; called by incidents.py."""
    reason = "Its files are deleted after an incident: they held, or may have held, what the agreement forbids to send."
    return _move(
        contribution_id,
        Status.WITHDRAWN,
        moves=lifecycle.REMOVALS,
        by=by,
        now=now,
        reason=reason,
        deletion_asked_at=now,
    )


def _require_free(contribution_id: int) -> None:
    """Lock it against an isolation, and raise Isolated where there is one."""
    isolation.require_none(Contribution.objects.select_for_update().get(pk=contribution_id))


# For workers


@transaction.atomic
def begin_validation(contribution_id: int, *, now: datetime) -> Contribution:
    """
    Take a submitted contribution for checking.

    Raises:
        TransitionNotAllowed: withdrawn, or another worker has it.
        Isolated: nobody reads its files now.
    """
    _require_free(contribution_id)
    return _move(contribution_id, Status.VALIDATING, by=None, now=now)


def require_being_checked(contribution_id: int) -> None:
    """Raise TransitionNotAllowed where the contribution was withdrawn meanwhile: nothing more of it is looked at."""
    contribution = Contribution.objects.get(pk=contribution_id)
    if contribution.status != Status.VALIDATING:
        raise TransitionNotAllowed(f"{contribution} is {contribution.get_status_display().lower()} by now.")


@transaction.atomic
def requeue(contribution_id: int, *, now: datetime) -> Contribution:
    """Give back a contribution whose worker was lost."""
    return _move(contribution_id, Status.SUBMITTED, only_from=Status.VALIDATING, by=None, now=now)


@transaction.atomic
def stall(contribution_id: int, *, now: datetime) -> Contribution:
    """Note that the checks of a contribution stopped, or found no worker: an operator decides when they go on."""
    contribution = Contribution.objects.select_for_update().get(pk=contribution_id)
    if contribution.status == Status.VALIDATING:
        contribution = requeue(contribution_id, now=now)
    contribution.stalled_at = now
    contribution.save(update_fields=["stalled_at"])
    announce(f"contribution-{contribution.pk}")
    _tell(
        contribution,
        "waits for an operator",
        "Its checks stopped, through no fault of yours. An operator sees to it; nothing is asked of you. It is here:",
    )
    return contribution


@transaction.atomic
def refer(contribution_id: int, *, now: datetime) -> Contribution:
    """
    Move a contribution that passed its checks before the board; promote_files has run before.

    Raises:
        FileKnown: a file of it passed in another contribution, perhaps a moment ago.
    """
    contribution = _move(contribution_id, Status.REVIEW, by=None, now=now, referred_at=now)
    require_new(contribution)
    contribution.files.update(state=State.VERIFIED)
    kept = embargo.inherit(contribution, now=now)
    _tell(contribution, "passed its checks", f"It is before the board now.{kept} The report of the checks is here:")
    return contribution


@transaction.atomic
def find_invalid(contribution_id: int, *, reason: str, now: datetime) -> Contribution:
    """Reject a contribution that failed a check; the board never sees it."""
    reason = storable(reason)
    contribution = _move(
        contribution_id,
        Status.REJECTED,
        only_from=Status.VALIDATING,
        by=None,
        now=now,
        facts={"reason": reason},
        reason=reason,
        decided_at=now,
    )
    contribution.files.update(state=State.REFUSED)
    _tell(contribution, "did not pass its checks", f"{plain(reason)} What to do, and how to send a corrected one:")
    return contribution


@transaction.atomic
def reopen(contribution_id: int, *, reason: str, by: User, now: datetime) -> Contribution:
    """
    Put a contribution that its checks rejected back in their queue: the platform was at fault, not the files.

    Raises:
        CannotReopen: the board rejected it, it stands otherwise, or a correction of it has been begun.
        Isolated: no worker may read its files.
        Duplicate: the same files have come in another contribution since.
    """
    contribution = Contribution.objects.select_for_update().get(pk=contribution_id)
    if contribution.status != Status.REJECTED or contribution.referred_at is not None:
        raise CannotReopen(f"{contribution} was not rejected by its checks, so they are not made again.")
    if contribution.deletion_asked_at is not None or contribution.deletion_began_at is not None:
        raise CannotReopen(f"The institution had the files of {contribution} deleted. It can send them again.")
    isolation.require_none(contribution)
    standing = Contribution.objects.exclude(status=Status.WITHDRAWN)
    if (successor := standing.filter(supersedes=contribution).first()) is not None:
        raise CannotReopen(f"{successor} has taken its place already.", next_url=successor.get_absolute_url())
    facts = {"reason": reason}
    try:
        with transaction.atomic():
            contribution = _move(
                contribution.pk, Status.SUBMITTED, by=by, now=now, facts=facts, reason="", decided_at=None
            )
    except IntegrityError as exc:
        raise _duplicate(contribution, contribution.manifest_sha256, "Nothing is left to check.") from exc
    contribution.files.update(state=State.UPLOADED)
    _tell(
        contribution,
        "is checked again",
        f"The platform was at fault, not your files: {plain(reason)} Nothing is asked of you.",
    )
    return contribution


# For the board


@transaction.atomic
def approve(contribution_id: int, *, by: User | None, now: datetime) -> Contribution:
    """Approve, as the board decided. Raises Isolated."""
    _require_free(contribution_id)
    contribution = _move(contribution_id, Status.APPROVED, by=by, now=now, decided_at=now)
    day = embargo.until(contribution, now=now)
    since = f"From {day:%-d %B %Y} on it may" if day else "It may now"
    _tell(contribution, "was approved", f"The board approved it. {since} enter corpora; where it does is shown here:")
    return contribution


@transaction.atomic
def reject(contribution_id: int, *, by: User | None, reason: str, now: datetime) -> Contribution:
    """Reject, as the board decided, always with a reason."""
    contribution = _move(
        contribution_id,
        Status.REJECTED,
        only_from=Status.REVIEW,
        by=by,
        now=now,
        facts={"reason": reason},
        reason=reason,
        decided_at=now,
    )
    _tell(contribution, "was not approved", f"The board's reason: {plain(reason)}")
    return contribution


@transaction.atomic
def return_for_changes(contribution_id: int, *, reason: str, now: datetime) -> Contribution:
    """Give it back with what to change; a corrected one takes its place."""
    contribution = _move(contribution_id, Status.RETURNED, by=None, now=now, reason=reason)
    _tell(contribution, "was returned for changes", f"The board asks: {plain(reason)} How to send a corrected one:")
    return contribution


def _tell(contribution: Contribution, what: str, text: str, *, but: User | None = None) -> None:
    people = institutions.people_acting_for(contribution.institution)
    notify(
        people.exclude(pk=but.pk) if but else people,
        type=Type.CONTRIBUTION,
        subject=f"{contribution} {what}",
        text=text,
        path=contribution.get_absolute_url(),
    )
