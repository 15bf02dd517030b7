"""The processes of the site itself: what `make run` starts on top of the services."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO

import urllib3

from portal.embedded import services
from portal.embedded.process import ProcessFailed, Program, die_with_parent, kill_group, rotate_log
from portal.embedded.state import LOOPBACK, REPOSITORY, choose_ports, read_ports, write_private

# Django's commands before the site starts. They need nothing of each other, and little time when nothing is to do.
PREPARATIONS = (("prepare_database",), ("setup_storage",), ("collectstatic", "--noinput"))
BIN = Path(sys.executable).parent
SITE_HOST = "localhost"  # a passkey belongs to a name, never to an IP address (WebAuthn Level 2, section 5.1.2)
# Two workers, the web and the kit share the cores; OpenMP's threads wait by spinning and starve each other.
MATH_THREADS = str(max(1, (os.cpu_count() or 2) // 2))
CELERY_STOP_STEPS = ((signal.SIGTERM, 5.0), (signal.SIGQUIT, 5.0))  # let short tasks finish; a lost lease runs again


SAMPLE_COLUMNS = ("file", "source", "country", "patient_group", "dr_any", "glaucoma", "amd", "split")


class NoSuchSample(Exception):
    """SAMPLE does not name a folder of photographs that the demonstration can be made of."""


def sample_dir(sample: str) -> str:
    """Return the absolute folder of SAMPLE, or an empty string when it is not given."""
    if not sample:
        return ""
    folder = Path(sample).expanduser().resolve()
    if not folder.is_dir():
        raise NoSuchSample(f"SAMPLE={folder} is not a folder.")
    if missing := [name for name in SAMPLE_COLUMNS if name not in _columns(folder / "labels.csv")]:
        raise NoSuchSample(f"SAMPLE={folder}: its labels.csv needs these columns, too: {', '.join(missing)}.")
    return str(folder)


def _columns(labels: Path) -> list[str]:
    """Return the columns of a labels.csv; none where there is no such file."""
    if not labels.is_file():
        return []
    with labels.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def choose_address(data_dir: Path) -> str:
    """Choose the ports of the site and return its address."""
    ports = choose_ports(data_dir, ["web", "live"])
    return f"http://{SITE_HOST}:{ports['web']}"


def environment(data_dir: Path, sample: str) -> dict[str, str]:
    """Return the whole environment of the site's processes: ours, the services', and where the site is reached."""
    ports = read_ports(data_dir)
    added = {
        "PORTAL_URL": f"http://{SITE_HOST}:{ports['web']}",
        "LIVE_URL": f"ws://{SITE_HOST}:{ports['live']}",
        "EMBEDDED": "True",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir(data_dir)),  # the web processes' counts are added up
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", MATH_THREADS),
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
    }
    if sample:
        added["SAMPLE_DIR"] = sample
    return {**os.environ, **services.environment(data_dir), **added}


def metrics_dir(data_dir: Path) -> Path:
    """Return where the web processes keep their counts while they run."""
    return data_dir / "run" / "metrics"


def programs(data_dir: Path, environment: dict[str, str]) -> list[Program]:
    """
    Return the site's processes in the order of starting; they are asked to stop backwards, the scheduler first.

    None learns how to speak to the database as its owner.
    """
    ports = read_ports(data_dir)
    environment = {name: value for name, value in environment.items() if name != "MIGRATE_DATABASE_URL"}
    granian = (str(BIN / "granian"), "--host", LOOPBACK, "--respawn-failed-workers")
    # As many threads in each worker as connections in its pool (portal/settings.py).
    pages = ("--interface", "wsgi", "--no-ws", "--workers", "2", "--blocking-threads", "8")
    live = ("--interface", "asginl", "--workers", "1")

    def program(name: str, *argv: str) -> Program:
        return Program(name=name, argv=argv, cwd=REPOSITORY, env=environment)

    def celery(name: str, *arguments: str) -> Program:
        argv = (str(BIN / "celery"), "-A", "portal.celery", *arguments)
        # Without its broker a worker can wait for ever after SIGTERM; its own children ask for SIGKILL as well.
        return replace(program(name, *argv), stop_steps=CELERY_STOP_STEPS, death_signal=signal.SIGKILL)

    def worker(queue: str) -> Program:
        return celery(f"worker-{queue}", "worker", "-n", f"{queue}@%h", "-Q", queue, "-c", "1", "--loglevel", "INFO")

    return [
        program("web", *granian, *pages, "--port", str(ports["web"]), "portal.wsgi:application"),
        program("live", *granian, *live, "--port", str(ports["live"]), "portal.asgi:application"),
        worker("cpu"),
        worker("gpu"),
        celery("sweeper", "worker", "-n", "sweep@%h", "-Q", "sweep", "--pool", "solo", "--loglevel", "WARNING"),
        celery("beat", "beat", "--schedule", str(data_dir / "run" / "beat"), "--pidfile", ""),
    ]


def prepare(data_dir: Path, environment: dict[str, str]) -> None:
    """
    Run PREPARATIONS side by side, each with its output in logs/<command>.log.

    Raises:
        ProcessFailed: one failed; the message quotes the end of its output.
    """
    shutil.rmtree(metrics_dir(data_dir), ignore_errors=True)  # of processes that are gone
    metrics_dir(data_dir).mkdir(parents=True)
    started: list[tuple[subprocess.Popen, Path]] = []
    try:
        for arguments in PREPARATIONS:
            rotate_log(data_dir, arguments[0])
            log_path = data_dir / "logs" / f"{arguments[0]}.log"
            with log_path.open("wb") as log:
                started.append((_start_manage(environment, arguments, stdout=log), log_path))
        for process, log_path in started:
            if status := process.wait():
                end = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
                raise ProcessFailed(f"`manage.py {log_path.stem}` failed with status {status}:\n{end}")
    finally:
        for process, _ in started:
            kill_group(process.pid)
            process.wait()


def _start_manage(
    environment: dict[str, str], arguments: tuple[str, ...], stdout: IO[bytes] | None = None
) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout else None,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )


def check_web(environment: dict[str, str]) -> None:
    """Return when the site says it is well (`portal.views.readyz`); raise otherwise."""
    answer = urllib3.request("GET", f"{environment['PORTAL_URL']}/readyz", retries=False, timeout=10, redirect=False)
    if answer.status >= 400:
        raise ConnectionError(f"/readyz answered {answer.status}")


def needs_seed(data_dir: Path) -> bool:
    """Test whether the demonstration has not been completed in this data folder."""
    return not (data_dir / "seeded").exists()


def start_seed(environment: dict[str, str]) -> subprocess.Popen:
    """Start `seed_demo`, its output in the terminal. It must go on where an interrupted one stopped."""
    return _start_manage(environment, ("seed_demo",))


def end_seed(data_dir: Path, seed: subprocess.Popen) -> None:
    """Remember a completed demonstration; end an interrupted one."""
    if seed.poll() == 0:
        write_private(data_dir / "seeded", "")
        return
    kill_group(seed.pid)
    seed.wait()


def welcome(data_dir: Path, address: str) -> str:
    """Return what the terminal says when all is up."""
    accounts = data_dir / "demo_accounts.txt"
    lines = ["", f"  The portal: {address}", ""]
    if accounts.exists():
        lines += [accounts.read_text().rstrip(), ""]
    lines += [f"  Mail lands in the portal's mailbox page. Logs: {data_dir / 'logs'}", "  Ctrl-C stops everything."]
    return "\n".join(lines)
