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


class Code(models.TextChoices):
    """Why an attempt ended before it succeeded."""

    REFUSED = "refused", "The input cannot be used"
    WALL_LIMIT = "wall_limit", "It took longer than its limit"
    STALLED = "stalled", "It made no progress for too long"
    OUT_OF_MEMORY = "out_of_memory", "It needed more memory than there was"
    NO_CAPACITY = "no_capacity", "No worker can do it"
    WORKER_LOST = "worker_lost", "Its worker was lost"
    STORE_AWAY = "store_away", "The object store did not answer"
    SCANNER_AWAY = "scanner_away", "The malware scanner did not answer"
    DATABASE_AWAY = "database_away", "The database did not answer"
    FAULT = "fault", "A fault in the platform's code"
    DRAINED = "drained", "Its worker was asked to stop"
    GAVE_WAY = "gave_way", "A run that goes first waited"
    ASKED = "asked", "Somebody cancelled it"
    SUBJECT_GONE = "subject_gone", "What it works on was withdrawn"


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
    (Status.FAILED_INPUT, Status.FAILED_PLATFORM): "run.marked_fault",  # by a person
    (Status.QUEUED, Status.CANCELLED): "run.cancelled",
    (Status.QUEUED, Status.FAILED_PLATFORM): "run.failed_platform",
    **{(status, Status.TIMED_OUT): "run.timed_out" for status in ACTIVE},
    **{(status, Status.CANCELLED): "run.cancelled" for status in ACTIVE},
    **{(status, Status.QUEUED): "run.lost" for status in ACTIVE},
    **{(status, Status.FAILED_PLATFORM): "run.failed_platform" for status in ACTIVE},
}
