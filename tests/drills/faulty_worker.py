"""What the drill's own worker loads (`--include`): it lets the child of a contribution do what its title says."""

import sys
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from jobs import sandbox, validate

MIB = 2**20


@dataclass(frozen=True)
class Deed:
    """A program for the child, and how the run is to end."""

    program: str
    end: tuple[str, str]


REFUSED, PARKED = ("failed_input", "refused"), ("failed_platform", "fault")
DEEDS = {
    "kills itself": Deed("import os; os.kill(os.getpid(), 9)", PARKED),
    "eats all memory": Deed("hold = []\nwhile True: hold.append(bytearray(50_000_000))", REFUSED),
    "forks for ever": Deed("import os\nwhile True: os.fork()", PARKED),
    "sleeps for ever": Deed("import time; time.sleep(10_000)", REFUSED),
    "fills the disk": Deed("file = open('/out/f', 'wb')\nwhile True: file.write(bytes(1_000_000))", REFUSED),
    "prints a gigabyte": Deed("for _ in range(2_000_000): print('x' * 500)", REFUSED),
    "raises MemoryError in the worker": Deed("", ("failed_platform", "out_of_memory")),
}
LIMITS = replace(validate.LIMITS, wall_seconds=8, cpu_seconds=30, memory_bytes=512 * MIB)
_title = ""
_real_run, _real_child = sandbox.run, validate._run


@wraps(_real_child)
def _run(attempt: Any, contribution: Any, *given: Any, **more: Any) -> Any:
    global _title
    _title = contribution.title
    return _real_child(attempt, contribution, *given, **more)


@wraps(_real_run)
def _sandboxed(argv: list[str], **more: Any) -> Any:
    if _title not in DEEDS:
        return _real_run(argv, **more)
    if not DEEDS[_title].program:
        raise MemoryError
    return _real_run([sys.executable, "-c", DEEDS[_title].program], **more | {"limits": LIMITS})


validate._run, sandbox.run = _run, _sandboxed
