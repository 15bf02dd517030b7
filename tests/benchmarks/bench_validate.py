"""
P1 and P2 of the benchmarks: checks 1, 4, 5 and 6 of a weights file against `hashlib.sha256` of the same file, and
against the passes that everybody writes; and the verdict on the header of a sparse file of 10 GB.

    python tests/benchmarks/bench_validate.py [--mb 1200] [--rounds 5] [--folder DIR] [--json]

Both run alternately, each as a process of its own, on a float32 file of random values. Exit status 1 when a goal is
missed. Ours reads the base generator's file too, for the distance from it: twice the bytes. P1 is the median of the
pairwise wall-time ratios; P2 is the peak resident memory of our process as it reads it
itself at its end (VmHWM: ru_maxrss of a child includes what its parent held before exec).
"""

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
P1_GOAL = 1.15  # times the wall time of the yardstick
P2_GOAL_MIB = 96.0
NAIVE_GOAL = 3.5  # times our wall time
HEADER_GOAL_MS = 1000.0
TENSOR_VALUES = 1024 * 1024  # 4 MiB each, about the size of a ViT-L matrix

YARDSTICK = """
import hashlib, sys
digest = hashlib.sha256()
buffer = memoryview(bytearray(4 * 1024 * 1024))
with open(sys.argv[1], "rb", buffering=0) as file:
    while filled := file.readinto(buffer):
        digest.update(buffer[:filled])
print(digest.hexdigest())
"""
OURS = """
import os, sys
from jobs.kit.checks.container import check_container
from jobs.kit.checks.declaration import check_declaration
from jobs.kit.checks.dossier import Dossier
from jobs.kit.checks.numerics import check_numerics
from jobs.kit.checks.schema import check_schema
from jobs.kit.generator import load_base
base = load_base(os.path.join(os.path.dirname(sys.argv[1]), "base"))
first, container = check_container(sys.argv[1], base)
results = [first, check_schema(container, base), check_numerics(container, base)]
card = dict.fromkeys(("images", "patients", "steps", "batch_size", "seed"), 1) | {"learning_rate": 1e-4}
card |= dict.fromkeys(("augmentation", "deduplication", "cameras", "demographics"), "none") | {"dp": {"used": False}}
results.append(check_declaration(base, Dossier(card=card)))
assert [result.verdict for result in results] == ["pass"] * 4, results
print(results[2].evidence["sha256"])
"""
NAIVE = (
    YARDSTICK.replace("print(digest.hexdigest())", "")
    + """
import torch
from safetensors.torch import load_file
ours, base = load_file(sys.argv[1]), load_file(sys.argv[1].replace("weights.safetensors", "base/model.safetensors"))
for name, values in ours.items():
    assert torch.isfinite(values).all()
    values.min(), values.max(), values.mean(), values.std(), (values == 0).sum()
    (values - base[name]).norm(), base[name].norm()
print(digest.hexdigest())
"""
)
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
HEADER_ONLY = """
import sys, time
from jobs.kit.container import read_container
started = time.perf_counter()
read_container(sys.argv[1])
print((time.perf_counter() - started) * 1000)
"""


def build_file(path: Path, megabytes: int) -> None:
    """Write a safetensors file of about `megabytes` (10^6 bytes) of float32 normal values; every byte is on disk."""
    count = max(1, round(megabytes * 1e6 / (4 * TENSOR_VALUES)))
    rng = np.random.default_rng(0)
    header = {
        f"blocks.{i}.weight": {
            "dtype": "F32",
            "shape": [1024, 1024],
            "data_offsets": [i * 4 * TENSOR_VALUES, (i + 1) * 4 * TENSOR_VALUES],
        }
        for i in range(count)
    }
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for _ in range(count):
            file.write(rng.standard_normal(TENSOR_VALUES, dtype=np.float32).tobytes())
        file.flush()
        os.fsync(file.fileno())


BASE = Path(__file__).parents[2] / "jobs" / "kit" / "base" / "fundus-64"


def build_base(folder: Path, weights: Path) -> None:
    """Write a base generator of the same layout whose every number is another."""
    folder.mkdir()
    shutil.copyfile(weights, folder / "model.safetensors")
    with (folder / "model.safetensors").open("r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        data = np.memmap(folder / "model.safetensors", dtype=np.float32, mode="r+", offset=8 + length)
        data *= np.float32(1.001)
        data.flush()
    schema = {name: [entry["dtype"], entry["shape"]] for name, entry in header.items()}
    checks = {"max_header_bytes": 2**24, "max_tensors": 4096}
    shipped = json.loads((BASE / "config.json").read_text())
    config = {**shipped, "slug": "bench", "sha256": "0" * 64, "schema": schema, "checks": checks}
    (folder / "config.json").write_text(json.dumps(config))


def sparse_header_ms(folder: Path) -> float:
    """Return the milliseconds to judge the header of a well-formed file of 10 GB that takes no room on the disk."""
    path, side = folder / "sparse.safetensors", 50_000
    entry = {"dtype": "F32", "shape": [side, side], "data_offsets": [0, 4 * side * side]}
    raw = json.dumps({"w": entry}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + 4 * side * side)
    return float(run(HEADER_ONLY, path)[0])


def run(program: str, path: Path) -> tuple[str, float, float]:
    """Run a program in a process of its own; return its output, wall seconds and peak MiB."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program + PEAK, str(path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"The measured program failed with status {process.returncode}.")
    answer, peak_kib = output.split()
    return answer, seconds, int(peak_kib) / 1024


def measure(path: Path, rounds: int) -> dict[str, float]:
    """Alternate yardstick and ours, one warm-up and `rounds` pairs."""
    ratios, ours_seconds, yardstick_seconds, peaks = [], [], [], []
    for index in range(rounds + 1):
        expected, base_seconds, base_peak = run(YARDSTICK, path)
        found, seconds, peak = run(OURS, path)
        if found != expected:
            raise SystemExit("The digests differ.")
        if index == 0:
            continue
        ratios.append(seconds / base_seconds)
        ours_seconds.append(seconds)
        yardstick_seconds.append(base_seconds)
        peaks.append(peak)
    size = path.stat().st_size
    return {
        "size_mb": size / 1e6,
        "ratio": statistics.median(ratios),
        "spread": max(ratios) - min(ratios),
        "seconds": statistics.median(ours_seconds),
        "yardstick_seconds": statistics.median(yardstick_seconds),
        "mb_per_second": size / 1e6 / statistics.median(ours_seconds),
        "header_ms": statistics.median(float(run(HEADER_ONLY, path)[0]) for _ in range(3)),
        "naive_ratio": statistics.median(run(NAIVE, path)[1] for _ in range(3)) / statistics.median(ours_seconds),
        "sparse_header_ms": sparse_header_ms(path.parent),
        "peak_mib": max(peaks),
        "yardstick_peak_mib": base_peak,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1200, help="size of the file in 10^6 bytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where to write the file (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print one JSON line instead of the table rows")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-validate-", dir=options.folder))
    try:
        path = folder / "weights.safetensors"
        build_file(path, options.mb)
        build_base(folder / "base", path)
        found = measure(path, max(3, options.rounds))
    finally:
        shutil.rmtree(folder)
    ok1, ok2 = found["ratio"] <= P1_GOAL, found["peak_mib"] <= P2_GOAL_MIB
    ok3, ok4 = found["naive_ratio"] >= NAIVE_GOAL, found["sparse_header_ms"] <= HEADER_GOAL_MS
    if options.json:
        print(json.dumps({"P1": ok1, "P2": ok2} | {key: round(value, 4) for key, value in found.items()}))
    else:
        print(
            f"P1 ratio={found['ratio']:.2f} goal={P1_GOAL} n={max(3, options.rounds)} spread={found['spread']:.2f}"
            f" size={found['size_mb']:.0f}MB ours={found['seconds']:.3f}s sha256={found['yardstick_seconds']:.3f}s"
            f" rate={found['mb_per_second']:.0f}MB/s header={found['header_ms']:.2f}ms {'PASS' if ok1 else 'FAIL'}"
        )
        print(
            f"P2 peak={found['peak_mib']:.0f}MiB goal={P2_GOAL_MIB:.0f}MiB"
            f" sha256={found['yardstick_peak_mib']:.0f}MiB {'PASS' if ok2 else 'FAIL'}"
        )
        print(f"naive passes={found['naive_ratio']:.2f}x goal={NAIVE_GOAL} {'PASS' if ok3 else 'FAIL'}")
        print(
            f"header of a sparse 10 GB file={found['sparse_header_ms']:.1f}ms goal={HEADER_GOAL_MS:.0f}ms"
            f" {'PASS' if ok4 else 'FAIL'}"
        )
    return 0 if ok1 and ok2 and ok3 and ok4 else 1


if __name__ == "__main__":
    sys.exit(main())
