"""
One set of throw-away services shared by every process of a test run.

In tests/conftest.py, before Django reads its settings (pytest-xdist workers each load conftest.py):

    _services = shared_services(root)      # the same root in every worker: the run's own temporary folder
    os.environ.update(_services.__enter__())
    def pytest_unconfigure(): _services.__exit__(None, None, None)

The first to come starts a keeper process, which owns the services; everyone else finds them running. Each user holds a
shared lock that the kernel lets go of when the user ends, however it ends; after the last one the keeper kills the
services.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from portal.embedded import services
from portal.embedded.process import ProcessFailed, adopt_orphans
from portal.embedded.state import REPOSITORY, ensure_data_dir

KEEPER_VERB = "keep"
_KEPT = "kept.json"  # the environment of the running services


@contextmanager
def shared_services(root: Path) -> Iterator[dict[str, str]]:
    """
    Yield environment() of services that live as long as any process holds this context.

    Args:
        root: the folder that all processes of one test run agree on; its `services` subfolder is used.
    Raises:
        ProcessFailed: the services did not start.
    """
    data_dir = root / "services"
    root.mkdir(parents=True, exist_ok=True)
    ensure_data_dir(data_dir)
    with _locked(data_dir / "starting.lock", fcntl.LOCK_EX), _opened(data_dir / "users.lock") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits here while an earlier keeper is stopping
        if not _keeper_is_alive(data_dir):
            _start_keeper(data_dir)
        environment = json.loads((data_dir / _KEPT).read_text())
        # The descriptor must outlive this block: the lock is what keeps the services.
        held = os.dup(users.fileno())
    try:
        yield environment
    finally:
        os.close(held)
        _wait_if_last(data_dir)


def keep(data_dir: Path) -> int:
    """Run throw-away services until nobody holds `users.lock` any more. The program of the keeper process."""
    adopt_orphans()
    with _opened(data_dir / "keeper.lock") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with services.running(data_dir, durable=False) as environment, _opened(data_dir / "users.lock") as users:
            (data_dir / _KEPT).write_text(json.dumps(environment))
            print("ready", flush=True)
            os.close(1)
            fcntl.flock(users, fcntl.LOCK_EX)  # granted when the last user is gone; new ones wait until we have stopped
    return 0


def _start_keeper(data_dir: Path) -> None:
    """Start the keeper in a session of its own and wait for its word that the services answer."""
    with (data_dir / "logs" / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "portal.embedded", KEEPER_VERB],
            cwd=REPOSITORY,
            env={**os.environ, "DATA_DIR": str(data_dir)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            text=True,
        )
    assert keeper.stdout
    with keeper.stdout:
        if keeper.stdout.readline() != "ready\n":
            raise ProcessFailed(f"The test services did not start:\n{(data_dir / 'logs' / 'keeper.log').read_text()}")


def _keeper_is_alive(data_dir: Path) -> bool:
    with _opened(data_dir / "keeper.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _wait_if_last(data_dir: Path) -> None:
    """Wait for the keeper to end if nobody else uses the services: the last one out leaves no process behind."""
    with _opened(data_dir / "users.lock") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # the keeper has it: it is stopping
        else:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # somebody else is still here
    with _locked(data_dir / "keeper.lock", fcntl.LOCK_SH):
        return


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with _opened(path) as file:
        fcntl.flock(file, kind)
        yield


def _opened(path: Path) -> IO[bytes]:
    return path.open("ab")
