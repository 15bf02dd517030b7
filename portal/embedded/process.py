"""Child processes that are logged to a file, stopped in steps, and never outlive the one who started them."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


class ProcessFailed(Exception):
    """A child ended or did not become ready; the message quotes the end of its log."""


@dataclass(frozen=True)
class Program:
    """How to start one child and how to ask it to stop."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    # Each signal with the seconds it is given to work; SIGKILL to the whole group comes after the last.
    stop_steps: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    death_signal: signal.Signals = signal.SIGTERM  # sent by the kernel when the parent is gone


class Running:
    """A started Program."""

    def __init__(self, program: Program, data_dir: Path) -> None:
        self.program = program
        self.log = data_dir / "logs" / f"{program.name}.log"
        self.started_at = time.monotonic()
        self._asked = False
        self._pid_file = data_dir / "run" / f"{program.name}.pid"
        _wait_for_predecessor(self._pid_file)
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                program.argv,
                cwd=program.cwd,
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor only
                preexec_fn=lambda: die_with_parent(program.death_signal),
            )
        self._pid_file.write_text(f"{self.popen.pid} {_started_at(self.popen.pid)}")

    def is_alive(self) -> bool:
        """Test whether the process is still there."""
        return self.popen.poll() is None

    def log_end(self, lines: int = 12) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_ready(self, check: Callable[[], None], timeout_seconds: float) -> None:
        """
        Wait until `check` returns without an exception.

        Raises:
            ProcessFailed: the process ended, or `check` still fails after `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            if not self.is_alive():
                raise ProcessFailed(f"{self.program.name} ended with status {self.popen.returncode}:\n{self.log_end()}")
            try:
                return check()
            except Exception as error:
                if time.monotonic() > deadline:
                    sentence = f"{self.program.name} did not answer within {timeout_seconds:.0f} s ({error})"
                    raise ProcessFailed(f"{sentence}:\n{self.log_end()}") from error
            time.sleep(POLL_SECONDS)

    def ask_to_stop(self) -> None:
        """Send the first stop signal without waiting, so that several can stop side by side."""
        self.popen.send_signal(self.program.stop_steps[0][0])
        self._asked = True

    def stop(self, *, at_once: bool = False) -> None:
        """Ask the process to stop, step by step, then kill what is left of its group; `at_once` skips the asking."""
        for number, seconds in () if at_once else self.program.stop_steps:
            if not self.is_alive():
                break
            if not self._asked:
                self.popen.send_signal(number)
            self._asked = False
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        kill_group(self.popen.pid)
        self.popen.wait()
        self._pid_file.unlink(missing_ok=True)


def stop_together(started: Sequence[Running], *, at_once: bool = False) -> None:
    """Ask all of them to stop, the last started first, and wait until all are gone."""
    for running in reversed(started):
        if not at_once:
            running.ask_to_stop()
    for running in reversed(started):
        running.stop(at_once=at_once)


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send this process `number` when its parent ends, even by SIGKILL (Linux only)."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def adopt_orphans() -> None:
    """Make grandchildren whose parent died our own children, so that none can be missed at the end (Linux only)."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(own: Set[int]) -> None:
    """
    Wait for the adopted children that have ended, or each would stay in the table of processes for ever.

    Those of `own` are waited for by who started them: only their Popen may learn how they ended.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def kill_group(group: int) -> None:
    """Kill every process of a group; one that is already gone is fine."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def kill_descendants() -> None:
    """Kill what is left below this process: children of children that made a session of their own."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(left, timeout=5)


def rotate_log(data_dir: Path, name: str) -> None:
    """Keep the log of the previous run as `<name>.log.1`."""
    log = data_dir / "logs" / f"{name}.log"
    if log.exists():
        log.replace(log.with_suffix(".log.1"))


def _started_at(pid: int) -> float:
    """Return when a process began: with its pid it names one process for ever. 0 when it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _wait_for_predecessor(pid_file: Path, timeout_seconds: float = 30.0) -> None:
    """
    Wait for the process of a killed supervisor, which is still closing its files, then kill it.

    Two servers on one folder would destroy it; SeaweedFS needs up to 26 s to stop.
    """
    if not pid_file.exists():
        return
    pid, started_at = pid_file.read_text().split()
    if _started_at(int(pid)) != float(started_at):
        return
    try:
        psutil.Process(int(pid)).wait(timeout_seconds)
    except psutil.TimeoutExpired:
        kill_group(int(pid))
        psutil.Process(int(pid)).wait(5)
    except psutil.NoSuchProcess:
        pass
