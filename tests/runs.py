"""Runs for tests, taken to a state by the real services."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from jobs import services
from jobs.lifecycle import Status
from jobs.models import Run, Worker
from tests import factories

H100: dict[str, Any] = {"gpu_type": "NVIDIA H100", "gpu_count": 2, "gpu_memory_bytes": 80 * 2**30}


def queue(subject_id: int = 1, kind: str = Run.Kind.EVALUATE, **more: Any) -> Run:
    return services.queue_run(
        kind, subject_id, title="Evaluate something", inputs={"seed": 1}, by=None, now=timezone.now(), **more
    )


def claim(worker: Worker | None = None) -> Run:
    held = services.claim(worker or factories.worker(), now=timezone.now())
    assert held is not None
    return held


def running(**more: Any) -> Run:
    """A run at work for a minute."""
    queue(**more)
    held = claim()
    began = timezone.now() - timedelta(minutes=1)
    services.move(held, Status.RUNNING, now=timezone.now(), started_at=began)
    return held
