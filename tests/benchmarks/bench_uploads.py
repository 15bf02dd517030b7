"""
An upload by the kit that is killed again and again: what is sent twice, and whether the file arrives whole.

The kit sends a file to the portal as `make run` starts it, in a process of its own that SIGKILL ends at a seeded random
moment, as a power cut does; the same command then goes on. A part is sent again when a process began to send it and a
later one began once more: at most one for each sending thread of the process that was killed. A part that the store
listed after a kill is never sent again. At the end the object's SHA-256 is the file's.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from jobs.kit import transfer
from jobs.kit.client import Portal
from tests.benchmarks.bench_web import report
from tests.running_portal import ROOT, RunningPortal, running_portal

AGAIN_GOAL = 1.0  # parts sent again by one interruption, for each that was on its way
MIB = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--interruptions", type=int, default=50)
    parser.add_argument("--connections", type=int, default=transfer.CONNECTIONS, help="parts on the way at once")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-uploads-") as folder, running_portal() as portal:
        path = Path(folder) / "weights.safetensors"
        sha256 = write_file(path, options.size_mib, options.seed)
        upload = Upload(portal, *inside(portal, "bench_uploads.begin()"), path, options.connections)
        return interrupted(upload, sha256, options.interruptions, random.Random(options.seed))


def write_file(path: Path, size_mib: int, seed: int) -> str:
    """Write random bytes, no two parts alike, and return their SHA-256."""
    rng, digest = np.random.default_rng(seed), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size_mib):
            block = rng.bytes(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


# Inside the portal, called by its shell


def begin() -> list[Any]:
    """Draft a contribution; return its number and a token for the kit."""
    from django.utils import timezone

    from portal.accounts import services as accounts

    contribution, steward = drafted()
    return [contribution.pk, accounts.create_token(steward, name="bench", now=timezone.now())]


def drafted() -> tuple[Any, Any]:
    """Draft a contribution as a steward of the demonstration; return both."""
    from django.utils import timezone

    from contributions import services as contributions
    from portal.institutions import services as institutions
    from portal.institutions.models import Institution
    from portal.programmes.models import BaseModel
    from tests.contributing import CARD

    institution = Institution.objects.get(slug="ganga-retina-institute")
    given = {"by": institutions.people(institution, "steward").earliest("pk"), "now": timezone.now()}
    contribution = contributions.draft(
        institution, kind="weights", title="Bench", base_model=BaseModel.objects.get(), training_card=CARD, **given
    )
    return contribution, given["by"]


def arrived(contribution_id: int) -> str:
    """Return the SHA-256 of the object in quarantine, read whole."""
    from contributions.models import ContributionFile
    from portal import storage

    digest = hashlib.sha256()
    file = ContributionFile.objects.get(contribution=contribution_id)
    for block in storage.stream(storage.QUARANTINE, file.storage_key):
        digest.update(block)
    return digest.hexdigest()


def inside(portal: RunningPortal, call: str) -> Any:
    """Call a function of a benchmark in the portal's shell and return what it returned."""
    module = call.partition(".")[0]
    code = f"import json; from tests.benchmarks import {module}; print(json.dumps({call}))"
    return json.loads(portal.manage("shell", "--no-imports", "-c", code).splitlines()[-1])


# The process that is killed


def send(url: str, contribution_id: int, path: str, connections: int) -> None:
    """Upload as the kit's command does, and print each part as it is begun and each block as it is sent."""
    to_store = transfer.to_store

    def telling(method: str, address: str, **kwargs: Any) -> Any:
        found = re.search(r"[?&]partNumber=(\d+)", address)
        assert found
        _tell(part=int(found[1]), thread=threading.get_ident())
        return to_store(method, address, **kwargs)

    transfer.to_store = telling
    portal = Portal(url, os.environ["CONSORTIUM_TOKEN"])
    transfer.upload(portal, contribution_id, path, connections=connections, on_progress=_progress)


def _progress(done: int, total: int, text: str) -> None:
    _tell(done=done, total=total, text=text)


def _tell(**event: Any) -> None:
    """Write a line in one piece, at once: whoever is killed next has told what it began."""
    os.write(sys.stdout.fileno(), json.dumps(event).encode() + b"\n")


# Around it


@dataclass
class Process:
    """One start of the kit: the parts it began, each with its thread, the bytes it sent, what the store had after."""

    begun: list[tuple[int, int]] = field(default_factory=list)
    missing_bytes: int = -1  # in the store when it began to send, as the kit saw it; negative while the file is hashed
    sent_bytes: int = 0
    killed: bool = False
    listed: set[int] = field(default_factory=set)

    def take(self, event: dict[str, Any]) -> None:
        if "part" in event:
            self.begun.append((event["part"], event["thread"]))
        elif event["text"].startswith("Sending"):
            missing = event["total"] - event["done"]
            self.missing_bytes = missing if self.missing_bytes < 0 else self.missing_bytes
            self.sent_bytes = max(self.sent_bytes, self.missing_bytes - missing)

    def is_due(self, share: float) -> bool:
        """Test if it sent this share of what was missing, or so much that another part might end the upload."""
        limit = min(share * self.missing_bytes, self.missing_bytes - transfer.PART_SIZE_BYTES)
        return self.missing_bytes >= 0 and self.sent_bytes > limit


@dataclass
class Upload:
    """The upload of one file to one contribution."""

    portal: RunningPortal
    contribution_id: int
    token: str
    path: Path
    connections: int

    def run(self, share: float | None) -> Process:
        """
        Start the kit and read what it tells, to the end; kill it once it has sent this share of what was missing.

        Shares, not seconds: a clock strikes while the file is hashed, or when all is over, on another machine.
        """
        found = Process()
        with subprocess.Popen(self._command(), cwd=ROOT, env=self._environment(), stdout=subprocess.PIPE) as kit:
            assert kit.stdout
            for line in kit.stdout:
                found.take(json.loads(line))
                if share is not None and not found.killed and found.is_due(share):
                    kit.kill()
                    found.killed = True
        assert kit.returncode == (-signal.SIGKILL if found.killed else 0), kit.returncode
        found.listed = self._listed()
        return found

    def _command(self) -> list[str]:
        given = (self.portal.url, self.contribution_id, str(self.path), self.connections)
        call = f"bench_uploads.send(*{given!r})"
        return [sys.executable, "-c", f"from tests.benchmarks import bench_uploads; {call}"]

    def _environment(self) -> dict[str, str]:
        return {**self.portal.environment, "CONSORTIUM_TOKEN": self.token}

    def _listed(self) -> set[int]:
        """Return the parts that the store holds, as it tells the portal."""
        portal = Portal(self.portal.url, self.token)
        (file,) = portal.contribution(self.contribution_id)["files"]
        return set(portal.file(self.contribution_id, file["id"])["parts_uploaded"])


def interrupted(upload: Upload, sha256: str, times: int, rng: random.Random) -> int:
    """Kill the upload so many times, then let it end; report what was sent again."""
    began = time.perf_counter()
    processes = [upload.run(rng.uniform(0, 2 / left)) for left in range(times, 0, -1)]  # an even share, on average
    processes.append(upload.run(None))
    seconds = time.perf_counter() - began
    assert [process.killed for process in processes] == [True] * times + [False]
    arrives = inside(upload.portal, f"bench_uploads.arrived({upload.contribution_id})")
    assert arrives == sha256, "Other bytes arrived."
    return judged(processes, upload, seconds)


def again(processes: list[Process]) -> list[Counter[int]]:
    """Return for each process that was killed the parts which a later one began again, counted by thread."""
    later: set[int] = set()
    found = []
    for process in reversed(processes):
        found.append(Counter(thread for part, thread in dict(process.begun).items() if part in later))
        later |= {part for part, _ in process.begun}
    return found[:0:-1]


def judged(processes: list[Process], upload: Upload, seconds: float) -> int:
    for before, after in pairwise(processes):
        assert not before.listed & {part for part, _ in after.begun}, "A part that the store held was sent again."
    lost = again(processes)
    each = [threads.total() for threads in lost]
    size_bytes = upload.path.stat().st_size
    parts, puts = -(-size_bytes // transfer.PART_SIZE_BYTES), sum(len(process.begun) for process in processes)
    assert puts == parts + sum(each), "A process sent a part of its own twice."
    sent = sum(process.sent_bytes for process in processes) / size_bytes
    detail = (
        f"n={len(lost)} most {max(each)}, mean {sum(each) / len(each):.1f}, {upload.connections} at once; {parts} parts"
        f" in {puts} PUTs, {sent:.2f}x the bytes, {size_bytes / MIB:.0f} MiB in {seconds:.0f} s, SHA-256 equal"
    )
    worst = max(max(threads.values(), default=0) for threads in lost)
    return report("upload parts sent again, a thread and kill", worst, AGAIN_GOAL, higher=False, detail=detail)


if __name__ == "__main__":
    sys.exit(main())
