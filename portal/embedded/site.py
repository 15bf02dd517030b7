"""The processes of the site itself: what `make run` starts on top of the services."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import urllib3

from portal.embedded import services
from portal.embedded.process import ProcessFailed, Program, die_with_parent, kill_group
from portal.embedded.state import LOOPBACK, REPOSITORY, choose_ports, read_ports, write_private

# Django's commands before the site starts: what the terminal says, and the arguments. Quick when nothing is to do.
PREPARATIONS = (
    ("Database", ("migrate", "--noinput")),
    ("Buckets", ("setup_storage",)),
    ("Static files", ("collectstatic", "--noinput")),
)
BIN = Path(sys.executable).parent
WORKER_STOP_STEPS = ((signal.SIGTERM, 5.0), (signal.SIGQUIT, 5.0))  # let short tasks finish; a lost lease runs again


class NoSuchSample(Exception):
    """SAMPLE does not name a folder."""


def sample_dir(sample: str) -> str:
    """Return the absolute folder of SAMPLE, or an empty string when it is not given."""
    if not sample:
        return ""
    folder = Path(sample).expanduser().resolve()
    if not folder.is_dir():
        raise NoSuchSample(f"SAMPLE={folder} is not a folder.")
    return str(folder)


def choose_address(data_dir: Path) -> str:
    """Choose the ports of the site and return its address."""
    ports = choose_ports(data_dir, ["web", "live"])
    return f"http://{LOOPBACK}:{ports['web']}"


def environment(data_dir: Path, sample: str) -> dict[str, str]:
    """Return the whole environment of the site's processes: ours, the services', and where the site is reached."""
    ports = read_ports(data_dir)
    added = {
        "PORTAL_URL": f"http://{LOOPBACK}:{ports['web']}",
        "LIVE_URL": f"ws://{LOOPBACK}:{ports['live']}",
        "EMBEDDED": "True",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
    }
    if sample:
        added["SAMPLE_DIR"] = sample
    return {**os.environ, **services.environment(data_dir), **added}


def programs(data_dir: Path, environment: dict[str, str]) -> list[Program]:
    """Return the site's processes in the order of starting; they are stopped backwards, so the scheduler goes first."""
    ports = read_ports(data_dir)
    granian = (str(BIN / "granian"), "--host", LOOPBACK, "--respawn-failed-workers")
    # As many threads in each worker as connections in its pool (portal/settings.py).
    pages = ("--interface", "wsgi", "--no-ws", "--workers", "2", "--blocking-threads", "8")
    live = ("--interface", "asgi", "--workers", "1")
    celery = (str(BIN / "celery"), "-A", "portal.celery")

    def program(
        name: str, *argv: str, stop_steps: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    ) -> Program:
        return Program(name=name, argv=argv, cwd=REPOSITORY, env=environment, stop_steps=stop_steps)

    def worker(queue: str) -> Program:
        arguments = ("worker", "-n", f"{queue}@%h", "-Q", queue, "-c", "1", "--loglevel", "INFO")
        return program(f"worker-{queue}", *celery, *arguments, stop_steps=WORKER_STOP_STEPS)

    return [
        program("web", *granian, *pages, "--port", str(ports["web"]), "portal.wsgi:application"),
        program("live", *granian, *live, "--port", str(ports["live"]), "portal.asgi:application"),
        worker("cpu"),
        worker("gpu"),
        program("beat", *celery, "beat", "--schedule", str(data_dir / "run" / "beat"), "--pidfile", ""),
    ]


def manage(data_dir: Path, environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    """
    Run one of Django's commands, its output into logs/manage.log.

    Raises:
        ProcessFailed: it failed; the message quotes the end of its output.
    """
    log_path = data_dir / "logs" / "manage.log"
    with log_path.open("ab") as log:
        process = _start_manage(environment, arguments, stdout=log)
        try:
            status = process.wait()
        finally:
            kill_group(process.pid)
    if status:
        end = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        raise ProcessFailed(f"`manage.py {' '.join(arguments)}` failed with status {status}:\n{end}")


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
    """Return when the home page answers; raise otherwise."""
    answer = urllib3.request("GET", environment["PORTAL_URL"], retries=False, timeout=10, redirect=False)
    if answer.status >= 400:
        raise ConnectionError(f"the home page answered {answer.status}")


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
