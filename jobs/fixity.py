"""
Looking through the store: is every file still what was registered, and what lies there for nobody?

Fixity is the archivists' word for it (PREMIS 3.0, 1.5.2; NDSA Levels of Digital Preservation 2.0, Integrity): hash what
was stored at fixed intervals, and compare.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from contributions import deletion
from contributions.corpora.models import DataSet
from contributions.models import ContributionFile, Evidence
from governance.releases.models import Candidate, ReleaseFile
from jobs import leftovers, services
from jobs.engine import Attempt
from jobs.lifecycle import ACTIVE, LIVE, Status
from jobs.models import Inspection, Run
from portal import storage
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions.models import Document
from portal.programmes.models import BaseModel

VERIFY_EVERY = timedelta(days=30)
STOPPED_AGAIN_AFTER = timedelta(days=1)
MOST_FAULTS = 200  # that are kept with their names; all are counted
SITE = 0  # the subject of these runs


@dataclass(frozen=True)
class Registered:
    """One object as a table registered it. `name` is for people."""

    bucket: str
    key: str
    sha256: str
    name: str
    version: str = ""


def _base(row: BaseModel) -> list[Registered]:
    weights = Registered(storage.VAULT, row.storage_key, row.sha256, f"Base model {row}")
    if not row.reference_key:
        return [weights]
    return [weights, Registered(storage.VAULT, row.reference_key, row.reference_sha256, f"Reference images of {row}")]


def _file(row: ContributionFile) -> list[Registered]:
    name = f"{row.name} of {row.contribution}"
    return [Registered(storage.VAULT, row.storage_key, row.sha256, name, row.vault_version)]


def _evidence(row: Evidence) -> list[Registered]:
    return [Registered(storage.VAULT, row.storage_key, row.sha256, f"Evidence {row.name} on {row.contribution}")]


def _in_vault(row: DataSet | Candidate) -> list[Registered]:
    return [Registered(storage.VAULT, row.storage_key, row.sha256, str(row))]


def _release(row: ReleaseFile) -> list[Registered]:
    return [Registered(storage.RELEASES, row.storage_key, row.sha256, f"{row.name} of {row.release}")]


def _document(row: Document) -> list[Registered]:
    name = f"Ethics document {row.version} of {row.institution}"
    return [Registered(storage.QUARANTINE, row.key, row.sha256, name)]


# Each table that names objects, and how to read one of its rows. The order is that of a verification.
TABLES: dict[str, tuple[QuerySet[Any], Callable[[Any], list[Registered]]]] = {
    "base": (BaseModel.objects.all(), _base),
    "dataset": (DataSet.objects.all(), _in_vault),
    "file": (ContributionFile.objects.exclude(vault_version="").select_related("contribution"), _file),
    "evidence": (Evidence.objects.select_related("contribution"), _evidence),
    "candidate": (Candidate.objects.exclude(storage_key=""), _in_vault),
    "release": (ReleaseFile.objects.select_related("release"), _release),
    "document": (Document.objects.filter(state=Document.State.STORED).select_related("institution"), _document),
}


def registered(*, after: str = "") -> Iterator[tuple[str, list[Registered]]]:
    """Yield (place, what the row there names) of every table, from behind a place on."""
    names = list(TABLES)
    table, _, number = after.partition(":")
    for name in names[names.index(table) :] if table else names:
        rows, read = TABLES[name]
        rows = rows.filter(pk__gt=int(number)) if name == table else rows.all()
        for row in rows.order_by("pk").iterator(chunk_size=500):
            yield f"{name}:{row.pk}", read(row)


def _is_current(place: str, files: list[Registered]) -> bool:
    """Test if a row still names these objects: since it was read, its contribution's files may have been deleted."""
    table, _, number = place.partition(":")
    rows, read = TABLES[table]
    row = rows.filter(pk=int(number)).first()
    if row is None or read(row) != files:
        return False
    contribution = getattr(row, "contribution", None)
    return contribution is None or not deletion.is_due(contribution, now=services.now())


def newest(*, verification: bool = False) -> Inspection | None:
    """Return the last inspection that came to its end, or the last of them that read every file."""
    rows = Inspection.objects.filter(finished_at__isnull=False).select_related("run")
    return (rows.filter(is_verification=True) if verification else rows).first()


def queue(*, verify: bool = True, clear: bool = False, by: User | None, now: datetime) -> Run:
    """
    Queue a look through the store; one that waits or is at work is returned as it is.

    Args:
        verify: read every registered file and compare its SHA-256.
        clear: remove from quarantine what nobody needs (leftovers.REMOVED).
        by: an operator, or None for the portal itself.
    """
    if by is not None and not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator has the store looked through.")
    title = "Verify the stored files" if verify else "Remove what nobody needs from the store"
    inputs = {"verify": verify, "clear": clear}
    return services.queue_run(Run.Kind.INSPECT, SITE, title=title, inputs=inputs, by=by, now=now)


def queue_due(*, now: datetime) -> Run | None:
    """
    Queue a verification where the last began long ago or none ever did; None where there is nothing to do.

    One that was stopped has not read everything, so it is asked for again the next day.
    """
    asked = Run.objects.filter(kind=Run.Kind.INSPECT, inputs__verify=True, created_at__gt=now - VERIFY_EVERY)
    recent = asked.filter(Q(status__in=[*LIVE, Status.SUCCEEDED]) | Q(created_at__gt=now - STOPPED_AGAIN_AFTER))
    if recent.exists() or next(registered(), None) is None:
        return None
    return queue(by=None, now=now)


def inspect(attempt: Attempt) -> None:
    """Read every registered file, take stock of the buckets, and store what was found."""
    run = attempt.run
    with services.fenced(run):
        row, _ = Inspection.objects.get_or_create(run=run, defaults={"is_verification": run.inputs["verify"]})
    if row.is_verification:
        Verification(attempt, row).read()
    row.buckets, row.leftovers = leftovers.take_stock(attempt, clear=run.inputs["clear"])
    with services.fenced(run):
        row.finished_at = services.now()
        row.save(update_fields=["buckets", "leftovers", "finished_at"])
        if run.inputs["clear"]:
            row.refresh_from_db(fields=["removed_count"])
            audit.record("store.cleared", run, by=run.requested_by, removed=row.removed_count)
        found = {"files": row.file_count, "bytes": row.byte_count, "faults": row.fault_count, "first": row.faults}
        services.succeed(run, result_sha256=services.digest(found), now=services.now())


class Verification:
    """One attempt's way through the registered files; where it stops, the next goes on."""

    def __init__(self, attempt: Attempt, row: Inspection) -> None:
        self.attempt, self.row = attempt, row
        self.total = sum(rows.count() for rows, _ in TABLES.values())
        self.read_bytes, self.name = 0, ""

    def read(self) -> None:
        """Hash what every row names. Raises GaveWay or Superseded between two blocks."""
        try:
            for place, files in registered(after=self.row.position):
                before = self.read_bytes
                found = [fault for file in files if (fault := self._look(file))]
                if found and not _is_current(place, files):
                    found = []
                self._add(place, found, len(files), self.read_bytes - before)
        finally:
            self._keep()
        self.attempt.log(f"{self.row.file_count:,} files read, {self.row.fault_count:,} of them at fault.")

    def _look(self, file: Registered) -> dict[str, str] | None:
        """Return what is wrong with a file, or None."""
        self.name = file.name
        self._between(0)  # also where nothing is there to be read
        found = storage.digest(file.bucket, file.key, version=file.version, on_block=self._between)
        if found == file.sha256:
            return None
        self.attempt.log(f"{file.name} ({file.bucket}, {file.key}): {found or 'missing'}; {file.sha256} is registered.")
        names = {"name": file.name, "bucket": file.bucket, "key": file.key}
        return {**names, "sha256": file.sha256, "found": found or ""}

    def _between(self, size_bytes: int) -> None:
        self.read_bytes += size_bytes
        done = self.row.file_count  # a base's row may name two files
        if self.attempt.breathe(done, max(done, self.total), f"Reading {self.name}"):
            self._keep()

    def _add(self, place: str, found: list[dict[str, str]], files: int, size_bytes: int) -> None:
        row = self.row
        row.position, row.file_count, row.byte_count = place, row.file_count + files, row.byte_count + size_bytes
        row.fault_count += len(found)
        row.faults = [*row.faults, *found][:MOST_FAULTS]

    def _keep(self) -> None:
        """Write how far it is, unless another attempt holds the run."""
        run = self.attempt.run
        fields = ("position", "file_count", "byte_count", "fault_count", "faults")
        held = Inspection.objects.filter(run=run, run__attempt=run.attempt, run__status__in=ACTIVE)
        held.update(**{field: getattr(self.row, field) for field in fields})
