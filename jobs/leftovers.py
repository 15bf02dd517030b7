"""What lies in the store for nobody: parts of uploads that ended, copies of vault files, objects without a row."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from django.db.models import F

from contributions.corpora.models import DataSet
from contributions.lifecycle import Status
from contributions.models import ContributionFile, Evidence, Hold
from governance.releases.models import Candidate, ReleaseFile
from jobs import services
from jobs.engine import Attempt
from jobs.models import Inspection
from portal import storage
from portal.institutions.models import Document
from portal.programmes.models import BaseModel

SETTLED_AFTER = timedelta(days=1)  # what is younger may be on its way
BUCKETS = (storage.QUARANTINE, storage.VAULT, storage.RELEASES)
REMOVED = ("upload", "copy", "unknown")  # from quarantine; vault and releases give nothing away by themselves
MOST_EXAMPLES = 20
AT_ONCE = 500
LOG_FOLDER = "checkpoints/"  # of the verifiable log: its checkpoints are rows by size, not by key
REFERENCE = ".reference.safetensors"


@dataclass(frozen=True)
class Leftover:
    """One object or unfinished upload. `kind`: upload, copy, unknown (in quarantine) or stray (elsewhere)."""

    kind: str
    bucket: str
    key: str
    size_bytes: int
    upload_id: str = ""


def take_stock(attempt: Attempt, *, clear: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Count what each bucket holds and what is left over there, and remove that from quarantine if `clear`."""
    buckets: dict[str, Any] = {bucket: {"count": 0, "bytes": 0} for bucket in BUCKETS}
    left: dict[str, Any] = {}
    for found in [*(_of_bucket(attempt, bucket, buckets[bucket]) for bucket in BUCKETS), _uploads()]:
        for leftover in found:
            attempt.check()
            _note(left, leftover, is_removed=clear and _remove(attempt, leftover))
    return buckets, left


def _note(left: dict[str, Any], leftover: Leftover, *, is_removed: bool) -> None:
    row = left.setdefault(leftover.kind, {"count": 0, "bytes": 0, "removed": 0, "examples": []})
    row["count"] += 1
    row["bytes"] += leftover.size_bytes
    row["removed"] += is_removed
    if len(row["examples"]) < MOST_EXAMPLES:
        row["examples"].append(f"{leftover.bucket}/{leftover.key}")


def _of_bucket(attempt: Attempt, bucket: str, counted: dict[str, int]) -> Iterator[Leftover]:
    settled_before = services.now() - SETTLED_AFTER
    listed = storage.objects(bucket)
    while some := list(islice(listed, AT_ONCE)):
        counted["count"] += len(some)
        counted["bytes"] += sum(one.size_bytes for one in some)
        attempt.progress(counted["count"], counted["count"], f"Listing what lies in {bucket}")
        kinds = _kinds(bucket, [one.key for one in some])
        for one in some:
            if kinds[one.key] and one.changed_at <= settled_before:
                yield Leftover(kinds[one.key], bucket, one.key, one.size_bytes)


def _kinds(bucket: str, keys: list[str]) -> dict[str, str]:
    """Return what kind of leftover each object is; empty where somebody needs it."""
    match bucket:
        case storage.QUARANTINE:
            needed, other = _wanted_in_quarantine(keys), "unknown"
        case storage.VAULT:
            needed, other = _named_in_vault(keys), "stray"
        case _:
            needed, other = _named(ReleaseFile, keys), "stray"
            needed |= {key for key in keys if key.startswith(LOG_FOLDER)}
    copies = _copied(keys) if bucket == storage.QUARANTINE else set()
    return {key: "copy" if key in copies else "" if key in needed else other for key in keys}


def _named(model: Any, keys: Iterable[str], field: str = "storage_key") -> set[str]:
    return set(model.objects.filter(**{f"{field}__in": keys}).values_list(field, flat=True))


def _wanted_in_quarantine(keys: list[str]) -> set[str]:
    return _files_held(keys) | _named(Document, keys, "key")


def _files_held(keys: list[str]) -> set[str]:
    rows = ContributionFile.objects.filter(storage_key__in=keys).exclude(state=ContributionFile.State.DELETED)
    return set(rows.values_list("storage_key", flat=True))


def _named_in_vault(keys: list[str]) -> set[str]:
    models = (Evidence, DataSet, BaseModel, Candidate)
    weights = {key: key.removesuffix(REFERENCE) + ".safetensors" for key in keys if key.endswith(REFERENCE)}
    bases = _named(BaseModel, weights.values())
    references = {key for key, base in weights.items() if base in bases}
    return references.union(_files_held(keys), *(_named(model, keys) for model in models))


def _copied(keys: list[str]) -> set[str]:
    """Return the files that were copied to the vault, that no check reads any more and no hold keeps back."""
    rows = ContributionFile.objects.filter(storage_key__in=keys).exclude(vault_version="")
    rows = rows.exclude(state=ContributionFile.State.REFUSED)  # its checks may be made again
    rows = rows.exclude(contribution__status__in=[Status.SUBMITTED, Status.VALIDATING])
    rows = rows.exclude(contribution__in=Hold.objects.standing().values("contribution"))
    return set(rows.values_list("storage_key", flat=True))


def _uploads() -> Iterator[Leftover]:
    """Yield the uploads that no draft continues, with the bytes of their parts."""
    settled_before = services.now() - SETTLED_AFTER
    rows = ContributionFile.objects.filter(state=ContributionFile.State.UPLOADING)
    going_on = set(rows.values_list("storage_key", "upload_id"))
    for upload in storage.open_uploads():
        if (upload.key, upload.upload_id) not in going_on and upload.begun_at <= settled_before:
            parts = storage.list_parts(upload.key, upload.upload_id)
            size_bytes = sum(part.size_bytes for part in parts)
            yield Leftover("upload", storage.QUARANTINE, upload.key, size_bytes, upload.upload_id)


def _remove(attempt: Attempt, leftover: Leftover) -> bool:
    """Remove a leftover; return whether it is gone. A copy stays where the vault's own is not sound."""
    if leftover.kind not in REMOVED or leftover.kind == "copy" and not _is_in_vault(attempt, leftover.key):
        return False
    if leftover.kind != "upload" and _kinds(leftover.bucket, [leftover.key])[leftover.key] != leftover.kind:
        return False  # somebody needs it, since it was listed
    attempt.log(f"Removing {leftover.bucket}/{leftover.key}.")
    if leftover.kind == "upload":
        storage.abort_multipart(leftover.key, leftover.upload_id)
    else:
        storage.delete(leftover.bucket, leftover.key)
    Inspection.objects.filter(run=attempt.run).update(removed_count=F("removed_count") + 1)
    return True


def _is_in_vault(attempt: Attempt, key: str) -> bool:
    file = ContributionFile.objects.get(storage_key=key)

    def between(size_bytes: int) -> None:
        attempt.breathe(0, 0, f"Reading the vault's copy of {file.name}")

    return storage.digest(storage.VAULT, key, version=file.vault_version, on_block=between) == file.sha256
