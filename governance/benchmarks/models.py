"""Benchmark tasks and the evaluations of candidates on them: the board's evidence."""

from typing import Any

from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from contributions.corpora.models import CorpusPart, DataSet
from governance.releases.models import Candidate
from portal.programmes.models import Programme

FIXED_SPLIT = "fixed-split"  # as the kit names it: it scores the test split alone, from which nothing is learnt


class Task(models.Model):
    """One disease question on one frozen data set, with the protocol that answers it."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="tasks")
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120)
    dataset = models.ForeignKey(DataSet, on_delete=models.PROTECT, related_name="tasks")
    label = models.CharField(max_length=60, help_text="Column of labels.csv; 0 or 1, empty: not graded for this.")
    protocol = models.JSONField(
        default=dict, help_text="The kit's TaskConfig: folds, C, solver, subgroups, resamples, seed."
    )
    position = models.PositiveSmallIntegerField(default=0)
    registered_at = models.DateTimeField(default=timezone.now)
    adopted_at = models.DateTimeField(null=True, blank=True, help_text="When the board adopted it into the benchmark.")

    class Meta:
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.name


class Evaluation(models.Model):
    """What one candidate scored on one task. Same hashes in, same numbers out."""

    task = models.ForeignKey(Task, on_delete=models.PROTECT, related_name="evaluations")
    candidate = models.ForeignKey(Candidate, on_delete=models.PROTECT, related_name="evaluations")
    run_id = models.BigIntegerField()
    dataset_sha256 = models.CharField(max_length=64)
    candidate_sha256 = models.CharField(max_length=64)
    n = models.PositiveIntegerField()
    n_positive = models.PositiveIntegerField()
    auroc = models.FloatField(null=True, help_text="Empty: no labelled data.")
    low = models.FloatField(null=True, help_text="2.5th percentile of the patient-level bootstrap.")
    high = models.FloatField(null=True, help_text="97.5th percentile.")
    report = models.JSONField(help_text="The kit's whole report: subgroups, ROC points, versions.")
    recorded_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["task__position", "-auroc"]
        constraints = [
            models.UniqueConstraint(fields=["task", "candidate", "run_id"], name="one_evaluation_per_run"),
            models.CheckConstraint(condition=Q(n_positive__lte=F("n")), name="evaluation_positives_within_n"),
            models.CheckConstraint(
                condition=Q(auroc__isnull=True, low__isnull=True, high__isnull=True)
                | Q(
                    # without these three, a comparison with NULL is unknown, and a CHECK lets the unknown pass
                    auroc__isnull=False,
                    low__isnull=False,
                    high__isnull=False,
                    auroc__gte=0,
                    auroc__lte=1,
                    low__lte=F("high"),
                ),
                name="evaluation_auroc_with_interval",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.candidate} on {self.task}"

    def get_absolute_url(self) -> str:
        return reverse("benchmarks:evaluation", args=[self.pk])

    @property
    def cell(self) -> dict[str, Any]:
        """The overall figures as a cell of the report, named by the task."""
        return {"value": self.task.name, "n": self.n, "auroc": self.auroc, "low": self.low, "high": self.high}

    @property
    def why_no_figure(self) -> str:
        """Why there is no AUROC, in words for a table; empty where there is one."""
        if self.auroc is not None:
            return ""
        if self.report["status"] == "too_few_labelled":
            return "too few labels"
        return "too few to show" if self.report["overall"] else "no labelled data"

    @property
    def learnt_from(self) -> int:
        """How many of the images that are scored the encoder has learnt from at most, though not their labels."""
        if self.report["protocol"].get("name") == FIXED_SPLIT:
            return 0
        parts = CorpusPart.objects.filter(corpus=self.candidate.corpus_id, dataset=self.task.dataset_id)
        return sum(parts.values_list("image_count", flat=True))

    @property
    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """The cells of the report by attribute: region, country, source, camera."""
        found: dict[str, list[dict[str, Any]]] = {}
        for cell in self.report["subgroups"]:
            found.setdefault(cell["attribute"], []).append(cell)
        return found
