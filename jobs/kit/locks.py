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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "Let it end, or end it, then run this again; or choose another --out."
            raise KitError(f"Another process works in {folder}.", code="folder_in_use", fix=fix) from None
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
