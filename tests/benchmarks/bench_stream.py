"""
Checks 1 to 6 straight from the object store, in the sandbox, against the hashing of the same object alone.

The yardstick reads the object and hashes it. Ours reads it once, hashes it here, and sends it through a pipe to the
sandboxed child, which hashes it again and does all of checks 1, 4 and 5; nothing is written to a disk.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_validate import build_base, build_file
from tests.benchmarks.bench_web import report
from tests.running_portal import running_portal

RATIO_GOAL = 1.15  # of reading and hashing alone (BENCHMARKS.md P1, here with the store in front)
PEAK_GOAL_MIB = 96.0  # of the child


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--mb", type=int, default=1000, help="size of the weights file, 10^6 bytes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with running_portal() as portal:
        call = f"measure({options.mb}, {options.rounds})"
        code = f"import json; from tests.benchmarks.bench_stream import *; print(json.dumps({call}))"
        found = json.loads(portal.manage("shell", "--no-imports", "-c", code).splitlines()[-1])
    ratio = found["checked"] / found["hashed"]
    rates = ", ".join(f"{name} {options.mb / found[name]:.0f} MB/s" for name in ("hashed", "checked"))
    codes = (
        report("checks 1-6 from the store over hashing it", ratio, RATIO_GOAL, higher=False, detail=rates),
        report("peak MiB of the child", found["peak_mib"], PEAK_GOAL_MIB, higher=False, detail=""),
    )
    return max(codes)


# Inside the portal


def measure(megabytes: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of hashing and of checking, and the largest peak of the child."""
    from portal import storage

    with tempfile.TemporaryDirectory() as folder:
        weights, base = Path(folder) / "w.safetensors", Path(folder) / "base"
        build_file(weights, megabytes)
        build_base(base, weights)
        with weights.open("rb") as file:
            storage.put(storage.QUARANTINE, "bench/stream", file)
        found = [(hashed(), *checked(base, Path(folder) / f"out{number}")) for number in range(rounds)]
    storage.delete(storage.QUARANTINE, "bench/stream")
    alone, ours, peaks = zip(*found, strict=True)
    return {"hashed": statistics.median(alone), "checked": statistics.median(ours), "peak_mib": max(peaks)}


def hashed() -> float:
    from portal import storage

    began, digest = time.perf_counter(), hashlib.sha256()
    for block in storage.stream(storage.QUARANTINE, "bench/stream"):
        digest.update(block)
    return time.perf_counter() - began


def checked(base: Path, out: Path) -> tuple[float, float]:
    """Return the seconds from the first byte to the verdict, and the child's peak MiB."""
    from jobs import sandbox
    from jobs.feed import Feed
    from jobs.validate import LIMITS
    from portal import storage

    out.mkdir(mode=0o777)
    verdicts: list[str] = []
    size = storage.size(storage.QUARANTINE, "bench/stream")
    argv = [sys.executable, "-m", "jobs.kit.child", "check", "--file", "/in/s", "--name", "w.safetensors"]
    argv += ["--stream-bytes", str(size), "--last", "6", "--base-dir", "/in/base", "--out", "/out"]
    began = time.perf_counter()
    feed = Feed(storage.stream(storage.QUARANTINE, "bench/stream"))
    outcome = sandbox.run(
        argv, read_only={"base": base}, output_dir=out, limits=LIMITS, on_line=verdicts.append, stdin=feed.start()
    )
    feed.finish()
    seconds = time.perf_counter() - began
    ended = [json.loads(line) for line in verdicts if '"end"' in line]
    assert (outcome.kind, ended[-1]["verdict"]) in {("finished", "pass"), ("finished", "warn")}, (outcome, verdicts)
    return seconds, (outcome.peak_rss_bytes or 0) / 2**20


if __name__ == "__main__":
    sys.exit(main())
