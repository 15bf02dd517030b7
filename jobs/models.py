"""Runs: one row per piece of work. PostgreSQL holds the truth, Celery is the doorbell."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from contributions.models import Contribution
from jobs.lifecycle import LIVE, Status
from portal.accounts import services as accounts
from portal.accounts.models import User


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: User) -> "RunQuerySet":
        """Operators and auditors see every run; others the runs on contributions that they see."""
        if accounts.is_auditor(user):
            return self.all()
        mine = Contribution.objects.visible_to(user).values("pk")
        return self.filter(kind=Run.Kind.VALIDATE, subject_id__in=mine)


class Run(models.Model):
    """A job: what is to be done to what, by whom it is held, how far it is, how it ended."""

    class Kind(models.TextChoices):
        VALIDATE = "validate", "Check a contribution"
        PRETRAIN = "pretrain", "Pre-train an encoder"
        EVALUATE = "evaluate", "Evaluate a candidate"

    class Queue(models.TextChoices):
        CPU = "cpu", "cpu"
        GPU = "gpu", "gpu"

    kind = models.CharField(max_length=20, choices=Kind)
    queue = models.CharField(max_length=4, choices=Queue)
    subject_id = models.BigIntegerField(help_text="Contribution, corpus or candidate, by kind.")
    title = models.CharField(max_length=300)
    inputs = models.JSONField(default=dict, help_text="Parameters and input hashes.")
    status = models.CharField(max_length=16, choices=Status, default=Status.QUEUED)
    status_since = models.DateTimeField(default=timezone.now)
    attempt = models.PositiveSmallIntegerField(default=0, help_text="The fencing token: a result needs the same one.")
    worker = models.CharField(max_length=200, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    progress_text = models.CharField(max_length=200, blank=True)
    error = models.TextField(blank=True, help_text="What happened and what to do, for people.")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
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
            models.UniqueConstraint(
                fields=["kind", "subject_id"], condition=Q(status__in=LIVE), name="one_live_run_per_kind_and_subject"
            ),
        ]
        indexes = [models.Index(fields=["status", "lease_expires_at"], name="run_by_lease")]

    def __str__(self) -> str:
        return f"R-{self.pk} {self.title}"

    def get_absolute_url(self) -> str:
        return reverse("jobs:show", args=[self.pk])


class RunEvent(models.Model):
    """One transition of a run."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    attempt = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=16, choices=Status)
    note = models.TextField(blank=True)
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
