"""Celery's own signals: which worker this is, a child that begins or ends, a worker that is asked to stop."""

import logging
from typing import Any

from celery.signals import (
    celeryd_after_setup,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from jobs import disk, services, workers
from jobs.models import Run

logger = logging.getLogger(__name__)


@celeryd_after_setup.connect
def remember(sender: str, instance: Any, **kwargs: Any) -> None:
    """Keep the node's name and queues, for the children that are made next."""
    queues = tuple(queue for queue in instance.app.amqp.queues.consume_from if queue in Run.Queue)
    workers.here.name, workers.here.queues = sender, queues


@worker_process_init.connect
def begin(**kwargs: Any) -> None:
    """Register a child, where its queues hold runs."""
    if workers.here.queues:
        workers.begin()
        disk.begin()


@worker_process_shutdown.connect
def end(**kwargs: Any) -> None:
    """Note that a child ends."""
    _safely(workers.end)


@worker_shutting_down.connect
def stop(sender: str, **kwargs: Any) -> None:
    """Let the children give back what they hold: SIGTERM came, and whoever sent it will not wait for ever."""
    _safely(workers.stop_node, sender)


def _safely(step: Any, *args: Any) -> None:
    try:
        step(*args, now=services.now())
    except Exception:  # the database may be away too; leases run out by themselves
        logger.warning("%s was not noted.", step.__name__, exc_info=True)
