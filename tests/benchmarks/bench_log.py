"""
The audit log: what an event costs who makes a change, and what the whole log costs who verifies it.

Eight clients commit changes of one row each, alternately with and without an event, on the portal as `make run` starts
it, its sequencer at work. Verification: the kit on an export of 1,000,000 events, beside a bare SHA-256 of its lines.
"""

import argparse
import base64
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.kit import merkle, notes
from tests.benchmarks.bench_web import p95, report
from tests.running_portal import ROOT, RunningPortal, running_portal

RATE_GOAL = 0.3  # changes with an event per second, of those without
P95_GOAL = 4.0  # how many times as long a change with an event takes
VERIFY_GOAL = 3.0  # of a bare SHA-256 of every line: a tree has one more hash a leaf
MEMORY_GOAL = 1.5  # peak memory of 1,000,000 events to that of 10,000
ROUNDS = 5
ORIGIN = "bench.example/log"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the log that is verified")
    events = parser.parse_args().events
    with running_portal() as portal:
        code = writing(portal)
    return max(code, verifying(events))


def writing(portal: RunningPortal) -> int:
    """Compare eight clients that record with the same that do not."""
    out = portal.manage("shell", "-v", "0", "-c", (Path(__file__).parent / "writers.py").read_text())
    found = json.loads(out.strip().splitlines()[-1])
    bare, recorded, changes = found["bare"], found["recorded"], found["changes"]
    rate = statistics.median(plain[0] / with_event[0] for plain, with_event in zip(bare, recorded, strict=True))
    times = [(p95(plain[1]), p95(with_event[1])) for plain, with_event in zip(bare, recorded, strict=True)]
    per_second = changes / statistics.median(seconds for seconds, _ in recorded)
    plain_ms, event_ms = (statistics.median(column) for column in zip(*times, strict=True))
    detail = f"n={len(bare)} {per_second:.0f} events/s at 8 clients, in the tree {found['behind']:.1f} s after the last"
    added = f"n={len(bare)} p95 {plain_ms:.1f} -> {event_ms:.1f} ms: an event adds {event_ms - plain_ms:.1f} ms"
    return max(
        report("log changes/s with an event / without", rate, RATE_GOAL, higher=True, detail=detail),
        report(
            "log p95 of a change with / without",
            statistics.median(b / a for a, b in times),
            P95_GOAL,
            higher=False,
            detail=added,
        ),
    )


# Verification


def verifying(events: int) -> int:
    """Time `consortium audit verify` as an outsider runs it, start included, beside the bare hashing of the lines."""
    with tempfile.TemporaryDirectory(prefix="bench-log-") as name:
        folder = Path(name)
        key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"bench").digest())
        arguments = written_log(folder, events, key)
        pairs = [(_bare(folder / "log.jsonl"), _verified(arguments)) for _ in range(ROUNDS + 1)][1:]
        peak = _peak(arguments)
        (folder / "small").mkdir()
        small = _peak(written_log(folder / "small", 10_000, key))
    ratio = statistics.median(ours / bare for bare, ours in pairs)
    seconds = statistics.median(ours for _, ours in pairs)
    detail = f"n={ROUNDS} {events} events verified in {seconds:.2f} s, {events / seconds:.0f}/s"
    memory = f"{peak / 1024:.0f} MiB at {events} events, {small / 1024:.0f} MiB at 10000"
    return max(
        report("log verification / bare SHA-256 of the lines", ratio, VERIFY_GOAL, higher=False, detail=detail),
        report("log verification, memory", peak / small, MEMORY_GOAL, higher=False, detail=memory),
    )


def written_log(folder: Path, events: int, key: Ed25519PrivateKey) -> list[str]:
    """Write an export as the portal's, a signed checkpoint of it and one of its half; return the kit's arguments."""
    tree, half = merkle.Tree(), b""
    with (folder / "log.jsonl").open("wb") as file:
        for number in range(events):
            if number == events // 2:
                half = _note(tree, key)
            line = json.dumps(_event(number), separators=(",", ":"), sort_keys=True).encode()
            tree.add([merkle.leaf_hash(line)])
            file.write(line + b"\n")
    (folder / "latest").write_bytes(_note(tree, key))
    (folder / "half").write_bytes(half)
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    files = {"--checkpoint": "latest", "--earlier": "half"}
    options = [part for option, file in files.items() for part in (option, str(folder / file))]
    return ["audit", "verify", str(folder / "log.jsonl"), "--key", public, *options]


def _event(number: int) -> dict[str, object]:
    return {
        "actor_id": number % 2000, "at": f"2026-11-26T12:00:00.{number % 1_000_000:06}Z", "facts": {"number": number},
        "id": number + 1, "institution_id": number % 200, "nonce": "5f0c2c1e-9b1f-4c36-8d5a-3f0f4b1f2a77",
        "subject": f"Contribution C-{number % 5000}: weights of the second round", "subject_id": number % 5000,
        "subject_type": "contribution", "verb": "contribution.file_completed",
    }  # fmt: skip


def _note(tree: merkle.Tree, key: Ed25519PrivateKey) -> bytes:
    text = f"{ORIGIN}\n{tree.size}\n{base64.b64encode(tree.root()).decode()}\n"
    public = key.public_key().public_bytes_raw()
    signature = base64.b64encode(notes.key_id(ORIGIN, public) + key.sign(text.encode())).decode()
    return f"{text}\n\N{EM DASH} {ORIGIN} {signature}\n".encode()


def _bare(path: Path) -> float:
    began = time.perf_counter()
    with path.open("rb") as file:
        for line in file:
            hashlib.sha256(line).digest()
    return time.perf_counter() - began


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-c", "import sys; from jobs.kit.cli import main; sys.exit(main())", *arguments]


def _verified(arguments: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(_command(arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - began


def _peak(arguments: list[str]) -> int:
    """Return the most memory that a verification held, in KiB."""
    watcher = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    argv = [sys.executable, "-c", watcher, *_command(arguments)]
    return int(subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
