"""
Pytest plugin: PostgreSQL, Valkey and SeaweedFS for the whole run, before Django reads its settings.

The first process starts them and puts their addresses into the environment; the xdist workers inherit it, and each
takes a database, bucket prefix, Valkey databases and data folder of its own.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import psycopg

from portal.embedded import services
from portal.embedded.process import Running
from portal.embedded.state import read_ports, read_secrets

started: list[Running] = []
root: Path | None = None


def _start() -> None:
    global root
    root = Path(tempfile.mkdtemp(prefix="portal-tests-"))
    started.extend(services.start(root, durable=False))
    _let_the_owner_put_rows_back(root)
    environment = services.environment(root)
    os.environ.update(environment)
    # Tests create databases, as the owner; APP_DATABASE_URL is the role of web and workers, for attacks.
    os.environ["APP_DATABASE_URL"] = environment["DATABASE_URL"]
    os.environ["DATABASE_URL"] = environment["MIGRATE_DATABASE_URL"]
    os.environ["TEST_SERVICES"] = str(root)
    os.environ["PGOPTIONS"] = "-c lock_timeout=5min"  # two that wait for each other are a failure, and not a hang
    atexit.register(_stop)


def _let_the_owner_put_rows_back(root: Path) -> None:
    """Let the role `portal` copy rows without their triggers (tests/standing.py); that of web and workers may not."""
    where = f"host=127.0.0.1 port={read_ports(root)['postgres']} dbname=postgres user=postgres"
    with psycopg.connect(where, password=read_secrets(root).postgres_superuser_password) as server:
        server.execute("GRANT SET ON PARAMETER session_replication_role TO portal")


def _stop() -> None:
    services.stop(started, at_once=True)
    shutil.rmtree(root or "", ignore_errors=True)


def _take_own_part() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    number = int(worker.removeprefix("gw"))
    base = os.environ["CELERY_BROKER_URL"].rpartition("/")[0]
    for offset, name in enumerate(("CACHE_URL", "CELERY_BROKER_URL", "CHANNELS_URL")):
        os.environ[name] = f"{base}/{3 + 3 * number + offset}"
    data_dir = Path(os.environ["TEST_SERVICES"]) / "workers" / worker
    data_dir.mkdir(parents=True, exist_ok=True)
    os.environ.update(DATA_DIR=str(data_dir), S3_BUCKET_PREFIX=f"test-{worker}", EMBEDDED="True", LOG_LEVEL="WARNING")


if "TEST_SERVICES" not in os.environ:
    _start()
_take_own_part()
