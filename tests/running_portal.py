"""The whole portal as `make run` starts it, for the browser tests and the benchmarks."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import urllib3

from jobs.kit import phantom
from portal.embedded import services

ROOT = Path(__file__).resolve().parent.parent
IMAGES, SIZE = 120, 320  # enough for a probe, little enough for two cores


@dataclass(frozen=True)
class RunningPortal:
    """Where it is, its data folder, its log, and the demonstration accounts' password."""

    url: str
    data_dir: Path
    environment: dict[str, str]
    password: str

    def manage(self, *arguments: str) -> str:
        """Run one of Django's commands against it and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def scene(self, name: str, /, **given: Any) -> Any:
        """Run a function of tests/scenes.py in it and return what it returned."""
        call = f"scenes.{name}(**json.loads({json.dumps(given)!r}))"
        first = f"import os; os.environ['FIRST_PERSON'] = '{time.time_ns() // 1_000_000}'"
        code = f"{first}; from tests import scenes; import json; print(json.dumps({call}))"
        printed = self.manage("shell", "--no-imports", "-c", code)
        return json.loads(printed.splitlines()[-1])


def wait_until(condition, *, seconds: float, what: str):
    """Return the first true value of `condition`, or fail."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


@contextmanager
def running_portal() -> Iterator[RunningPortal]:
    """Start the portal in a new data folder, with the demonstration's people and phantoms, and nothing trained yet."""
    with tempfile.TemporaryDirectory(prefix="portal-run-", ignore_cleanup_errors=True) as folder:
        data_dir = Path(folder)
        data_dir.chmod(0o711)  # PostgreSQL runs as another user where we are root
        (data_dir / "seeded").touch()  # we seed people only
        environment = {name: value for name, value in os.environ.items() if name not in _of_the_tests()}
        environment |= {"DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"}
        log = (data_dir / "supervisor.log").open("wb")
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "portal.embedded", "run"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            yield _ready(supervisor, data_dir, environment)
        finally:
            _stop(supervisor)
            log.close()


def _of_the_tests() -> set[str]:
    """Return the variables that tests/services.py sets: the running portal has services of its own."""
    return {
        "DATABASE_URL", "MIGRATE_DATABASE_URL", "APP_DATABASE_URL",
        "CACHE_URL", "CELERY_BROKER_URL", "CHANNELS_URL", "S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID",
        "S3_SECRET_ACCESS_KEY", "S3_BUCKET_PREFIX", "SECRET_KEY", "TEST_SERVICES", "DATA_DIR", "LOG_LEVEL", "EMBEDDED",
        "DJANGO_SETTINGS_MODULE", "PGOPTIONS",
    }  # fmt: skip


def _ready(supervisor: subprocess.Popen, data_dir: Path, environment: dict[str, str]) -> RunningPortal:
    def address() -> str:
        text = (data_dir / "supervisor.log").read_text(errors="replace")
        assert supervisor.poll() is None, text
        found = re.search(r"The portal is up: (\S+)", text)
        return found[1] if found else ""

    url = wait_until(address, seconds=120, what="the portal's start")
    _draw_phantoms(data_dir / "phantoms")
    added = services.environment(data_dir) | {
        "PORTAL_URL": url,
        "EMBEDDED": "True",
        "SAMPLE_DIR": str(data_dir / "phantoms"),
    }
    portal = RunningPortal(url, data_dir, environment | added, "")
    portal.manage("seed_demo", "--people-only")
    password = (data_dir / "demo_accounts.txt").read_text().splitlines()[0].rpartition(" ")[2]
    assert urllib3.request("GET", url).status == 200
    return RunningPortal(url, data_dir, portal.environment, password)


def _stop(supervisor: subprocess.Popen) -> None:
    """End the portal, which says that it ended well and leaves no process."""
    below = psutil.Process(supervisor.pid).children(recursive=True)
    supervisor.send_signal(signal.SIGTERM)
    status = supervisor.wait(timeout=90)
    assert (status, [process for process in below if process.is_running()]) == (0, [])


def _draw_phantoms(folder: Path) -> None:
    phantom.write_sample(folder, IMAGES, size=SIZE)
