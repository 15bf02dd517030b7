"""The whole site from its real programs, each of which can be killed, kept away and brought back."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from portal.embedded import services, site, state
from portal.embedded.process import Program, Running, adopt_orphans, kill_descendants, reap_orphans, stop_together
from tests.drills import rabbitmq

RESTART_SECONDS = 1.0  # what systemd's default comes to (RestartSec=100ms, and the programs' own start)
DIED = (psutil.NoSuchProcess, ProcessLookupError)


class Site:
    """The running programs by name; one that ends is started again, unless it is held away."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.programs: dict[str, Program] = {}
        self.running: dict[str, Running] = {}
        self.held: set[str] = set()
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def start(self, *, with_rabbitmq: bool = False) -> None:
        engines = services.start(self.data_dir)
        self.url = site.choose_address(self.data_dir)
        self.environment = site.environment(self.data_dir, "")
        if with_rabbitmq:
            program, address = rabbitmq.program(self.data_dir)
            self.add(program)
            wait_until(lambda: rabbitmq.answers(address), seconds=90, what="RabbitMQ")
            self.environment["CELERY_BROKER_URL"] = address
        site.prepare(self.data_dir, self.environment)
        for running in engines:
            self.programs[running.program.name], self.running[running.program.name] = running.program, running
        for program in site.programs(self.data_dir, self.environment):
            self.add(program)
        self.running["web"].wait_ready(lambda: site.check_web(self.environment), timeout_seconds=120)
        self._keeper.start()

    def add(self, program: Program) -> None:
        """Start one more program."""
        with self._lock:
            self.programs[program.name], self.running[program.name] = program, Running(program, self.data_dir)

    def worker(self, name: str, *arguments: str, **environment: str) -> Program:
        """Return a Celery worker of its own node name; `environment` is what differs."""
        like = self.programs["worker-cpu"]
        argv = (like.argv[0], "-A", "portal.celery", "worker", "-n", f"{name}@%h", "-c", "1", *arguments)
        return Program(
            name=name, argv=argv, cwd=like.cwd, env={**like.env, **environment}, stop_steps=like.stop_steps,
            death_signal=like.death_signal,
        )  # fmt: skip

    def _keep(self) -> None:
        ended: dict[str, float] = {}
        while not self._over.wait(0.1):
            with self._lock:
                for name, running in list(self.running.items()):
                    if name in self.held or running.is_alive():
                        ended.pop(name, None)
                    elif time.monotonic() > ended.setdefault(name, time.monotonic()) + RESTART_SECONDS:
                        ended.pop(name)
                        running.stop(at_once=True)  # what is left of its group
                        self.running[name] = Running(self.programs[name], self.data_dir)
                reap_orphans({running.popen.pid for running in self.running.values()})

    def pid(self, name: str) -> int:
        return self.running[name].popen.pid

    def kill(self, name: str) -> None:
        """End a program, and what it has started, by SIGKILL."""
        try:
            victims = [psutil.Process(self.pid(name))]
            victims += victims[0].children(recursive=True)
        except DIED:  # a moment ago, by another kill
            return
        for victim in victims:
            with suppress(*DIED):
                victim.kill()

    def hold(self, name: str) -> None:
        """Kill a program and keep it away."""
        with self._lock:
            self.held.add(name)
            self.kill(name)
            self.running[name].popen.wait()

    def release(self, name: str) -> None:
        """Bring a program back."""
        with self._lock:
            self.running[name].stop(at_once=True)
            self.running[name] = Running(self.programs[name], self.data_dir)
            self.held.discard(name)

    def ask_to_stop(self, name: str) -> None:
        """SIGTERM, as an upgrade does."""
        self.running[name].popen.send_signal(signal.SIGTERM)

    def pool_child(self, name: str) -> psutil.Process | None:
        """Return the process in which a worker executes runs."""
        return next(iter(self._children(self.pid(name))), None)

    def sandboxed(self, name: str) -> psutil.Process | None:
        """Return bubblewrap or one of the processes inside it, below a worker; by chance, None where there is none."""
        child = self.pool_child(name)
        below = self._children(child.pid, recursive=True) if child else []
        return random.choice(below) if below else None

    def _children(self, pid: int, *, recursive: bool = False) -> list[psutil.Process]:
        try:
            return psutil.Process(pid).children(recursive=recursive)
        except DIED:
            return []

    def stop(self) -> None:
        self._over.set()
        self._keeper.join()
        names = [name for name in self.running if name not in {engine.NAME for engine in services.ENGINES}]
        stop_together([self.running[name] for name in names], at_once=True)
        services.stop([self.running[engine.NAME] for engine in services.ENGINES], at_once=True)
        kill_descendants()


@contextmanager
def running_site(data_dir: Path, *, with_rabbitmq: bool = False) -> Iterator[Site]:
    """Start a site, and let this process speak to its database and store as one more of its processes."""
    state.ensure_data_dir(data_dir)
    adopt_orphans()
    started = Site(data_dir)
    try:
        started.start(with_rabbitmq=with_rabbitmq)
        os.environ.update({**started.environment, "LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"})
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
        import django

        django.setup()
        yield started
    finally:
        started.stop()


def wait_until(condition: Callable[[], Any], *, seconds: float, what: str) -> float:
    """Wait until `condition` is true; return how long it took. A database that is away makes it false."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with suppress(Exception):
            if condition():
                return time.monotonic() - began
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")
