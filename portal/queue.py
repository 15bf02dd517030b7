"""Sending a task by name, after the transaction it belongs to; and steps of a sweep, of which none stops the others."""

import logging
from collections.abc import Callable
from typing import Any

from django.db import transaction

from portal.celery import app

logger = logging.getLogger(__name__)


def enqueue(name: str, *, queue: str = "cpu", **kwargs: int | str) -> None:
    """
    Send task `name` once the current transaction commits.

    A broker that is down never fails the request: the row is the truth, and `jobs.sweep` sends it again.
    """

    def send() -> None:
        try:
            app.send_task(name, kwargs=kwargs, queue=queue, retry=False)
        except Exception:
            logger.warning("The broker did not take %s %s; the sweep will send it again.", name, kwargs, exc_info=True)

    # A def, not a partial: Django 5.2 logs func.__qualname__ of a robust callback.
    transaction.on_commit(send, robust=True)


def attempt(step: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Do one step of a sweep; one that fails is logged, by numbers, and the sweep goes on: it comes again."""
    try:
        step(*args, **kwargs)
    except Exception:
        numbers = [getattr(arg, "pk", arg) for arg in args]
        logger.exception("The sweep could not do %s %s; it tries again.", step.__name__, numbers)
