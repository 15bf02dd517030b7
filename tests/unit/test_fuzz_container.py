"""The fuzzing of the header check, for 6,000 inputs; `python -m tests.fuzz.fuzz_container` runs a minute of it."""

import re
import subprocess
import sys

import pytest

pytest.importorskip("atheris", reason="atheris has no wheel for this Python")


def test_what_our_check_accepts_the_library_reads_alike():
    line = [sys.executable, "-m", "tests.fuzz.fuzz_container", "--runs", "6000", "--seed", "7"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    counts = re.fullmatch(r"(\d+) inputs, (\d+) accepted\n", done.stdout)
    assert done.returncode == 0, done.stderr
    assert counts is not None
    assert (int(counts[1]), int(counts[2]) > 100) == (6_000, True)
