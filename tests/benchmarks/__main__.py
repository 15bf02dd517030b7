"""Run every benchmark; exit 1 when a goal is missed."""

import argparse
import subprocess
import sys
from pathlib import Path

ROWS = [
    "bench_validate.py", "bench_stream.py", "bench_fit.py", "bench_sink.py", "bench_uploads.py",
    "bench_browser_upload.py", "bench_web.py", "bench_log.py", "bench_docket.py", "bench_jobs.py", "bench_live.py",
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1200, help="size of the weights file, 10^6 bytes")
    size = str(parser.parse_args().mb)
    arguments = dict.fromkeys(("bench_validate.py", "bench_stream.py"), ["--mb", size])
    codes = []
    for row in ROWS:
        module = f"tests.benchmarks.{Path(row).stem}"
        codes.append(subprocess.run([sys.executable, "-m", module, *arguments.get(row, [])], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
