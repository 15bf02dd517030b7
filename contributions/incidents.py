"""
Isolating a contribution that may hold what must not be sent (data-use agreement, 5 and 6.3), and how that ends.

An operator isolates it and names the files; its institution is told. It was a mistake, and is lifted; or, once both
have what they need to report the incident, the files are deleted. What was found is not for the board, nor for mails.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from http import HTTPStatus

from django.db import transaction
from django.db.models import QuerySet

from contributions import deletion, holds, isolation, services
from contributions.lifecycle import CLOSED, Status
from contributions.models import Contribution, ContributionFile, Isolation
from contributions.rules import is_steward
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.live import announce
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import enqueue

LOOK_AGAIN_AFTER = timedelta(days=30)  # an incident is reported within days; what is kept longer was forgotten
State = ContributionFile.State


class CannotIsolate(DomainError):
    """It is a draft, its files are gone or going, or it is isolated already."""

    code = "cannot_isolate"
    status = HTTPStatus.CONFLICT


class NotIsolated(DomainError):
    """The isolation was lifted, or the files are on their way out."""

    code = "not_isolated"
    status = HTTPStatus.CONFLICT


class FilesHeldBack(DomainError):
    """A hold keeps the files; it goes before what the agreement promises."""

    code = "files_held_back"
    status = HTTPStatus.CONFLICT


class FilesNotNamed(DomainError):
    """An isolation says which files of the contribution are concerned."""

    code = "files_not_named"


def may_delete(user: User, contribution: Contribution) -> bool:
    """Test if the person may have the files deleted: who may isolate it (holds.may_act), or its steward."""
    return holds.may_act(user, contribution) or is_steward(user, contribution)


def may_isolate(contribution: Contribution) -> bool:
    """Test if files lie in the store that could be isolated, and are not yet."""
    return (
        contribution.submitted_at is not None
        and contribution.deletion_began_at is None
        and deletion.present(contribution).exists()
        and isolation.current(contribution) is None
    )


def shown_files(contribution: Contribution, user: User) -> QuerySet[ContributionFile]:
    """Return its files for a reader; while it is isolated, whoever may not read why sees none: a name may tell it."""
    hidden = isolation.current(contribution) is not None and not holds.may_read(user, contribution)
    return contribution.files.none() if hidden else contribution.files.all()


def require_may_act(user: User, contribution: Contribution) -> None:
    """Raise NotAllowed unless the person may isolate it and lift that."""
    if not holds.may_act(user, contribution):
        raise NotAllowed(
            "Only an operator of the consortium who does not belong to the institution can isolate what it sent, and "
            "lift that."
        )


def require_may_delete(user: User, contribution: Contribution) -> None:
    """Raise NotAllowed unless the person may have the files deleted after an incident."""
    if not may_delete(user, contribution):
        raise NotAllowed(
            "Only an operator of the consortium who does not belong to the institution, or a data steward or principal "
            "investigator of it, can have the files deleted after an incident."
        )


def require_isolatable(contribution: Contribution) -> None:
    """Raise CannotIsolate where it is a draft, its files are gone or going, or it is isolated already."""
    if not may_isolate(contribution):
        raise CannotIsolate(_why_not(contribution), next_url=contribution.get_absolute_url())


def require_standing(row: Isolation) -> None:
    """Raise NotIsolated where it was lifted, or the files are on their way out."""
    contribution = row.contribution
    if row.lifted_at is not None:
        sentence = f"This isolation of {contribution} was lifted already. Look whether another one stands."
        raise NotIsolated(sentence, next_url=contribution.get_absolute_url())
    if row.deletion_ordered_at is not None:
        sentence = f"The deletion of the files of {contribution} was ordered already. Its page says how far it is."
        raise NotIsolated(sentence, next_url=contribution.get_absolute_url())


def require_deletable(row: Isolation) -> None:
    """Raise NotIsolated as above or where the files are gone, FilesHeldBack where a hold keeps them."""
    require_standing(row)
    contribution = row.contribution
    if deletion.current_hold(contribution) is not None:
        raise FilesHeldBack(
            f"The files of {contribution} are held back from deletion, because a court, an authority or an inquiry may "
            "need them. Have them deleted once an operator has released them; until then they stay isolated.",
            next_url=contribution.get_absolute_url(),
        )
    if not deletion.holds_files(contribution):
        sentence = f"The files of {contribution} are deleted already: there is nothing left to delete."
        raise NotIsolated(sentence, next_url=contribution.get_absolute_url())


def current() -> QuerySet[Isolation]:
    """Return every isolation that stands while files of the contribution are in the store, the oldest first."""
    present = ContributionFile.objects.exclude(state=State.DELETED).values("contribution")
    rows = Isolation.objects.standing().filter(contribution__in=present)
    return rows.select_related("contribution__institution", "placed_by")


@transaction.atomic
def isolate(
    contribution: Contribution, *, reason: str, files: Sequence[ContributionFile], by: User, now: datetime
) -> Isolation:
    """
    Keep a contribution apart: nothing uses it or shows what is in it, and no worker begins to read its files.

    Args:
        files: those of its files that are concerned.

    Raises:
        CannotIsolate: see require_isolatable().
        holds.Unexplained, FilesNotNamed: what was found is not said, or in which files of this contribution.
    """
    require_may_act(by, contribution)
    contribution, reason = holds.locked(contribution.pk), holds.explained(reason)
    require_isolatable(contribution)
    row = Isolation.objects.create(
        contribution=contribution, reason=reason, file_names=_named(contribution, files), placed_by=by, placed_at=now
    )
    audit.record("contribution.isolated", contribution, by=by, isolation=row.pk, files=len(row.file_names))
    if contribution.status == Status.VALIDATING:
        services.requeue(contribution.pk, now=now)  # what its worker still finds does not count
    text = "Nothing uses it or shows what is in it. What was found, in which files, and what comes next, says its page:"
    _tell(contribution, f"{contribution} is isolated", text)
    return row


@transaction.atomic
def lift(row: Isolation, *, reason: str, by: User, now: datetime) -> Isolation:
    """Say that it was a mistake: the contribution goes on where it stood. Raises NotIsolated."""
    require_may_act(by, row.contribution)
    contribution, reason = holds.locked(row.contribution_id), holds.explained(reason)
    row = contribution.isolations.get(pk=row.pk)
    require_standing(row)
    row.lift_reason, row.lifted_by, row.lifted_at = reason, by, now
    row.save(update_fields=["lift_reason", "lifted_by", "lifted_at"])
    audit.record("contribution.isolation_lifted", contribution, by=by, isolation=row.pk)
    _tell(contribution, f"{contribution} is isolated no longer", "It goes on where it stood. Why, says its page:")
    if contribution.status == Status.SUBMITTED:
        enqueue("jobs.validate_contribution", contribution_id=contribution.pk)
    return row


@transaction.atomic
def delete_files(row: Isolation, *, by: User, now: datetime) -> Isolation:
    """
    Have the files of an isolated contribution deleted, which nobody can undo; what was in use is taken out of it.

    Raises:
        NotIsolated: it was lifted, or the files are gone or going.
        FilesHeldBack: a hold keeps them.
    """
    require_may_delete(by, row.contribution)
    contribution = holds.locked(row.contribution_id)
    row = contribution.isolations.get(pk=row.pk)
    require_deletable(row)
    row.deletion_ordered_by, row.deletion_ordered_at = by, now
    row.save(update_fields=["deletion_ordered_by", "deletion_ordered_at"])
    if contribution.status in CLOSED:
        contribution.deletion_asked_at = contribution.deletion_asked_at or now
        contribution.save(update_fields=["deletion_asked_at"])
    else:
        contribution = services.remove(contribution.pk, by=by, now=now)
    audit.record("contribution.incident_deletion", contribution, by=by, isolation=row.pk)
    enqueue("jobs.delete_files", contribution_id=contribution.pk)
    _tell(
        contribution,
        f"The files of {contribution} are being deleted after an incident",
        "It is in no use any more. Its record stays, with what was found and the names of the files:",
    )
    return row


def _named(contribution: Contribution, files: Sequence[ContributionFile]) -> list[str]:
    there = deletion.present(contribution).filter(pk__in=[file.pk for file in files])
    names = list(there.order_by("name").values_list("name", flat=True))
    if not files or len(names) != len({file.pk for file in files}):
        raise FilesNotNamed(f"Say which files of {contribution} are concerned: its institution must know.")
    return names


def _why_not(contribution: Contribution) -> str:
    if contribution.submitted_at is None:
        return f"{contribution} was never submitted: only its institution sees it, and nothing uses it."
    if isolation.current(contribution) is not None:
        return f"{contribution} is isolated already. Its page says since when, and why."
    if contribution.deletion_began_at is not None and deletion.holds_files(contribution):
        return f"The files of {contribution} are being deleted: nothing uses them any more."
    return f"No file of {contribution} is in the store: there is nothing to isolate."


def _tell(contribution: Contribution, subject: str, text: str) -> None:
    """Tell the institution's people and, where a corpus holds something of it, the chair of the programme."""
    announce(f"contribution-{contribution.pk}")
    path, people = contribution.get_absolute_url(), institutions.people_acting_for(contribution.institution)
    notify(people, type=Type.CONTRIBUTION, subject=subject, text=text, path=path)
    if contribution.corpus_parts.exists():
        told = accounts.chairs_of(contribution.programme).exclude(pk__in=people)
        text = "Corpora hold images of it. Its page lists them:"
        notify(told, type=Type.CONTRIBUTION, subject=subject, text=text, path=path)
