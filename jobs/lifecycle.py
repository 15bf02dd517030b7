"""The life of a run (DESIGN.md, section 9)."""

from django.db import models


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    LEASED = "leased", "Claimed by a worker"
    RUNNING = "running", "Running"
    FINALISING = "finalising", "Storing results"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED_INPUT = "failed_input", "Stopped: the input cannot be used"
    FAILED_PLATFORM = "failed_platform", "Stopped: a fault of the platform"
    CANCELLED = "cancelled", "Cancelled"
    TIMED_OUT = "timed_out", "Stopped: out of time"


ACTIVE = [Status.LEASED, Status.RUNNING, Status.FINALISING]
LIVE = [Status.QUEUED, *ACTIVE]

# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (Status.QUEUED, Status.LEASED): "run.leased",
    (Status.LEASED, Status.RUNNING): "run.started",
    (Status.RUNNING, Status.FINALISING): "run.finalising",
    (Status.FINALISING, Status.SUCCEEDED): "run.succeeded",
    (Status.RUNNING, Status.FAILED_INPUT): "run.failed_input",
    (Status.FINALISING, Status.FAILED_INPUT): "run.failed_input",
    (Status.RUNNING, Status.TIMED_OUT): "run.timed_out",
    (Status.QUEUED, Status.CANCELLED): "run.cancelled",
    **{(status, Status.CANCELLED): "run.cancelled" for status in ACTIVE},
    **{(status, Status.QUEUED): "run.lost" for status in ACTIVE},
    **{(status, Status.FAILED_PLATFORM): "run.failed_platform" for status in ACTIVE},
}
