"""Programmes (one specialty each) and their registered base generators."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

KINDS = {"weights": "Generator weights", "synthetic": "Synthetic images", "images": "De-identified photographs"}
# The automatic checks by number (DESIGN.md, section 5) as they are called on pages.
CHECKS = {
    0: "The file arrived whole",
    1: "The container is safe",
    2: "A key of the institution signed it",
    4: "The structure is the base model's",
    5: "The numbers are sound",
    6: "The training card is complete",
    7: "Samples look like the modality",
    8: "Samples come near public images",
    9: "The privacy report holds",
    10: "Nothing looks planted",
    11: "A probe learns from samples",
}
NECESSARY_CHECKS = [0, 1, 4, 5]  # no programme goes without them: what they refuse must not be opened by anybody


def _only_weights() -> list[str]:
    return ["weights"]


def _every_check() -> list[int]:
    return list(CHECKS)


class ProgrammeQuerySet(models.QuerySet["Programme"]):
    def open(self) -> "ProgrammeQuerySet":
        """Programmes that take contributions."""
        return self.filter(is_open=True)


class Programme(models.Model):
    """A specialty, and the top-level tenant: another one is configuration (portal/blueprint), not code."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=120)
    modality = models.CharField(max_length=120, help_text="For example: colour fundus photography.")
    headline = models.CharField(
        max_length=120,
        blank=True,
        help_text="A sentence at the head of the home page, while no other programme is open.",
    )
    description = models.TextField(blank=True, help_text="One or two sentences.")
    public_description = models.TextField(blank=True, help_text="Markdown, for the programme's own page.")
    is_open = models.BooleanField(default=True, help_text="Closed: it takes no new contribution.")
    kinds = ArrayField(models.CharField(max_length=10), default=_only_weights, help_text="Contributions it takes.")
    purposes = ArrayField(
        models.CharField(max_length=200), default=list, blank=True, help_text="What contributions may be used for."
    )
    checks = ArrayField(
        models.PositiveSmallIntegerField(), default=_every_check, help_text="Numbers of the checks that run."
    )
    thresholds = models.JSONField(
        default=dict, blank=True, help_text="Thresholds of the checks that differ from those of the base model."
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects = ProgrammeQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kinds__contained_by=list(KINDS), kinds__len__gte=1), name="programme_kinds_known"
            ),
            models.CheckConstraint(
                condition=Q(checks__contained_by=list(CHECKS), checks__contains=NECESSARY_CHECKS),
                name="programme_checks_necessary",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("programmes:show", args=[self.slug])


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

    @property
    def reference_key(self) -> str:
        """Where its public reference images are kept; empty where it has none."""
        return self.storage_key.removesuffix(".safetensors") + ".reference.safetensors" if self.reference_sha256 else ""

    @property
    def reference_sha256(self) -> str:
        return str(self.config.get("reference", {}).get("sha256", ""))

    def effective_config(self) -> dict[str, Any]:
        """
        Return the kit's config.json with what the programme decides: which checks run, and their thresholds.

        Sites get it over the API and workers write it for the sandbox, so both check the same.
        """
        config = {**self.config, "checks_run": sorted(self.programme.checks)}
        if "checks" in config:
            config["checks"] = {**config["checks"], **self.programme.thresholds}
        return config
