"""Files that passed their checks, for workers: nobody gave them before, and they are copied to the vault."""

from django.db import connection, transaction

from contributions.lifecycle import LIVE, Status
from contributions.models import Contribution, ContributionFile
from portal import storage
from portal.errors import DomainError

State = ContributionFile.State


class CopyDamaged(DomainError):
    """The copy in the vault is not the file that was checked; a worker makes it again."""

    code = "copy_damaged"


class FileKnown(DomainError):
    """A file stands already in another contribution."""

    code = "file_known"


def promote_files(contribution_id: int) -> None:
    """
    Copy the files from quarantine to the vault, under the same keys, and hash the copies. Safe to repeat.

    Outside any transaction.

    Raises:
        CopyDamaged: a copy has other bytes than the file that was checked.
    """
    rows = ContributionFile.objects.filter(contribution=contribution_id, contribution__status=Status.VALIDATING)
    being_checked = rows.exclude(state=State.DELETED)  # none where it was withdrawn meanwhile
    for file in being_checked:
        version = storage.promote((storage.QUARANTINE, file.storage_key), (storage.VAULT, file.storage_key))
        if storage.digest(storage.VAULT, file.storage_key, version=version) != file.sha256:
            raise CopyDamaged(f"The vault's copy of {file.name} is not the file that was checked.")
        if not _kept(file, version):
            storage.erase(storage.VAULT, f"contributions/{contribution_id}/")
            return


@transaction.atomic
def _kept(file: ContributionFile, version: str) -> bool:
    """Note where the copy is; return False where the files began to be deleted while it was made."""
    if Contribution.objects.select_for_update().get(pk=file.contribution_id).deletion_began_at is not None:
        return False
    ContributionFile.objects.filter(pk=file.pk).update(vault_version=version)
    return True


def require_new(contribution: Contribution) -> None:
    """
    Raise FileKnown where a file of the contribution has passed in another one.

    Two checks may end at once: who comes second waits here, and finds the files of the first.
    """
    known = ContributionFile.objects.filter(state=State.VERIFIED, contribution__status__in=LIVE)
    for sha256 in contribution.files.order_by("sha256").values_list("sha256", flat=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [sha256])
        if known.filter(sha256=sha256).exclude(contribution=contribution).exists():
            name = contribution.files.filter(sha256=sha256)[0].name
            raise FileKnown(f"{name} is, byte for byte, a file of another contribution that was checked meanwhile.")
