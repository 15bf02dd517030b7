"""Sending a task by name, after the transaction it belongs to; and steps of a sweep, of which none stops the others."""

import logging
import time
from collections.abc import Callable
from typing import Any

from django.db import transaction

from portal.celery import app

logger = logging.getLogger(__name__)
REST_SECONDS = 2.0  # after a broker did not answer, nobody waits for it again this long
_resting_until = 0.0  # time.monotonic()


def enqueue(name: str, *, queue: str = "cpu", on_lost: Callable[[], None] | None = None, **kwargs: int | str) -> None:
    """
    Send task `name` once the current transaction commits.

    A broker that is down neither fails nor slows the request: the row is the truth, and `jobs.sweep` sends it again.
    `on_lost` is called where it was not sent.
    """

    def send() -> None:
        if not _sent(name, queue, kwargs) and on_lost is not None:
            on_lost()

    # A def, not a partial: Django 5.2 logs func.__qualname__ of a robust callback.
    transaction.on_commit(send, robust=True)


def _sent(name: str, queue: str, kwargs: dict[str, int | str]) -> bool:
    """Send a message, unless the broker did not answer a moment ago; return whether it was taken."""
    global _resting_until  # one for the process: every thread would wait for the same broker
    if time.monotonic() < _resting_until:
        return False
    try:
        app.send_task(name, kwargs=kwargs, queue=queue, retry=False)
    except Exception:
        _resting_until = time.monotonic() + REST_SECONDS
        logger.warning("The broker did not take %s %s; the sweep will send it again.", name, kwargs, exc_info=True)
        return False
    return True


def attempt(step: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Do one step of a sweep; one that fails is logged, by numbers, and the sweep goes on: it comes again."""
    try:
        step(*args, **kwargs)
    except Exception:
        numbers = [getattr(arg, "pk", arg) for arg in args]
        logger.exception("The sweep could not do %s %s; it tries again.", step.__name__, numbers)
