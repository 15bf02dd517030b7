"""
PostgreSQL 18, Valkey 9 and SeaweedFS from their wheels, in one data folder, on loopback only.

    with running(data_dir) as environment: ...       # three services, stopped at the end

The same engines run the large deployment; there the addresses come from elsewhere and nothing in this package is used.
"""

import fcntl
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portal.embedded import postgres, seaweedfs, valkey
from portal.embedded.process import Running, rotate_log, stop_together
from portal.embedded.state import LOOPBACK, choose_ports, ensure_data_dir, read_ports, read_secrets

ENGINES = (seaweedfs, valkey, postgres)  # the slowest starts first
LONGEST_WAIT_SECONDS = 60.0  # for another start on this machine


def start(data_dir: Path, *, durable: bool = True) -> list[Running]:
    """
    Start the three services and wait until each answers a real request.

    Args:
        data_dir: the data folder; created when missing.
        durable: False for throw-away data (tests): nothing waits for the disk.
    Raises:
        ProcessFailed: a service did not start; the message quotes its log. None is left running.
    """
    ensure_data_dir(data_dir)
    secrets = read_secrets(data_dir)
    started: list[Running] = []
    try:
        with _one_start_at_a_time():
            ports = choose_ports(data_dir, [name for engine in ENGINES for name in engine.PORTS])
            for engine in ENGINES:
                rotate_log(data_dir, engine.NAME)
                started.append(Running(engine.program(data_dir, ports, secrets, durable=durable), data_dir))
            for engine, running in zip(ENGINES, started, strict=True):
                engine.wait_ready(running, ports, secrets)
    except BaseException:  # Ctrl-C included
        stop(started, at_once=True)
        raise
    return started


@contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    """
    Keep two starts on this machine from choosing the same free ports before either listens on them.

    Any user may hold the lock, so it is only a courtesy: after LONGEST_WAIT_SECONDS we go on without it.
    """
    lock = _open_lock(Path(tempfile.gettempdir()) / "global-retfound-ports.lock")
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    try:
        while not _try_lock(lock) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    """Open the lock file for reading, which is enough to lock it; another user's file could not be opened to write."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stop(started: list[Running], *, at_once: bool = False) -> None:
    """Stop the services side by side; `at_once` kills them, for data that is thrown away."""
    stop_together(started, at_once=at_once)


@contextmanager
def running(data_dir: Path, *, durable: bool = True) -> Iterator[dict[str, str]]:
    """Run the three services for the length of a `with` block, and yield environment()."""
    started = start(data_dir, durable=durable)
    try:
        yield environment(data_dir)
    finally:
        stop(started, at_once=not durable)


def environment(data_dir: Path) -> dict[str, str]:
    """Return the variables of portal/settings.py that point at the services of `data_dir`, once start() has run."""
    secrets, ports = read_secrets(data_dir), read_ports(data_dir)
    database = f"{LOOPBACK}:{ports['postgres']}/portal"
    valkey_url = f"redis://:{secrets.valkey_password}@{LOOPBACK}:{ports['valkey']}"
    return {
        "DATA_DIR": str(data_dir),
        "SECRET_KEY": secrets.secret_key,
        "DATABASE_URL": f"postgres://{postgres.APP_ROLE}:{secrets.postgres_app_password}@{database}",
        "MIGRATE_DATABASE_URL": f"postgres://portal:{secrets.postgres_password}@{database}",
        "CACHE_URL": f"{valkey_url}/0",
        "CELERY_BROKER_URL": f"{valkey_url}/1",
        "CHANNELS_URL": f"{valkey_url}/2",
        "S3_ENDPOINT_URL": f"http://{LOOPBACK}:{ports['s3']}",
        "S3_ACCESS_KEY_ID": secrets.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": secrets.s3_secret_access_key,
    }


def export_lines(environment: dict[str, str]) -> str:
    """Return the variables as lines that a shell can read."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
