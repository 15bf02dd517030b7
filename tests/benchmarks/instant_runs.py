"""What the benchmark's own worker loads (`--include`): runs that end at once, and a bare task, counted in Valkey."""

import redis
from celery import shared_task
from django.conf import settings
from django.db import transaction

from jobs import services, tasks
from jobs.engine import Attempt
from jobs.models import Run

DONE = "bench:done"
_valkey = redis.Redis.from_url(settings.CACHES["default"]["LOCATION"])


def end_at_once(attempt: Attempt) -> None:
    """Succeed, and count it after the commit."""
    with transaction.atomic():
        services.succeed(attempt.run, now=services.now())
        transaction.on_commit(lambda: _valkey.incr(DONE))


@shared_task(name="bench.nothing")
def nothing() -> None:
    """Count one bare task."""
    _valkey.incr(DONE)


tasks.WORK[Run.Kind.EVALUATE] = end_at_once
