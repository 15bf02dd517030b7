"""The tree over the audit log: making events, taking the log out of the database, asking the kit about it."""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.db import transaction

from jobs.kit.audit import Given, verify
from jobs.kit.findings import verdict
from portal import signing
from portal.accounts.models import User
from portal.audit import sequencer, services, tree
from portal.audit.models import AuditEvent, Checkpoint


def happen(person: User, count: int = 1) -> list[AuditEvent]:
    """Record events, each in a transaction of its own."""
    found = []
    for number in range(count):
        with transaction.atomic():
            found.append(services.record("token.created", person, by=person, number=number))
    return found


def checkpoint(*, now: datetime) -> Checkpoint:
    """Sequence what waits and publish a checkpoint, an hour after the one before."""
    last = Checkpoint.objects.first()
    sequencer.run(now=max(now, last.at + timedelta(hours=1)) if last else now)
    return Checkpoint.objects.latest("size")


def exported(size: int) -> bytes:
    return "".join(tree.lines(size)).encode()


@dataclass
class Verifier:
    """Somebody with the kit, the portal's public key and a folder."""

    folder: Path

    def file(self, content: bytes) -> Path:
        path = self.folder / "log.jsonl"
        path.write_bytes(content)
        return path

    def findings(self, export: bytes | None = None, *, hashes: bytes | None = None, **given):
        if hashes is not None:
            (self.folder / "hashes").write_bytes(hashes)
            given["hashes"] = self.folder / "hashes"
        path = None if export is None else self.file(export)
        return verify(Given(export=path, **given), keys=[signing.public_key()])

    def verdict(self, export: bytes | None = None, **given) -> str:
        return verdict(self.findings(export, **given))

    def refusals(self, export: bytes | None = None, **given) -> list[str]:
        return [finding.sentence for finding in self.findings(export, **given) if finding.verdict == "fail"]


def root_of(note: str) -> bytes:
    return base64.b64decode(note.split("\n")[2])
