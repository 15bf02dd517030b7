"""Executing one attempt of one run: claim, heartbeat, work, outcome."""

import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable

from django.db import close_old_connections, connection

from jobs import services
from jobs.lifecycle import Status
from jobs.models import Run
from portal import storage
from portal.lifecycle import TransitionNotAllowed

logger = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 5.0


class InputRefused(Exception):
    """The input cannot be used; the message says why and what the site can do."""


class PlatformFault(Exception):
    """Something of ours failed; the run is tried again."""


class OutOfTime(Exception):
    """The work took longer than its limit."""


class Attempt:
    """One attempt of a run: its heartbeat in a thread of its own, its progress, its log, its stop sign."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._stop = threading.Event()  # the work is over
        self._superseded = threading.Event()  # the work must stop
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{run.pk}", daemon=True)

    def __enter__(self) -> "Attempt":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                services.renew(self.run, now=services.now())
            except services.Superseded:
                self._superseded.set()
                break
            except Exception:  # the database is away: the lease runs out by itself, and another worker takes over
                logger.warning("No heartbeat for %s.", self.run, exc_info=True)
                close_old_connections()
        connection.close()

    def should_stop(self) -> bool:
        """Test if the work must stop: cancelled, or the lease is lost."""
        return self._superseded.is_set()

    def check(self) -> None:
        """Raise Superseded where the work must stop."""
        if self.should_stop():
            raise services.Superseded(f"{self.run} was taken away from attempt {self.run.attempt}.")

    def progress(self, done: int, total: int, text: str) -> None:
        self.check()
        services.progress(self.run, done=done, total=total, text=text)

    def log(self, text: str) -> None:
        services.log(self.run, text)


Work = Callable[[Attempt], None]


def execute(run_id: int, *, work: dict[str, Work]) -> None:
    """
    Execute a queued run, if this worker gets it. Safe to call twice: the second caller finds it claimed.

    `work` maps each kind to the function that does it; the function moves the run to `succeeded` itself, in the
    transaction that stores its results.
    """
    run = services.claim(run_id, worker=f"{socket.gethostname()}:{os.getpid()}", now=services.now())
    if run is None:
        return
    with Attempt(run) as attempt:
        try:
            services.move(run, Status.RUNNING, now=services.now(), started_at=services.now())
            work[run.kind](attempt)
        except Exception as exc:  # MemoryError is one too: it must not reach Celery, which would end the worker
            _end(run, exc)


def _end(run: Run, exc: Exception) -> None:
    """Turn what went wrong into one of the outcomes."""
    now = services.now()
    try:
        match exc:
            case InputRefused():
                services.move(run, Status.FAILED_INPUT, now=now, error=str(exc))
            case OutOfTime():
                services.move(run, Status.TIMED_OUT, now=now, error=str(exc))
            case TransitionNotAllowed():  # its subject was withdrawn meanwhile
                services.move(run, Status.CANCELLED, now=now, error=str(exc))
            case services.Superseded():
                services.give_back(run, note=str(exc), now=now)
            case storage.Unavailable():
                services.give_back(run, note="The object store did not answer.", now=now)
            case _:
                logger.error("%s failed: %s", run, "".join(traceback.format_exception(exc)))
                services.give_back(run, note=f"{type(exc).__name__} in the worker.", now=now)
    except services.Superseded:
        logger.info("%s: another attempt holds it.", run)
