"""
PostgreSQL 18, Valkey 9 and SeaweedFS from their wheels, in one data folder, on loopback only.

    with running(data_dir) as environment: ...       # three services, stopped at the end

The same engines run the large deployment; there the addresses come from elsewhere and nothing in this package is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portal.embedded import postgres, seaweedfs, valkey
from portal.embedded.process import ProcessFailed, Running, rotate_log
from portal.embedded.state import LOOPBACK, choose_ports, ensure_data_dir, read_ports, read_secrets

ENGINES = (postgres, valkey, seaweedfs)  # the order of starting; stopping goes backwards
START_TRIES = 3  # a port can be taken between choosing it and listening on it


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
    for engine in ENGINES:
        rotate_log(data_dir, engine.NAME)
    for last_try in (False,) * (START_TRIES - 1) + (True,):
        started: list[Running] = []
        try:
            _start_all(data_dir, durable, started)
        except ProcessFailed:
            lost_port = any(not running.is_alive() for running in started)
            stop(started, at_once=True)
            if last_try or not lost_port:
                raise
        except BaseException:
            stop(started, at_once=True)
            raise
        else:
            return started
    raise AssertionError("unreachable")


def _start_all(data_dir: Path, durable: bool, started: list[Running]) -> None:
    """Launch all three, then wait for each: SeaweedFS needs 2 s, and PostgreSQL starts meanwhile."""
    secrets = read_secrets(data_dir)
    ports = choose_ports(data_dir, [name for engine in ENGINES for name in engine.PORTS])
    for engine in reversed(ENGINES):
        started.insert(0, Running(engine.program(data_dir, ports, secrets, durable=durable), data_dir))
    for engine, running in zip(ENGINES, started, strict=True):
        engine.wait_ready(running, ports, secrets)


def stop(started: list[Running], *, at_once: bool = False) -> None:
    """Stop the services, the last one first; `at_once` kills them, for data that is thrown away."""
    for running in reversed(started):
        running.stop(at_once=at_once)


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
    valkey_url = f"redis://:{secrets.valkey_password}@{LOOPBACK}:{ports['valkey']}"
    return {
        "DATA_DIR": str(data_dir),
        "SECRET_KEY": secrets.secret_key,
        "DATABASE_URL": f"postgres://portal:{secrets.postgres_password}@{LOOPBACK}:{ports['postgres']}/portal",
        "CACHE_URL": f"{valkey_url}/0",
        "CELERY_BROKER_URL": f"{valkey_url}/1",
        "CHANNELS_URL": f"{valkey_url}/2",
        "S3_ENDPOINT_URL": f"http://{LOOPBACK}:{ports['s3']}",
        "S3_ACCESS_KEY_ID": secrets.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": secrets.s3_secret_access_key,
    }
