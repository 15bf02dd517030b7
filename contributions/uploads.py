"""Files on their way in: announced, signed part by part, completed. The bytes go straight to the store."""

import secrets
import unicodedata
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from contributions import kinds, room
from contributions.lifecycle import Status
from contributions.models import Contribution, ContributionFile
from contributions.readiness import may_contribute
from contributions.rules import require_steward
from portal import storage
from portal.accounts.models import User
from portal.agreements.rendering import JOINERS
from portal.agreements.services import AgreementRequired
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution
from portal.live import announce

MAX_PARTS_SIGNED = 20
State = ContributionFile.State


class FileRefused(DomainError):
    """The name, size or hash of a file cannot be accepted."""

    code = "file_refused"
    status = HTTPStatus.BAD_REQUEST


class FilesFixed(DomainError):
    """The files of a contribution change only while it is a draft."""

    code = "files_fixed"


class PartsRefused(DomainError):
    """The parts asked for do not exist in this file, or are too many at once."""

    code = "parts_refused"
    status = HTTPStatus.BAD_REQUEST


class FileGone(DomainError):
    """The file was taken out of the draft while something was done with it."""

    code = "file_gone"


class PartsMissing(DomainError):
    """Some parts have not arrived."""

    code = "parts_missing"


def _require_draft(contribution: Contribution, by: User) -> None:
    require_steward(by, contribution.institution)
    if contribution.institution.status != InstitutionStatus.MEMBER:
        raise NotAllowed(institutions.why_not_member(contribution.institution, "send files"))
    if contribution.status != Status.DRAFT:
        raise FilesFixed(
            f"{contribution} is {contribution.get_status_display().lower()}: its files cannot change any more. "
            "Start a corrected contribution to send others."
        )


def _require_open(contribution: Contribution, by: User) -> None:
    """Raise AgreementRequired too: nothing more comes in while no agreement is in force. What is here stays."""
    _require_draft(contribution, by)
    decision = may_contribute(contribution)
    if not decision.allowed:
        raise AgreementRequired(decision)


def check_announcement(*, name: str, size_bytes: int) -> None:
    """
    Raise FileRefused for a name or a size that no check needs to see.

    What is in the file, its extension included, is the worker's to judge: its answer says how to mend it.
    """
    if not name.strip() or name in {".", ".."} or len(name) > 200:
        raise FileRefused("The file needs a name of 1 to 200 characters. Rename it and try again.")
    shown = (c for c in name if c not in JOINERS)
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} or c in "/\\" for c in shown):
        raise FileRefused("The file's name holds a slash or an invisible character. Rename it and try again.")
    if not 0 <= size_bytes <= settings.UPLOAD_MAX_BYTES:
        raise FileRefused(
            f"{name} has {size_bytes:,} bytes; at most {settings.UPLOAD_MAX_BYTES:,} are accepted. "
            "Send the fine-tuned weights only, without the optimiser's state."
        )


def add_file(
    contribution: Contribution, *, name: str, size_bytes: int, parts_sha256: str, by: User, now: datetime
) -> ContributionFile:
    """
    Announce a file and open its upload; the same file again, from any browser or kit, continues what is there.

    Args:
        name: without folders; shown to the board.
        size_bytes: 0 to UPLOAD_MAX_BYTES. An empty file may come: check 1 says what is wrong with it.
        parts_sha256: SHA-256 of the binary SHA-256 of its parts of storage.PART_SIZE_BYTES, one after the other (the
            COMPOSITE checksum of S3), 64 hexadecimal digits. Unlike that of the whole it is known before a browser has
            read a file byte by byte.
    """
    _require_open(contribution, by)
    check_announcement(name=name, size_bytes=size_bytes)
    parts_sha256 = parts_sha256.lower()
    known = contribution.files.filter(parts_sha256=parts_sha256, size_bytes=size_bytes).first()
    if known is not None:
        return _reopen_if_stale(known, now=now)
    room.require(contribution.institution, name=name, size_bytes=size_bytes)  # before the store opens anything
    # Each announcement has a key of its own: what the store still does to one that was removed touches no other.
    key = f"contributions/{contribution.pk}/{parts_sha256}-{size_bytes}-{secrets.token_hex(4)}"
    upload_id = storage.begin_multipart(key)
    announced = ContributionFile(
        name=name, size_bytes=size_bytes, parts_sha256=parts_sha256, storage_key=key, upload_id=upload_id,
        added_at=now, part_size_bytes=storage.PART_SIZE_BYTES,
    )  # fmt: skip
    try:
        return _announce(contribution.pk, announced, by=by)
    except DomainError:
        storage.abort_multipart(key, upload_id)
        raise
    except IntegrityError:  # another window announced it first
        storage.abort_multipart(key, upload_id)
        return contribution.files.get(parts_sha256=parts_sha256, size_bytes=size_bytes)


@transaction.atomic
def _announce(contribution_id: int, file: ContributionFile, *, by: User) -> ContributionFile:
    contribution = Contribution.objects.select_for_update().get(pk=contribution_id)
    _require_open(contribution, by)
    # Of files that are announced at once, each counts what the one before took.
    institution = Institution.objects.select_for_update(no_key=True).get(pk=contribution.institution_id)
    room.require(institution, name=file.name, size_bytes=file.size_bytes)
    others = contribution.files.exclude(parts_sha256=file.parts_sha256, size_bytes=file.size_bytes)
    if others.count() >= (most := kinds.of(contribution.kind).most_files):
        raise FileRefused(
            f"{kinds.of(contribution.kind).what} are at most {most} files, and {others[0].name} is there already. "
            "Remove it first to send another."
        )
    if others.filter(name=file.name).exists():
        raise FileRefused(f"Another {file.name} is there already. Remove it first, or rename this one.")
    file.contribution = contribution
    file.save(force_insert=True)
    audit.record("contribution.file_added", contribution, by=by, **facts(file))
    announce(f"contribution-{contribution.pk}")
    return file


def _reopen_if_stale(file: ContributionFile, *, now: datetime) -> ContributionFile:
    """
    Open a new upload where the store has forgotten the old one, which it does after some days.

    Raises:
        FileGone: it is given up, or somebody removes it, at this moment.
    """
    stale = now - file.added_at >= timedelta(days=storage.ABORT_AFTER_DAYS)
    if file.state != State.UPLOADING or not stale or parts_uploaded(file):
        return file
    upload_id = storage.begin_multipart(file.storage_key)
    if not as_read(file).update(upload_id=upload_id, added_at=now, reminded_at=None):
        storage.abort_multipart(file.storage_key, upload_id)
    found = ContributionFile.objects.filter(pk=file.pk).first()
    if found is None:
        raise _gone(file)
    return found


def as_read(file: ContributionFile) -> QuerySet[ContributionFile]:
    """Return the file, for a query, where its upload is still the one that was looked at, and under way."""
    return ContributionFile.objects.filter(pk=file.pk, upload_id=file.upload_id, state=State.UPLOADING)


def _is_joined(file: ContributionFile) -> bool:
    """Test if the store holds the file whole: who was to say so in its row may have crashed before."""
    return storage.size(storage.QUARANTINE, file.storage_key) == file.size_bytes


def parts_uploaded(file: ContributionFile) -> list[int]:
    """Return the numbers of the parts that the store holds, joined or not."""
    everything = list(range(1, file.part_count + 1))
    if file.state != State.UPLOADING:
        return everything
    parts = [part.number for part in storage.list_parts(file.storage_key, file.upload_id)]
    return everything if not parts and _is_joined(file) else parts


def sign_parts(file: ContributionFile, parts: list[tuple[int, str]], *, by: User) -> list[dict[str, Any]]:
    """
    Return an address for each part, good for one PUT of exactly these bytes within 15 minutes.

    Args:
        parts: at most 20 pairs of number (from 1) and base64 SHA-256 of the part.
    """
    _require_open(file.contribution, by)
    if file.state != State.UPLOADING:
        raise FilesFixed(f"{file.name} is uploaded already. There is nothing left to send.")
    if not 1 <= len(parts) <= MAX_PARTS_SIGNED:
        raise PartsRefused(f"Ask for 1 to {MAX_PARTS_SIGNED} parts at a time.")
    if any(not 1 <= number <= file.part_count for number, _ in parts):
        raise PartsRefused(f"{file.name} has the parts 1 to {file.part_count:,}.")
    return [
        {
            "number": number,
            "url": storage.sign_part(
                file.storage_key, file.upload_id, number=number, size_bytes=_part_bytes(file, number), sha256=sha256
            ),
            "headers": {"x-amz-checksum-sha256": sha256},
        }
        for number, sha256 in parts
    ]


def facts(file: ContributionFile) -> dict[str, Any]:
    """Return what the audit log says of a file: its SHA-256 from the moment on when it is whole."""
    known = {"sha256": file.sha256} if file.sha256 else {"parts_sha256": file.parts_sha256}
    return {**known, "size_bytes": file.size_bytes}


def _part_bytes(file: ContributionFile, number: int) -> int:
    before = (number - 1) * file.part_size_bytes
    return min(file.part_size_bytes, file.size_bytes - before)


def complete_file(file: ContributionFile, *, sha256: str, by: User, now: datetime) -> ContributionFile:
    """
    Join the parts. Safe to repeat, also after a crash between the store's answer and ours.

    Args:
        sha256: of the whole file, 64 hexadecimal digits; the worker computes it again. The first one stands.
    Raises:
        PartsMissing: parts that have not arrived whole, by number.
        FileGone: somebody removed the file at this moment.
    """
    _require_open(file.contribution, by)
    if file.state != State.UPLOADING:
        return file
    parts = storage.list_parts(file.storage_key, file.upload_id)
    if parts or not _is_joined(file):
        arrived = {part.number for part in parts if part.size_bytes == _part_bytes(file, part.number)}
        _require_all(file, arrived)
        try:
            storage.complete_multipart(file.storage_key, file.upload_id, parts)
        except storage.UploadGone:
            raise _gone(file) from None
    try:
        return _uploaded(file, sha256=sha256.lower(), by=by, now=now)
    except FileGone:
        storage.delete(storage.QUARANTINE, file.storage_key)  # who took it out could not find it whole
        raise


def _require_all(file: ContributionFile, arrived: set[int]) -> None:
    missing = [number for number in range(1, file.part_count + 1) if number not in arrived]
    if missing:
        numbers = ", ".join(map(str, missing[:20])) + (", ..." if len(missing) > 20 else "")
        raise PartsMissing(
            f"{len(missing):,} of {file.part_count:,} parts of {file.name} have not arrived: {numbers}. "
            "Send these parts, then complete the file again."
        )


@transaction.atomic
def _uploaded(file: ContributionFile, *, sha256: str, by: User, now: datetime) -> ContributionFile:
    # The contribution first, as all do who take files out: the other way about two would wait for each other.
    contribution = Contribution.objects.select_for_update().get(pk=file.contribution_id)
    found = contribution.files.filter(pk=file.pk).first()
    if found is None:
        raise _gone(file)
    if found.state == State.UPLOADING:
        found.state, found.sha256, found.uploaded_at = State.UPLOADED, sha256, now
        found.save(update_fields=["state", "sha256", "uploaded_at"])
        audit.record("contribution.file_uploaded", contribution, by=by, **facts(found))
        announce(f"contribution-{contribution.pk}")
    return found


def _gone(file: ContributionFile) -> FileGone:
    return FileGone(f"{file.name} was taken out of the draft at this moment. Send it again if it belongs there.")


def remove_file(file: ContributionFile, *, by: User) -> None:
    """Take a file out of a draft; its bytes leave quarantine."""
    with transaction.atomic():
        contribution = Contribution.objects.select_for_update().get(pk=file.contribution_id)
        _require_draft(contribution, by)
        if not contribution.files.filter(pk=file.pk).delete()[0]:
            return  # another window was first
        audit.record("contribution.file_removed", contribution, by=by, **facts(file))
        announce(f"contribution-{contribution.pk}")
    forget(file)


def forget(file: ContributionFile) -> None:
    """Take the bytes of a file without a row out of quarantine: its parts, or all of it."""
    storage.abort_multipart(file.storage_key, file.upload_id)
    storage.delete(storage.QUARANTINE, file.storage_key)


def drop_unfinished(contribution: Contribution) -> None:
    """Forget the uploads that will never be completed; their parts go once the current transaction commits."""
    unfinished = list(contribution.files.filter(state=State.UPLOADING))
    contribution.files.filter(pk__in=[file.pk for file in unfinished]).delete()

    def forget_all() -> None:
        for file in unfinished:
            forget(file)

    transaction.on_commit(forget_all, robust=True)
