"""A sandbox to try things in, for tests/integration/test_sandbox*.py."""

import sys
import textwrap
from pathlib import Path

from jobs import sandbox

LIMITS = sandbox.Limits(
    wall_seconds=20,
    cpu_seconds=10,
    memory_bytes=256 * 1024**2,
    output_bytes=256 * 1024,
    file_bytes=4 * 1024**2,
    processes=24,
    scratch_bytes=1024**2,
)

UNAVAILABLE = sandbox.available()


class Box:
    """One sandbox and what came out of it; `ask` runs Python source and gives the lines it printed."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.out.mkdir()
        self.input = folder / "input.txt"
        self.input.write_text("what a site sent\n")
        self.input.chmod(0o600)
        self.lines: list[str] = []

    def run(self, source: str, limits: sandbox.Limits = LIMITS, **options: object) -> sandbox.Outcome:
        argv = [sys.executable, "-I", "-S", "-u", "-c", textwrap.dedent(source)]
        options = {"on_line": self.lines.append, **options}
        return sandbox.run(argv, read_only={"input": self.input}, output_dir=self.out, limits=limits, **options)

    def ask(self, source: str) -> list[str]:
        outcome = self.run(source)
        assert (outcome.kind, outcome.stderr_tail) == ("finished", "")
        return self.lines
