"""Two things at the same instant, in an order that a test decides."""

import time
from collections.abc import Callable
from threading import Thread
from typing import Any

from django.db import connection, transaction

PATIENCE_SECONDS = 60.0


def then(monkeypatch: Any, module: Any, name: str, step: Callable[[], object]) -> None:
    """Let `step` come, once, between what a function does and its answer."""
    real = getattr(module, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        found = real(*args, **kwargs)
        step()
        return found

    monkeypatch.setattr(module, name, wrapped)


def while_locked(first: Callable[[], object], second: Callable[[], object]) -> BaseException | None:
    """
    Let `second`, on a connection of its own, wait for a row that `first` locks; return what it raised.

    `first` has done its work before `second` begins, and commits once that waits.
    """
    thread, raised = beside(second)
    with transaction.atomic():
        first()
        thread.start()
        until_somebody_waits()
    thread.join(PATIENCE_SECONDS)
    return raised[0] if raised else None


def beside(step: Callable[[], object]) -> tuple[Thread, list[BaseException]]:
    """Return a thread that does `step` on a connection of its own, and the list that will hold what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            step()
        except Exception as exc:
            raised.append(exc)
        finally:
            connection.close()

    return Thread(target=run), raised


def until_somebody_waits() -> None:
    """
    Return once a connection waits for a lock of this one.

    Not by `pg_stat_activity`: within a transaction its list of connections stays the one first seen.
    """
    deadline, waiting = time.monotonic() + PATIENCE_SECONDS, 0
    while not waiting:
        assert time.monotonic() < deadline, "nobody waits for a lock"
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            [waiting] = cursor.fetchone()
