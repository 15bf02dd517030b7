"""The whole portal under one supervisor: services, web, live pages, workers, scheduler; Ctrl-C stops it all."""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from portal.embedded import services, site
from portal.embedded.process import Running, adopt_orphans, kill_descendants, reap_orphans, rotate_log, stop_together
from portal.embedded.state import ensure_data_dir, write_private

POLL_SECONDS = 0.2
FIRST_BACK_OFF_SECONDS = 1.0
LONGEST_BACK_OFF_SECONDS = 60.0


class AlreadyRunning(Exception):
    """Another supervisor holds this data folder."""


class Stop(BaseException):
    """SIGINT or SIGTERM arrived."""


@dataclass
class Supervised:
    """A child that is started again when it ends."""

    running: Running
    back_off_seconds: float = FIRST_BACK_OFF_SECONDS
    restart_at: float | None = None  # time.monotonic()


def run(data_dir: Path, *, whole_portal: bool) -> int:
    """
    Run the portal (or only its services) until SIGINT or SIGTERM; return the exit status.

    Raises:
        AlreadyRunning: `data_dir` is in use.
        ProcessFailed: something did not start.
        NoSuchSample: SAMPLE names no folder.
    """
    sample = site.sample_dir(os.environ.get("SAMPLE", ""))
    ensure_data_dir(data_dir)
    with only_one(data_dir), _stopped_by_signals():
        adopt_orphans()
        children: list[Supervised] = []
        try:
            _start(data_dir, children, sample, whole_portal=whole_portal)
            while True:
                _restart_ended(data_dir, children)
                time.sleep(POLL_SECONDS)
        except Stop:
            return 0
        finally:
            _stop(children)


def say(sentence: str) -> None:
    """Print one line of progress."""
    print(sentence, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    print(f"  {name} ... ", end="", flush=True)
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed" if not isinstance(sys.exception(), Stop) else "stopped", flush=True)
        raise
    print(f"{time.monotonic() - begun:.1f} s", flush=True)


def _start(data_dir: Path, children: list[Supervised], sample: str, *, whole_portal: bool) -> None:
    say(f"Data folder: {data_dir}")
    with step("PostgreSQL, Valkey and SeaweedFS"):
        children += [Supervised(running) for running in services.start(data_dir)]
    if not whole_portal:
        say_where(data_dir, "services only")
        _say_services(data_dir)
        return
    address = site.choose_address(data_dir)
    environment = site.environment(data_dir, sample)
    with step("Database, buckets and static files"):
        site.prepare(data_dir, environment)
    with step("Web, live pages, two workers, scheduler"):
        _start_site(data_dir, environment, children)
    say_where(data_dir, address)
    say(f"The portal is up: {address}")
    if site.needs_seed(data_dir):
        say("The data folder is new: the demonstration consortium moves in (you can look around meanwhile).")
        _seed(data_dir, environment, children)
    say(site.welcome(data_dir, address))


def _start_site(data_dir: Path, environment: dict[str, str], children: list[Supervised]) -> None:
    for program in site.programs(data_dir, environment):
        rotate_log(data_dir, program.name)
        children.append(Supervised(Running(program, data_dir)))
    web = next(child.running for child in children if child.running.program.name == "web")
    web.wait_ready(lambda: site.check_web(environment), timeout_seconds=180)


def _seed(data_dir: Path, environment: dict[str, str], children: list[Supervised]) -> None:
    """Run the seed command with its output in the terminal, while the children are watched as always."""
    seed = site.start_seed(environment)
    try:
        while seed.poll() is None:
            _restart_ended(data_dir, children, seed.pid)
            time.sleep(POLL_SECONDS)
    finally:
        site.end_seed(data_dir, seed)
    if seed.returncode:
        say(f"The demonstration is not complete (status {seed.returncode}, see above); the next `make run` goes on.")


def _restart_ended(data_dir: Path, children: list[Supervised], *others: int) -> None:
    """Start again what ended; `others` are children of ours that nobody starts again."""
    now = time.monotonic()
    for child in children:
        if child.restart_at is not None:
            if now >= child.restart_at:
                child.restart_at = None
                child.running = Running(child.running.program, data_dir)
        elif not child.running.is_alive():
            plan_restart(child, now)
    reap_orphans({child.running.popen.pid for child in children} | {*others})


def plan_restart(child: Supervised, now: float) -> None:
    """Say that a child ended and when it starts again: each time later, until it has run for a minute."""
    if now - child.running.started_at > LONGEST_BACK_OFF_SECONDS:
        child.back_off_seconds = FIRST_BACK_OFF_SECONDS
    child.running.stop()  # what is left of its group
    say(
        f"{child.running.program.name} ended with status {child.running.popen.returncode}; "
        f"starting it again in {child.back_off_seconds:.0f} s (log: {child.running.log})"
    )
    child.restart_at = now + child.back_off_seconds
    child.back_off_seconds = min(2 * child.back_off_seconds, LONGEST_BACK_OFF_SECONDS)


def _stop(children: list[Supervised]) -> None:
    """Stop the site, then the services, then whatever is left below us. A second Ctrl-C changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if children:
        begun = time.monotonic()
        print("\nStopping ... ", end="", flush=True)
        running = [child.running for child in children]
        stop_together(running[len(services.ENGINES) :])  # the services were started first
        services.stop(running[: len(services.ENGINES)])
        print(f"stopped in {time.monotonic() - begun:.1f} s", flush=True)
    kill_descendants()


def _say_services(data_dir: Path) -> None:
    write_private(data_dir / "env.sh", services.export_lines(services.environment(data_dir)))
    say(f"Services are up. In another terminal: source {data_dir / 'env.sh'}")


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder; the kernel lets go of it when this process ends, however it ends."""
    with (data_dir / "run" / "portal.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            where = lock.read().strip() or "an address it is still choosing (it is starting)"
            raise AlreadyRunning(f"The portal is already running at {where} (data folder {data_dir}).") from None
        lock.truncate(0)
        yield


def say_where(data_dir: Path, where: str) -> None:
    """Leave the address for a second supervisor to say."""
    with (data_dir / "run" / "portal.lock").open("w") as file:
        file.write(where)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into Stop."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, stop)  # the terminal was closed
    yield
