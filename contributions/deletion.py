"""
Deleting the files of contributions that are closed. Their rows stay: names, hashes, results of checks, history.

Of a withdrawn one they go by themselves within the days that the agreement gives; of every closed one at the word of
its institution (GDPR, Art. 5(1)(e): kept no longer than the purpose needs). A hold (holds.py) keeps them from both.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from django.db import transaction
from django.db.models import Q, QuerySet

from contributions import isolation
from contributions.lifecycle import CLOSED, Status
from contributions.models import Contribution, ContributionFile, Evidence, Hold, Isolation
from contributions.rules import require_steward
from portal import storage
from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.audit import services as audit
from portal.errors import DomainError
from portal.institutions import services as institutions
from portal.live import announce
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.programmes.models import Programme
from portal.queue import enqueue

MARGIN = timedelta(days=2)  # so long before the agreement's last day: a store may be away for a while
State = ContributionFile.State


class NothingToDelete(DomainError):
    """The contribution is not closed, its files are gone, or their deletion was asked already."""

    code = "nothing_to_delete"
    status = HTTPStatus.CONFLICT


def holds_files(contribution: Contribution) -> bool:
    """Test if the store holds files of it, or what the checks drew from them."""
    return contribution.files.exclude(state=State.DELETED).exists() or contribution.evidence_files.exists()


def present(contribution: Contribution) -> QuerySet[ContributionFile]:
    """Return the files that have arrived and are not deleted."""
    return contribution.files.exclude(state__in=[State.UPLOADING, State.DELETED])


def may_ask(contribution: Contribution) -> bool:
    """Test if its institution can have the files deleted now."""
    is_free = contribution.deletion_asked_at is None and isolation.current(contribution) is None
    return contribution.status in CLOSED and is_free and holds_files(contribution)


def after_withdrawal(programme: Programme, kind: str) -> timedelta | None:
    """Return how long after their withdrawal files of a kind are deleted; None where no agreement says so."""
    days = agreements.days_to_delete(programme, kind)
    return None if days is None else max(timedelta(days=days) - MARGIN, timedelta(0))


def due_at(
    contribution: Contribution, *, wait_of: Callable[[Programme, str], timedelta | None] = after_withdrawal
) -> datetime | None:
    """Return from when on its files are deleted; None where nobody asked and no agreement says so."""
    if contribution.deletion_asked_at is not None:
        return contribution.deletion_asked_at
    if contribution.status != Status.WITHDRAWN:
        return None
    wait = wait_of(contribution.programme, contribution.kind)
    return None if wait is None else contribution.status_since + wait


def current_hold(contribution: Contribution) -> Hold | None:
    """Return what keeps the files from being deleted, or None."""
    return contribution.holds.standing().first()


def is_due(contribution: Contribution, *, now: datetime) -> bool:
    """Test if it is time to delete its files, and nothing holds them back."""
    since = due_at(contribution)
    return since is not None and since <= now and current_hold(contribution) is None and not _waits(contribution)


def _waits(contribution: Contribution) -> bool:
    """Test if it is isolated and nobody has ordered the deletion yet: both sides may need the files for a report."""
    isolated = isolation.current(contribution)
    return isolated is not None and isolated.deletion_ordered_at is None


@dataclass(frozen=True)
class Outlook:
    """What becomes of the files of a closed contribution, for its page. One of `held_bytes` and `deleted_at` is set."""

    held_bytes: int | None
    due_at: datetime | None
    is_due: bool
    deleted_at: datetime | None


def outlook(contribution: Contribution, *, now: datetime) -> Outlook | None:
    """Return what becomes of the files; None while the contribution is not closed, or where it never had one."""
    files = list(contribution.files.all()) if contribution.status in CLOSED else []
    if not files:
        return None
    held = [file.size_bytes for file in files if file.state != State.DELETED]
    since = due_at(contribution)
    if held:
        return Outlook(sum(held), since, is_due(contribution, now=now), None)
    return Outlook(None, since, True, max(file.deleted_at for file in files if file.deleted_at))


@transaction.atomic
def ask(contribution: Contribution, *, by: User, now: datetime) -> Contribution:
    """
    Have the files of a closed contribution deleted at once, which nobody can undo. A hold puts it off.

    Raises:
        NothingToDelete: it is not closed, it is isolated (incidents.py), or there is nothing left to ask for.
    """
    require_steward(by, contribution.institution)
    contribution = Contribution.objects.select_for_update().get(pk=contribution.pk)
    if not may_ask(contribution):
        raise NothingToDelete(why_not(contribution), next_url=contribution.get_absolute_url())
    contribution.deletion_asked_at = now
    contribution.save(update_fields=["deletion_asked_at"])
    audit.record("contribution.deletion_asked", contribution, by=by)
    enqueue("jobs.delete_files", contribution_id=contribution.pk)
    announce(f"contribution-{contribution.pk}")
    return contribution


def why_not(contribution: Contribution) -> str:
    """Return why its institution cannot have the files deleted now, where it cannot."""
    if contribution.deletion_asked_at is not None:
        return f"The deletion of the files of {contribution} was asked for already. Its page says how far it is."
    if isolation.current(contribution) is not None:
        return f"{contribution} is isolated. Its page leads to the deletion of the files after the incident."
    if contribution.status in CLOSED:
        return f"No file of {contribution} is in the store: there is nothing to delete."
    state = contribution.get_status_display().lower()
    return f"{contribution} is {state}, so its files are needed. Withdraw it first."


# For workers


def due(*, now: datetime) -> Iterator[Contribution]:
    """Yield the contributions whose files are to be deleted, also where a late worker added to what was deleted."""
    files = ContributionFile.objects.exclude(state=State.DELETED).values("contribution")
    holding = Q(pk__in=files) | Q(pk__in=Evidence.objects.values("contribution"))
    wanted = Q(status=Status.WITHDRAWN) | Q(deletion_asked_at__isnull=False)
    held = Q(pk__in=Hold.objects.standing().values("contribution"))
    held |= Q(pk__in=Isolation.objects.standing().filter(deletion_ordered_at=None).values("contribution"))
    wait_of = functools.cache(after_withdrawal)  # one question for each programme and kind
    for contribution in Contribution.objects.filter(wanted, holding, ~held).select_related("programme").order_by("pk"):
        since = due_at(contribution, wait_of=wait_of)
        if since is not None and since <= now:
            yield contribution


def queue_due(*, now: datetime) -> None:
    """Have a worker delete what is due. What fails is queued again next time."""
    for contribution in due(now=now):
        enqueue("jobs.delete_files", contribution_id=contribution.pk)


def delete_files(contribution_id: int, *, now: datetime) -> None:
    """
    Delete the files of a contribution for which it is time, and what the checks drew from them. Safe to repeat.

    Outside any transaction: the store goes first, so that a crash leaves rows that say what is still to be done.
    """
    if not _begin(contribution_id, now=now):
        return
    # What a late worker adds from here on keeps its row, so that it is due once more.
    drawn = list(Evidence.objects.filter(contribution=contribution_id).values_list("pk", flat=True))
    folder = f"contributions/{contribution_id}/"  # as uploads.add_file names them
    for upload in list(storage.open_uploads(folder)):
        storage.abort_multipart(upload.key, upload.upload_id)
    storage.erase(storage.QUARANTINE, folder)
    storage.erase(storage.VAULT, folder)
    storage.erase(storage.VAULT, f"evidence/{contribution_id}/")  # as reports.add_evidence does
    _note(contribution_id, drawn, now=now)


@transaction.atomic
def _begin(contribution_id: int, *, now: datetime) -> bool:
    """Note that the deletion begins, so that who places a hold learns that it comes too late; False: nothing to do."""
    rows = Contribution.objects.select_for_update(of=("self",)).select_related("programme")
    contribution = rows.get(pk=contribution_id)
    if not is_due(contribution, now=now) or not holds_files(contribution):
        return False
    if contribution.deletion_began_at is None:
        contribution.deletion_began_at = now
        contribution.save(update_fields=["deletion_began_at"])
    return True


@transaction.atomic
def _note(contribution_id: int, drawn: list[int], *, now: datetime) -> None:
    contribution = Contribution.objects.select_for_update().get(pk=contribution_id)
    if not holds_files(contribution):
        return  # another worker was there first
    files = contribution.files.exclude(state=State.DELETED)
    sha256 = list(files.order_by("name").values_list("sha256", flat=True))
    files.update(state=State.DELETED, deleted_at=now, vault_version="")
    contribution.evidence_files.filter(pk__in=drawn).delete()
    audit.record("contribution.files_deleted", contribution, by=None, sha256=sha256)
    announce(f"contribution-{contribution.pk}")
    if sha256:
        _tell(contribution)


def _tell(contribution: Contribution) -> None:
    notify(
        institutions.people_acting_for(contribution.institution),
        type=Type.CONTRIBUTION,
        subject=f"The files of {contribution} are deleted",
        text="They are gone from the consortium's store, with the pictures that the checks made of them. Their names "
        "and hashes, the results of the checks and the history stay:",
        path=contribution.get_absolute_url(),
    )
