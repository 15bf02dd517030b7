"""
Checks 1 to 6 straight from the object store, in the sandbox, against a download that is hashed afterwards.

Ours reads the object once, hashes it here, and sends it through a pipe to the sandboxed child, which does all of checks
1 to 6; nothing is written to a disk. The yardstick (BENCHMARKS.md P5) is boto3's `download_file` and `hashlib` on what
it wrote. Reading and hashing alone, on no disk, is told beside it: what no check can be faster than.
"""

import argparse
import hashlib
import json
import operator
import statistics
import sys
import tempfile
import time
from pathlib import Path

import boto3

from tests.benchmarks.bench_validate import build_base, build_file
from tests.benchmarks.bench_web import report
from tests.running_portal import running_portal

RATIO_GOAL = 0.6  # of download_file and SHA-256 (BENCHMARKS.md P5)
PEAK_GOAL_MIB = 96.0  # of the child


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--mb", type=int, default=1200, help="size of the weights file, 10^6 bytes")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with running_portal() as portal:
        call = f"measure({options.mb}, {options.rounds})"
        code = f"import json; from tests.benchmarks.bench_stream import *; print(json.dumps({call}))"
        found = json.loads(portal.manage("shell", "--no-imports", "-c", code).splitlines()[-1])
    names = ("downloaded", "hashed", "checked")
    rates = ", ".join(f"{name} {options.mb / found[name]:.0f} MB/s" for name in names)
    print(f"checks 1-6 from the store over reading and hashing it: {found['over_hashed']:.2f}")
    codes = (
        report("P5 checks 1-6 from the store", found["over_downloaded"], RATIO_GOAL, higher=False, detail=rates),
        report("peak MiB of the child", found["peak_mib"], PEAK_GOAL_MIB, higher=False, detail=""),
    )
    return max(codes)


# Inside the portal


def measure(megabytes: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each way, the medians of ours over the others, and the child's largest peak."""
    from portal import storage

    with tempfile.TemporaryDirectory() as folder:
        weights, base = Path(folder) / "w.safetensors", Path(folder) / "base"
        build_file(weights, megabytes)
        build_base(base, weights)
        with weights.open("rb") as file:
            storage.put(storage.QUARANTINE, "bench/stream", file)
        weights.unlink()
        found = [
            (downloaded(weights), hashed(), *checked(base, Path(folder) / f"out{number}"))
            for number in range(rounds + 1)
        ][1:]
    storage.delete(storage.QUARANTINE, "bench/stream")
    naive, alone, ours, peaks = zip(*found, strict=True)
    return {
        "downloaded": statistics.median(naive),
        "hashed": statistics.median(alone),
        "checked": statistics.median(ours),
        "over_downloaded": statistics.median(map(operator.truediv, ours, naive)),
        "over_hashed": statistics.median(map(operator.truediv, ours, alone)),
        "peak_mib": max(peaks),
    }


def downloaded(target: Path) -> float:
    """Return the seconds of a download as boto3 does it by itself, and of a hash of what it wrote."""
    from django.conf import settings

    from portal import storage

    s3 = boto3.client(
        "s3",
        endpoint_url=settings.S3_ENDPOINT_URL,
        region_name="us-east-1",
        aws_access_key_id=settings.S3_ACCESS_KEY_ID,
        aws_secret_access_key=settings.S3_SECRET_ACCESS_KEY,
    )
    began = time.perf_counter()
    s3.download_file(storage.bucket_name(storage.QUARANTINE), "bench/stream", str(target))
    with target.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def hashed() -> float:
    from portal import storage

    began = time.perf_counter()
    storage.digest(storage.QUARANTINE, "bench/stream")
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
    assert ended, (outcome, verdicts)
    assert (outcome.kind, ended[-1]["verdict"]) in {("finished", "pass"), ("finished", "warn")}, (outcome, verdicts)
    return seconds, (outcome.peak_rss_bytes or 0) / 2**20


if __name__ == "__main__":
    sys.exit(main())
