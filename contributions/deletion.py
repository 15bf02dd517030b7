"""
Deleting the files of contributions that are closed. Their rows stay: names, hashes, results of checks, history.

Of a withdrawn one they go by themselves within the days that the agreement gives; of every closed one at the word of
its institution (GDPR, Art. 5(1)(e): kept no longer than the purpose needs).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from django.db import transaction
from django.db.models import Q

from contributions.lifecycle import CLOSED, Status
from contributions.models import Contribution, ContributionFile
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
from portal.queue import attempt, enqueue

MARGIN = timedelta(days=2)  # so long before the agreement's last day: a store may be away for a while
State = ContributionFile.State


class NothingToDelete(DomainError):
    """The contribution is not closed, its files are gone, or their deletion was asked already."""

    code = "nothing_to_delete"
    status = HTTPStatus.CONFLICT


def holds_files(contribution: Contribution) -> bool:
    """Test if the store holds files of it."""
    return contribution.files.exclude(state=State.DELETED).exists()


def may_ask(contribution: Contribution) -> bool:
    """Test if its institution can have the files deleted now."""
    return contribution.status in CLOSED and contribution.deletion_asked_at is None and holds_files(contribution)


def after_withdrawal(contribution: Contribution) -> timedelta | None:
    """Return how long after its withdrawal its files are deleted; None where no agreement says so."""
    days = agreements.days_to_delete(contribution.programme, contribution.kind)
    return None if days is None else max(timedelta(days=days) - MARGIN, timedelta(0))


def due_at(contribution: Contribution) -> datetime | None:
    """Return from when on its files are deleted; None where nobody asked and no agreement says so."""
    if contribution.deletion_asked_at is not None:
        return contribution.deletion_asked_at
    wait = after_withdrawal(contribution) if contribution.status == Status.WITHDRAWN else None
    return None if wait is None else contribution.status_since + wait


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
        return Outlook(sum(held), since, since is not None and since <= now, None)
    return Outlook(None, since, True, max(file.deleted_at for file in files if file.deleted_at))


@transaction.atomic
def ask(contribution: Contribution, *, by: User, now: datetime) -> Contribution:
    """
    Have the files of a closed contribution deleted at once, which nobody can undo.

    Raises:
        NothingToDelete: it is not closed, or there is nothing left to ask for.
    """
    require_steward(by, contribution.institution)
    contribution = Contribution.objects.select_for_update().get(pk=contribution.pk)
    if not may_ask(contribution):
        state = contribution.get_status_display().lower()
        raise NothingToDelete(
            f"{contribution} is {state}, and no file of it waits to be deleted. Withdraw it first if it is in use.",
            next_url=contribution.get_absolute_url(),
        )
    contribution.deletion_asked_at = now
    contribution.save(update_fields=["deletion_asked_at"])
    audit.record("contribution.deletion_asked", contribution, by=by)
    enqueue("jobs.delete_files", contribution_id=contribution.pk)
    announce(f"contribution-{contribution.pk}")
    return contribution


# For workers


def due(*, now: datetime) -> Iterator[Contribution]:
    """Yield the contributions whose files are to be deleted."""
    holding = ContributionFile.objects.exclude(state=State.DELETED).values("contribution")
    wanted = Q(status=Status.WITHDRAWN) | Q(deletion_asked_at__isnull=False)
    rows = Contribution.objects.filter(wanted, pk__in=holding).select_related("programme", "institution")
    for contribution in rows.order_by("pk"):
        since = due_at(contribution)
        if since is not None and since <= now:
            yield contribution


def delete_due(*, now: datetime) -> None:
    """Delete what is due; one that fails stops no other, and is tried again next time."""
    for contribution in list(due(now=now)):
        attempt(delete_files, contribution.pk, now=now)


def delete_files(contribution_id: int, *, now: datetime) -> None:
    """
    Delete the files of a contribution for which it is time, and what the checks drew from them. Safe to repeat.

    Outside any transaction: the store goes first, so that a crash leaves rows that say what is still to be done.
    """
    contribution = Contribution.objects.select_related("programme", "institution").get(pk=contribution_id)
    since = due_at(contribution)
    if since is None or since > now or not holds_files(contribution):
        return
    for file in contribution.files.filter(state=State.UPLOADING):
        storage.abort_multipart(file.storage_key, file.upload_id)
    storage.erase(storage.QUARANTINE, f"contributions/{contribution.pk}/")  # as uploads.add_file names them
    storage.erase(storage.VAULT, f"contributions/{contribution.pk}/")
    storage.erase(storage.VAULT, f"evidence/{contribution.pk}/")  # as reports.add_evidence does
    _note(contribution_id, now=now)


@transaction.atomic
def _note(contribution_id: int, *, now: datetime) -> None:
    contribution = Contribution.objects.select_for_update().get(pk=contribution_id)
    if not holds_files(contribution):
        return  # another worker was there first
    files = contribution.files.exclude(state=State.DELETED)
    sha256 = list(files.exclude(state=State.UPLOADING).order_by("name").values_list("sha256", flat=True))
    files.filter(state=State.UPLOADING).delete()  # no such file ever arrived
    files.update(state=State.DELETED, deleted_at=now, vault_version="")
    contribution.evidence_files.all().delete()
    audit.record("contribution.files_deleted", contribution, by=None, sha256=sha256)
    announce(f"contribution-{contribution.pk}")
    notify(
        institutions.people(contribution.institution),
        type=Type.CONTRIBUTION,
        subject=f"The files of {contribution} are deleted",
        text="They are gone from the consortium's store, with the pictures that the checks made of them. Their names "
        "and hashes, the results of the checks and the history stay:",
        path=contribution.get_absolute_url(),
    )
