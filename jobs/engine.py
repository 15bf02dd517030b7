"""Executing one attempt of one run: claim, heartbeat, work, outcome."""

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from contributions.isolation import Isolated
from jobs import logs, meter, services, workers
from jobs.kit.errors import is_out_of_memory
from jobs.lifecycle import ACTIVE, Code, Status
from jobs.models import Run
from portal import malware, storage
from portal.lifecycle import TransitionNotAllowed
from portal.logging import run_id as run_id_of_log

logger = logging.getLogger(__name__)
LOOK_SECONDS = 1.0  # how often the row is looked at: somebody may have cancelled
HEARTBEAT_SECONDS = 5.0
TELL_SECONDS = 1.0  # how often long work tells how far it is, and looks who waits
GRACE_SECONDS = 3.0  # for work that was asked to stop; then its process is ended
DATABASE_PATIENCE_SECONDS = 60.0


class InputRefused(Exception):
    """The input cannot be used; the message says why and what the site can do."""


class PlatformFault(Exception):
    """Something of ours failed; the run is tried again."""


class GaveWay(Exception):
    """The work stopped for a run that goes first; it goes on later where it stood."""


class Attempt:
    """
    One attempt of a run: its heartbeat in a thread of its own, its limits, its progress, its log, its stop sign.

    The thread ends what does not stop when it is asked to: first in the table, where it counts, then this process.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.stop_code = ""  # why the work must stop
        self._asked_at = self._told_at = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{run.pk}", daemon=True)
        self._meter = meter.Meter()

    def __enter__(self) -> "Attempt":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        renewed_at = time.monotonic()
        while not self._over.wait(LOOK_SECONDS):
            try:
                if self.stop_code:
                    if not self._is_deaf():
                        continue
                    if workers.here.is_child:
                        os.kill(os.getpid(), signal.SIGKILL)  # Celery makes another child
                    break
                self._look()
                if time.monotonic() - renewed_at >= HEARTBEAT_SECONDS:
                    services.renew(self.run, now=services.now())
                    self._meter.sample(self.run, now=services.now())
                    renewed_at = time.monotonic()
            except services.Superseded:
                self._ask(Code.WORKER_LOST)
            except Exception:  # the database is away: the lease runs out by itself, and another worker takes over
                logger.warning("No heartbeat for %s.", self.run, exc_info=True)
                close_old_connections()
        connection.close()

    def _look(self) -> None:
        """Ask the work to stop where the row says so, or where it has reached a limit."""
        held = Run.objects.filter(pk=self.run.pk, attempt=self.run.attempt, status__in=ACTIVE)
        fields = ("cancel_requested_at", "worker__stopping_at", "started_at", "progress_at")
        row = held.values(*fields).first()
        if row is None:
            raise services.Superseded(f"{self.run} was taken away from attempt {self.run.attempt}.")
        if row["cancel_requested_at"]:
            self._ask(Code.ASKED)
        elif row["worker__stopping_at"]:
            self._ask(Code.DRAINED)
        elif row["started_at"]:
            now = services.now()
            if (now - row["started_at"]).total_seconds() > self.run.wall_seconds:
                self._ask(Code.WALL_LIMIT)
            elif (now - (row["progress_at"] or row["started_at"])).total_seconds() > self.run.stall_seconds:
                self._ask(Code.STALLED)

    def _ask(self, code: str) -> None:
        self.stop_code, self._asked_at = code, time.monotonic()

    def _is_deaf(self) -> bool:
        """Test if the work does not stop; then its run has been ended here, and nothing that it does later counts."""
        if time.monotonic() - self._asked_at < GRACE_SECONDS:
            return False
        logger.error("%s did not stop when asked (%s).", self.run, self.stop_code)
        settle(self, services.Superseded(f"It did not stop when asked ({self.stop_code})."))
        return True

    def should_stop(self) -> bool:
        """Test if the work must stop: cancelled, drained, over a limit, or the lease is lost."""
        return bool(self.stop_code)

    def check(self) -> None:
        """Raise Superseded where the work must stop."""
        if self.should_stop():
            raise services.Superseded(f"{self.run} was asked to stop ({self.stop_code}).")

    def progress(self, done: int, total: int, text: str) -> None:
        self.check()
        services.progress(self.run, done=done, total=total, text=text, now=services.now())

    def breathe(self, done: int, total: int, text: str) -> bool:
        """
        Between two steps of work that can go on later: stop if asked to; once a second tell how far it is and give way.

        Return whether a second was over. Raises GaveWay where a run that goes first waits for this worker.
        """
        self.check()
        if time.monotonic() - self._told_at < TELL_SECONDS:
            return False
        self._told_at = time.monotonic()
        self.progress(done, total, text)
        if services.somebody_waits(self.run, now=services.now()):
            raise GaveWay(f"A run that goes before {self.run} waited.")
        return True

    def log(self, text: str) -> None:
        logs.write(self.run, text)


Work = Callable[[Attempt], None]


def execute(*, work: dict[str, Work]) -> Run | None:
    """
    Execute the run that is due first for this worker; None where there is none. Safe to call at any time.

    `work` maps each kind to the function that does it; the function moves the run to `succeeded` itself, in the
    transaction that stores its results.
    """
    run = services.claim(workers.current(), now=services.now())
    if run is None:
        return None
    token = run_id_of_log.set(str(run.pk))
    try:
        with Attempt(run) as attempt:
            try:
                services.move(run, Status.RUNNING, now=services.now(), started_at=services.now())
                work[run.kind](attempt)
            except Exception as exc:  # MemoryError is one too: it must not reach Celery, which would end the worker
                _settle_patiently(attempt, exc)
    finally:
        run_id_of_log.reset(token)
    return run


def _settle_patiently(attempt: Attempt, exc: Exception) -> None:
    """Settle, and where the database is away, again until it is back; at last its lease runs out."""
    deadline = time.monotonic() + DATABASE_PATIENCE_SECONDS
    while True:
        try:
            settle(attempt, exc)
            return
        except (DatabaseError, InterfaceError):
            close_old_connections()
            if time.monotonic() > deadline:
                logger.exception("How %s ended could not be written.", attempt.run)
                return
            time.sleep(LOOK_SECONDS)


def settle(attempt: Attempt, exc: Exception) -> None:
    """Turn what went wrong into one of the outcomes."""
    run, now = attempt.run, services.now()
    try:
        if attempt.stop_code and not isinstance(exc, InputRefused):
            _stop(run, attempt.stop_code)
            return
        match exc:
            case InputRefused():
                services.move(run, Status.FAILED_INPUT, now=now, code=Code.REFUSED, error=str(exc))
            case TransitionNotAllowed() | Isolated():  # its subject was withdrawn or isolated meanwhile
                services.move(run, Status.CANCELLED, now=now, code=Code.SUBJECT_GONE, error=str(exc))
            case GaveWay():
                services.give_back(run, note=str(exc), code=Code.GAVE_WAY, now=now, at_once=True)
            case services.Superseded():
                services.give_back(run, note=str(exc), code=Code.WORKER_LOST, now=now)
            case _:
                code, note = _fault(exc)
                logger.error("%s failed: %s", run, "".join(traceback.format_exception(exc)))
                services.give_back(run, note=note, code=code, now=now)
    except services.Superseded:
        logger.info("%s: another attempt holds it.", run)


def _stop(run: Run, code: str) -> None:
    """End the attempt for the reason for which it was asked to stop."""
    now = services.now()
    match code:
        case Code.WALL_LIMIT:
            error = f"It took longer than its limit of {run.wall_seconds:,} s. Start it again with a higher limit."
            services.time_out(run, code=code, error=error, now=now)
        case Code.STALLED:
            error = f"It made no progress for {run.stall_seconds:,} s. Look at its log, then start it again."
            services.time_out(run, code=code, error=error, now=now)
        case Code.DRAINED:
            services.give_back(run, note="Its worker was asked to stop.", code=code, now=now, at_once=True)
        case _:
            services.give_back(run, note="It was taken away.", code=code, now=now)


def _fault(exc: Exception) -> tuple[str, str]:
    """Return the code and the sentence of a fault of the platform."""
    if is_out_of_memory(exc):
        return Code.OUT_OF_MEMORY, "It needed more memory than its worker has."
    if isinstance(exc, storage.Unavailable):
        return Code.STORE_AWAY, "The object store did not answer."
    if isinstance(exc, malware.Unavailable):
        return Code.SCANNER_AWAY, "The malware scanner did not answer."
    if isinstance(exc, DatabaseError | InterfaceError):
        return Code.DATABASE_AWAY, "The database did not answer."
    if isinstance(exc, PlatformFault):  # what a child wrote last is in the log; the page has its first line
        return Code.FAULT, str(exc).partition("\n")[0][:300]
    return Code.FAULT, f"{type(exc).__name__} in the worker."
