"""Run untrusted work: no network, nothing to read but what it is given, one folder to write, and limits on the rest.

The child runs under bubblewrap in namespaces of its own, with an empty environment, no capabilities, a filter on system
calls (`_seccomp`) and resource limits; the caller's thread reads what it prints and watches what it uses. The caller
gets an Outcome and the files left in one folder, and judges both as it would judge any submission.

Inside, `/in/<name>` are the inputs, `/out` is the output folder, `/tmp` a small one in memory, and `python -m
jobs.kit.<module>` works from the working folder `/app`, which holds the kit and nothing else of the site.

For a worker that is root the child is a user of its own, the output folder is given to that user, and inputs that
others may not read are given to the group "nobody"; so keep them in a folder that only root may enter.
"""

import os
import platform
import re
import selectors
import shutil
import signal
import stat
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import _procfs, _seccomp
from ._bubblewrap import PROGRAMS, Child, Limits, SandboxError, start

__all__ = ["Limits", "Outcome", "OutputRefused", "SandboxError", "available", "collect", "run", "sanitise"]

Kind = Literal["finished", "refused", "crashed", "out_of_memory", "timed_out", "cancelled", "output_exceeded"]

LOOK_SECONDS = 0.1
READ_BYTES = 8_192
LINE_BYTES = 65_536
STDERR_TAIL_BYTES = 8_192
OUTPUT_ENTRIES, OUTPUT_DEPTH = 5_000, 8
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # Unicode UAX 9: explicit formatting

Stop = tuple[Kind, str]


class OutputRefused(ValueError):
    """What the child left in its output folder is not what it was asked for; the message is for the reader."""


@dataclass(frozen=True)
class Outcome:
    """`exit_code` is 128 + the signal when one ended the child, None when the sandbox stopped it. `detail` is a
    sentence; it and `stderr_tail` hold no control characters. `peak_rss_bytes`, as watched ten times a second: the
    larger of one process's peak resident size and the memory of all; None for a child that was too short to be seen."""

    kind: Kind
    exit_code: int | None
    seconds: float
    detail: str
    stderr_tail: str
    peak_rss_bytes: int | None


def run(
    argv: Sequence[str],
    *,
    read_only: Mapping[str, Path],
    output_dir: Path,
    limits: Limits,
    on_line: Callable[[str], None],
    should_stop: Callable[[], bool] = lambda: False,
    stdin: int | None = None,
) -> Outcome:
    """Run `argv` in the sandbox and wait for it; when this returns or raises, none of its processes is left.

    `read_only` names files or folders seen as `/in/<name>`. `output_dir` exists and is empty; pass what it holds
    afterwards through `collect`. `on_line` gets each line of stdout in order, without its end, at most LINE_BYTES long,
    control characters replaced; it should be quick, for nothing is watched meanwhile. `should_stop` is asked about ten
    times a second. `stdin` is a descriptor that the child reads as its standard input; it is closed here.

    Raises SandboxError when the sandbox cannot start, and whatever `on_line` or `should_stop` raises.
    """
    began = time.monotonic()
    killed_before = _procfs.oom_kills()
    output = _Output(limits.output_bytes, on_line)
    try:
        started = start(argv, read_only, output_dir, limits, *([] if stdin is None else [stdin]))
    finally:
        if stdin is not None:
            os.close(stdin)  # the child has its own; with ours open, who writes would never learn that it ended
    with closing(started) as child:
        stopped = _follow(child, output, output_dir, limits, should_stop, began + limits.wall_seconds)
        child.kill()
        stopped = stopped or output.drain(child) or _over_disk(0, output_dir, limits)
        exit_code = None if stopped else child.exit_code(output.stderr_tail())
    oom = _procfs.oom_kills() > killed_before
    kind, detail = stopped or _judge(exit_code or 0, output.stderr_tail(), oom=oom)
    seconds = time.monotonic() - began
    return Outcome(kind, exit_code, seconds, detail, output.stderr_tail(), child.peak_bytes or None)


def _follow(
    child: Child,
    output: "_Output",
    output_dir: Path,
    limits: Limits,
    should_stop: Callable[[], bool],
    deadline: float,
) -> Stop | None:
    """Read what the child prints until it ends, or until it must be stopped: then why."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, output.stdout)
        selector.register(child.stderr, selectors.EVENT_READ, output.stderr)
        selector.register(child.descriptor, selectors.EVENT_READ)
        look_at = 0.0
        while not child.ended():
            for key, _ in selector.select(LOOK_SECONDS):
                if key.data and not _read(key.fd, key.data):
                    selector.unregister(key.fd)
            now = time.monotonic()
            if stop := output.over() or _over_time(now, deadline):
                return stop
            if now >= look_at:
                look_at = now + LOOK_SECONDS
                if stop := _look(child, output_dir, limits, should_stop):
                    return stop
    return None


def _read(descriptor: int, reader: Callable[[bytes], None]) -> bool:
    """Whether there may be more to read later."""
    data = os.read(descriptor, READ_BYTES)
    reader(data)
    return bool(data)


def _over_time(now: float, deadline: float) -> Stop | None:
    return ("timed_out", "It took longer than it may.") if now > deadline else None


def _look(child: Child, output_dir: Path, limits: Limits, should_stop: Callable[[], bool]) -> Stop | None:
    if should_stop():
        return "cancelled", "It was cancelled."
    pids = _procfs.family(child.process.pid)
    use = _procfs.use(pids)
    child.peak_bytes = max(child.peak_bytes, use.peak_bytes)
    if use.memory_bytes > limits.memory_bytes:
        return "out_of_memory", f"It used {use.memory_bytes:,} bytes of memory; it may use {limits.memory_bytes:,}."
    if use.cpu_seconds > limits.cpu_seconds:
        return "timed_out", f"It used more than {limits.cpu_seconds} s of processor time."
    return _over_disk(_procfs.deleted_bytes(pids, output_dir.stat().st_dev), output_dir, limits)


def _over_disk(deleted: int, output_dir: Path, limits: Limits) -> Stop | None:
    """Whether /out holds more than it may, `deleted` being the size of open files there that have no name."""
    size = _procfs.folder_bytes(output_dir, most_entries=OUTPUT_ENTRIES, most_depth=OUTPUT_DEPTH)
    if size is None:
        return "output_exceeded", "Its output folder holds too many files, is too deep or cannot be read."
    if size + deleted > limits.file_bytes:
        return "output_exceeded", f"It wrote more than the {limits.file_bytes:,} bytes that it may."
    return None


def _judge(exit_code: int, stderr: str, *, oom: bool) -> Stop:
    """Name the end of a child that was not stopped from here."""
    last = (stderr.strip().splitlines() or [""])[-1]
    if exit_code == 0:
        return "finished", "It finished."
    if exit_code == 128 + signal.SIGXCPU:
        return "timed_out", "It used more processor time than it may."
    # Python turns the limits on a process's memory and on a file's size into exceptions, torch into a RuntimeError.
    if (exit_code == 128 + signal.SIGKILL and oom) or last.startswith("MemoryError") or "can't allocate memory" in last:
        return "out_of_memory", "It asked for more memory than it may have."
    if exit_code == 128 + signal.SIGXFSZ or last.startswith("OSError: [Errno 27]"):
        return "output_exceeded", "It wrote a file larger than it may."
    if exit_code > 128:
        return "crashed", f"It was ended by {_signal_name(exit_code - 128)}."
    return "refused", f"It ended with exit code {exit_code}."


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def collect(output_dir: Path, names: Iterable[str], max_bytes: int) -> dict[str, Path]:
    """The named files of an output folder, after the child has ended: regular files of at most `max_bytes` each.

    Raises OutputRefused for a missing file, a link, a pipe, a device, a folder, or a file that is too large.
    """
    return {name: _collect(output_dir, name, max_bytes) for name in names}


def _collect(output_dir: Path, name: str, max_bytes: int) -> Path:
    if name in {"", ".", ".."} or "/" in name:
        raise ValueError(f"{name!r} is not the name of a file in the output folder.")
    path = output_dir / name
    try:
        # O_NONBLOCK: opening a pipe nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OutputRefused(f"The output {name} cannot be opened as a file: {error.strerror}.") from error
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise OutputRefused(f"The output {name} is not an ordinary file.")
    if found.st_size > max_bytes:
        raise OutputRefused(f"The output {name} has {found.st_size:,} bytes; at most {max_bytes:,} are accepted.")
    return path


def sanitise(text: str) -> str:
    """Replace what a terminal, a log or a page could act on: control characters and changes of writing direction."""
    return "".join("\ufffd" if _acts(character) else character for character in text)


def _acts(character: str) -> bool:
    if character.isascii():
        return not character.isprintable() and character not in "\t\n"
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or unicodedata.bidirectional(character) in TURNING
    )


def available() -> str | None:
    """None when the sandbox works on this machine, else a sentence: why not, and what to do. Takes about 50 ms."""
    if reason := _unsupported():
        return reason
    small = Limits(20, 10, 1024**3, 65_536, 1024**2, 16, 1024**2)
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-I", "-S", "-c", "pass"]
        try:
            outcome = run(argv, read_only={}, output_dir=Path(folder), limits=small, on_line=lambda line: None)
        except (SandboxError, OSError) as error:
            return f"{error} {_advice(str(error))}"
    return (
        None if outcome.kind == "finished" else f"Python does not start in the sandbox: {outcome.stderr_tail.strip()}"
    )


def _unsupported() -> str | None:
    if sys.platform != "linux" or not _seccomp.supported():
        return f"The sandbox needs Linux on x86-64 or AArch64, this is {sys.platform} on {platform.machine()}."
    if tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (5, 14):
        return f"The sandbox needs Linux 5.14 or newer to limit processes, this is {platform.release()}: update it."
    if missing := [name for name in ("setpriv", "choom", "prlimit") if shutil.which(name, path=PROGRAMS) is None]:
        return f"The sandbox needs the program {missing[0]}: install the package util-linux."
    return None


def _advice(error: str) -> str:
    """What usually keeps the sandbox from starting."""
    if "failed to execute" in error:
        return "Make the interpreter and the virtual environment readable to every user, or do not run as root."
    settings = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=15000"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give bwrap an AppArmor profile",
        ),
    }
    for path, (bad, remedy) in settings.items():
        if Path(path).exists() and Path(path).read_text().strip() == bad:
            return f"User namespaces are switched off: {remedy}."
    return (
        "In a container, allow user namespaces and mounts to it (for instance seccomp=unconfined, apparmor=unconfined)."
    )


class _Output:
    """What the child prints: lines of stdout handed on, the end of stderr kept, both counted."""

    def __init__(self, most: int, on_line: Callable[[str], None]) -> None:
        self.left = most
        self.on_line = on_line
        self.line = bytearray()
        self.tail = bytearray()

    def stdout(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        self._extend(first)
        for part in others:
            # Counted line by line: which lines are within the limit must not depend on how the pipe cuts them.
            self.left -= 1
            self._hand_on()
            self._extend(part)

    def stderr(self, data: bytes) -> None:
        self.left -= len(data)
        self.tail = (self.tail + data)[-STDERR_TAIL_BYTES:]

    def _extend(self, part: bytes) -> None:
        self.left -= len(part)
        self.line += part[: LINE_BYTES - len(self.line)]

    def _hand_on(self) -> None:
        line, self.line = self.line, bytearray()
        if self.left >= 0:
            self.on_line(sanitise(line.decode(errors="replace").rstrip("\r")))

    def drain(self, child: Child) -> Stop | None:
        """Read what the ended child left in its pipes, and hand on a last line that has no end."""
        for descriptor, reader in ((child.stdout, self.stdout), (child.stderr, self.stderr)):
            # Everything inside is gone; a pipe without an end is one that another process of ours has inherited.
            with suppress(BlockingIOError):
                while self.left >= 0 and _read(descriptor, reader):
                    pass
        if self.line:
            self._hand_on()
        return self.over()

    def over(self) -> Stop | None:
        return ("output_exceeded", "It printed more than it may.") if self.left < 0 else None

    def stderr_tail(self) -> str:
        return sanitise(self.tail.decode(errors="replace"))
