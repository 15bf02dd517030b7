"""What a tree of processes uses, read from /proc: cheaper than psutil, and it sees what the limits cannot."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Use:
    """`memory_bytes`: private and shared anonymous memory with its swap; mapped files are the page cache's, and the
    kernel takes them back. `peak_bytes`: that, or one process's largest resident size. `cpu_seconds`: of the living
    and of all they have waited for."""

    memory_bytes: int
    peak_bytes: int
    cpu_seconds: float


def family(pid: int) -> list[int]:
    """`pid` and its descendants, parents first; those that end meanwhile are left out or have no files any more."""
    found = [pid]
    for parent in found:
        found += children(parent)
    return found


def children(pid: int) -> Iterator[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        yield from (int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split())


def use(pids: list[int]) -> Use:
    sizes = [_sizes(pid) for pid in pids]
    memory = sum(size.get(key, 0) for size in sizes for key in ("RssAnon", "RssShmem", "VmSwap"))
    return Use(memory, max(memory, *(size.get("VmHWM", 0) for size in sizes)), sum(map(_cpu, pids)))


def _sizes(pid: int) -> dict[str, int]:
    """The sizes in /proc/<pid>/status (proc(5)), in bytes."""
    lines = (line.partition(":") for line in _read(f"/proc/{pid}/status").splitlines())
    return {key: int(value.split()[0]) * 1024 for key, _, value in lines if value.endswith(" kB")}


def _cpu(pid: int) -> float:
    # The name, in brackets, may hold spaces and brackets; utime, stime, cutime, cstime are fields 14-17 (proc(5)).
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def deleted_bytes(pids: list[int], device: int) -> int:
    """Disk space of files on `device` that have no name any more but that these processes hold open."""
    held = {}
    for pid in pids:
        for name in _names(f"/proc/{pid}/fd"):
            try:
                found = os.stat(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and found.st_dev == device:
                held[found.st_ino] = found.st_blocks * 512
    return sum(held.values())


def folder_bytes(folder: Path, *, most_entries: int, most_depth: int) -> int | None:
    """Disk space of everything below `folder`, or None when it has too many entries, is too deep or is unreadable."""
    total, entries = 0, 0
    waiting = [(str(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            for entry in os.scandir(path):
                found = entry.stat(follow_symlinks=False)
                total, entries = total + found.st_blocks * 512, entries + 1
                if entries > most_entries or depth > most_depth:
                    return None
                if stat.S_ISDIR(found.st_mode):
                    waiting.append((entry.path, depth + 1))
        except FileNotFoundError:
            continue  # renamed or removed since it was listed
        except OSError:
            return None
    return total


def started_ticks(pid: int) -> int:
    """When a process began, in clock ticks after the machine's start: no change of the clock moves it. 0 when it is
    gone, or has ended and is only waited for."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the state is field 3, the start 22 (proc(5))
    return int(fields[19]) if fields and fields[0] not in "ZX" else 0


def oom_kills() -> int:
    """How often the kernel has killed for memory since it started, on the whole machine."""
    lines = (line.split() for line in _read("/proc/vmstat").splitlines())
    return next((int(value) for name, value in lines if name == "oom_kill"), 0)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
