"""Runs: one row per piece of work, and the workers that do it. PostgreSQL holds the truth, Celery is the doorbell."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from contributions import isolation
from contributions.models import Contribution
from jobs.lifecycle import LIVE, Code, Status
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.institutions.models import Institution
from portal.programmes.models import Programme


class Worker(models.Model):
    """A place where runs are executed: one process of a Celery worker. The row outlives the processes in its place."""

    name = models.CharField(max_length=200, unique=True, help_text="Celery's node and the place in it: gpu@host/1.")
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    process = models.CharField(
        max_length=200, help_text="Boot, process namespace, pid and start: one process for ever."
    )
    queues = ArrayField(models.CharField(max_length=4))
    version = models.CharField(max_length=100, help_text="Of this portal's code.")
    versions = models.JSONField(default=dict, help_text="Of Python and the libraries that results depend on.")
    device = models.CharField(max_length=100)
    driver = models.CharField(max_length=60, blank=True)
    gpu_type = models.CharField(max_length=60, blank=True)
    gpu_count = models.PositiveSmallIntegerField(default=0)
    gpu_memory_bytes = models.PositiveBigIntegerField(default=0, help_text="Of the smallest of its GPUs.")
    disk_free_bytes = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now, help_text="Its lease: a worker that is silent is lost.")
    draining_at = models.DateTimeField(null=True, blank=True, help_text="Takes no further run.")
    stopping_at = models.DateTimeField(null=True, blank=True, help_text="Was asked to end; gives its run back.")
    stopped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(gpu_type="") | Q(gpu_count__gt=0), name="worker_gpu_type_means_gpus"),
            models.CheckConstraint(
                condition=Q(stopping_at__isnull=True) | Q(draining_at__isnull=False), name="worker_stopping_is_draining"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: User) -> "RunQuerySet":
        """Operators and auditors see every run; others those on contributions that they see and none isolated."""
        if accounts.is_auditor(user):
            return self.all()
        mine = Contribution.objects.visible_to(user).exclude(pk__in=isolation.isolated()).values("pk")
        return self.filter(kind=Run.Kind.VALIDATE, subject_id__in=mine)


class Run(models.Model):
    """A job: what is to be done to what, by whom it is held, how far it is, how it ended."""

    class Kind(models.TextChoices):
        VALIDATE = "validate", "Check a contribution"
        PRETRAIN = "pretrain", "Pre-train an encoder"
        EVALUATE = "evaluate", "Evaluate a candidate"
        INSPECT = "inspect", "Look through the store"

    class Queue(models.TextChoices):
        CPU = "cpu", "cpu"
        GPU = "gpu", "gpu"

    kind = models.CharField(max_length=20, choices=Kind)
    queue = models.CharField(max_length=4, choices=Queue)
    subject_id = models.BigIntegerField(help_text="Contribution, corpus or candidate, by kind; 0: the site.")
    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    title = models.CharField(max_length=300)
    # What it is worked out from
    inputs = models.JSONField(default=dict, help_text="Parameters, seed and input hashes.")
    config_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the inputs as canonical JSON.")
    code_version = models.CharField(max_length=100, blank=True, help_text="Of the code that worked on it last.")
    device = models.CharField(max_length=100, blank=True, help_text="That it was worked out on last.")
    environment = models.JSONField(
        default=dict, blank=True, help_text="Versions of Python, the libraries, the driver and the image it ran in."
    )
    result_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the result, without times.")
    # What it needs, and may use
    priority = models.SmallIntegerField(default=0, help_text="The largest goes first.")
    gpu_count = models.PositiveSmallIntegerField(default=0, help_text="0: any device will do.")
    gpu_type = models.CharField(max_length=60, blank=True, help_text="Empty: any type.")
    gpu_memory_bytes = models.PositiveBigIntegerField(default=0, help_text="Of each GPU, at least.")
    wall_seconds = models.PositiveIntegerField(default=3600, help_text="The longest that one attempt may take.")
    stall_seconds = models.PositiveIntegerField(default=900, help_text="The longest without progress.")
    # Where it is
    status = models.CharField(max_length=16, choices=Status, default=Status.QUEUED)
    status_since = models.DateTimeField(default=timezone.now)
    attempt = models.PositiveSmallIntegerField(default=0, help_text="The fencing token: a result needs the same one.")
    faults = models.PositiveSmallIntegerField(default=0, help_text="Attempts that ended by a fault or a lost worker.")
    worker = models.ForeignKey(Worker, on_delete=models.PROTECT, null=True, blank=True, related_name="runs")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True, help_text="A fault waits a little before the next try.")
    rung_at = models.DateTimeField(null=True, blank=True, help_text="When the broker last took its message.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    progress_done = models.PositiveBigIntegerField(default=0)  # bytes of a file, where it reads one
    progress_total = models.PositiveBigIntegerField(default=0)
    progress_text = models.CharField(max_length=200, blank=True)
    progress_at = models.DateTimeField(null=True, blank=True)
    # How it ended
    code = models.CharField(max_length=20, choices=Code, blank=True)
    error = models.TextField(blank=True, help_text="What happened and what to do, for people.")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    retry_of = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="retries")
    retry_reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="run_status_known"),
            models.CheckConstraint(
                condition=(Q(status__in=LIVE) & Q(finished_at__isnull=True))
                | (~Q(status__in=LIVE) & Q(finished_at__isnull=False)),
                name="run_finished_at_iff_ended",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["leased", "running", "finalising"], lease_expires_at__isnull=False)
                | ~Q(status__in=["leased", "running", "finalising"]),
                name="run_lease_while_held",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["leased", "running", "finalising"], worker__isnull=False)
                | ~Q(status__in=["leased", "running", "finalising"]),
                name="run_worker_while_held",
            ),
            models.CheckConstraint(condition=Q(wall_seconds__gt=0, stall_seconds__gt=0), name="run_limits_positive"),
            models.CheckConstraint(
                condition=Q(gpu_type="", gpu_memory_bytes=0) | Q(gpu_count__gt=0), name="run_gpu_needs_count"
            ),
            models.CheckConstraint(
                condition=Q(retry_of__isnull=True) | ~Q(retry_reason=""), name="run_retry_has_a_reason"
            ),
            models.UniqueConstraint(
                fields=["kind", "subject_id"], condition=Q(status__in=LIVE), name="one_live_run_per_kind_and_subject"
            ),
        ]
        indexes = [
            models.Index(fields=["status", "lease_expires_at"], name="run_by_lease"),
            models.Index(
                fields=["queue", "-priority", "id"], condition=Q(status="queued"), name="run_waiting_by_priority"
            ),
        ]

    def __str__(self) -> str:
        return f"R-{self.pk} {self.title}"

    def get_absolute_url(self) -> str:
        return reverse("jobs:show", args=[self.pk])


class RunEvent(models.Model):
    """One transition of a run."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    attempt = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=16, choices=Status)
    code = models.CharField(max_length=20, choices=Code, blank=True)
    note = models.TextField(blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.run_id} {self.status}"


class RunLog(models.Model):
    """One line of a run's log: written first, then announced."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log")
    seq = models.PositiveIntegerField()
    attempt = models.PositiveSmallIntegerField()
    text = models.CharField(max_length=1000)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="one_log_line_per_number")]

    def __str__(self) -> str:
        return self.text


class RunSample(models.Model):
    """What an attempt used at one moment; drawn as a strip."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="samples")
    attempt = models.PositiveSmallIntegerField()
    at = models.DateTimeField(default=timezone.now)
    cpu_percent = models.FloatField(help_text="Of one core, over the worker's process and its children.")
    memory_bytes = models.PositiveBigIntegerField()
    gpu_percent = models.FloatField(null=True, blank=True)
    gpu_memory_bytes = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.run_id} {self.at:%H:%M:%S}"


class Inspection(models.Model):
    """What a look through the store found: files that differ from what was registered, and what nobody needs."""

    run = models.OneToOneField(Run, on_delete=models.PROTECT, related_name="inspection")
    is_verification = models.BooleanField(help_text="Every registered file is read and hashed.")
    position = models.CharField(max_length=60, blank=True, help_text="The last row verified; a later attempt goes on.")
    file_count = models.PositiveIntegerField(default=0, help_text="Files that were read.")
    byte_count = models.PositiveBigIntegerField(default=0)
    fault_count = models.PositiveIntegerField(default=0)
    faults = models.JSONField(default=list, blank=True, help_text="The first of them: what was registered and found.")
    buckets = models.JSONField(default=dict, blank=True, help_text="Objects and bytes of each.")
    leftovers = models.JSONField(
        default=dict, blank=True, help_text="Of each kind: how many, how large, how many gone."
    )
    removed_count = models.PositiveIntegerField(default=0, help_text="By all attempts; each is counted as it goes.")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(is_verification=True) | Q(file_count=0, position=""),
                name="inspection_reads_if_verification",
            ),
            models.CheckConstraint(
                condition=Q(fault_count=0, faults=[]) | Q(fault_count__gt=0) & ~Q(faults=[]),
                name="inspection_faults_are_counted",
            ),
        ]

    def __str__(self) -> str:
        return f"inspection by R-{self.run_id}"


class Usage(models.Model):
    """The ledger: what one attempt has used, written when it ends, whoever is to blame."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="usage")
    attempt = models.PositiveSmallIntegerField()
    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    device = models.CharField(max_length=100)
    seconds = models.FloatField()
    gpu_seconds = models.FloatField(help_text="Seconds times GPUs; 0 on a CPU.")
    ended_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt"], name="one_usage_per_attempt"),
            models.CheckConstraint(condition=Q(seconds__gte=0, gpu_seconds__gte=0), name="usage_not_negative"),
        ]
        indexes = [models.Index(fields=["programme", "ended_at"], name="usage_by_programme")]

    def __str__(self) -> str:
        return f"{self.run_id}/{self.attempt}: {self.seconds:.0f} s"


class Budget(models.Model):
    """How many GPU-seconds a programme may use in a calendar month."""

    programme = models.OneToOneField(Programme, on_delete=models.PROTECT, related_name="+")
    gpu_seconds = models.PositiveBigIntegerField()
    set_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["programme"]

    def __str__(self) -> str:
        return str(self.programme)


class Beat(models.Model):
    """When a periodic task ran last: a scheduler that is gone shows itself by what it no longer does."""

    name = models.CharField(max_length=40, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%H:%M:%S}"


class Maintenance(models.Model):
    """The read-only switch of the site; one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    is_on = models.BooleanField(default=False)
    message = models.CharField(max_length=300, blank=True, help_text="What is done, and until when.")
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "maintenance"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="maintenance_is_one_row")]

    def __str__(self) -> str:
        return "read-only" if self.is_on else "open"
