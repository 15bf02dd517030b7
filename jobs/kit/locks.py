"""One process at a time in a working folder: two would write over each other's photographs, states and listings."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import KitError

NAME = ".lock"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """
    Keep every other process of the kit out of a folder; the system ends the lock with the process, however it ends.

    Raises:
        KitError: code folder_in_use.
    """
    path = folder / NAME
    descriptor = _locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        fix = "Let it end, or end it, then run this again; or choose another --out."
        raise KitError(f"Another process works in {path.parent}.", code="folder_in_use", fix=fix) from None
    except OSError:
        return descriptor  # a file system without locks
    if _is_at(path, descriptor):
        return descriptor
    os.close(descriptor)  # who held it ended, and took the file away, after we had opened it
    return _locked(path)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
