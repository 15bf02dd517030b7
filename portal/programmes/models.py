"""Programmes (one specialty each) and their registered base generators."""

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Programme(models.Model):
    """A specialty: another one is configuration, not code."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=120)
    modality = models.CharField(max_length=120, help_text="For example: colour fundus photography.")
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class BaseModel(models.Model):
    """A base generator that sites fine-tune; `config` holds its schema (tensors, dtypes, shapes) and thresholds."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="base_models")
    slug = models.SlugField(max_length=60)
    version = models.CharField(max_length=20)
    config = models.JSONField(help_text="The kit's config.json: architecture, schema, scheduler, thresholds.")
    card = models.TextField(help_text="Training card, Markdown.")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    storage_key = models.CharField(max_length=200, help_text="In the vault.")
    licence = models.CharField(max_length=60, default="CC-BY-NC-4.0")
    registered_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["slug", "version"]
        constraints = [
            models.UniqueConstraint(fields=["programme", "slug", "version"], name="base_model_version_once"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="base_model_sha256"),
        ]

    def __str__(self) -> str:
        return f"{self.slug} {self.version}"
