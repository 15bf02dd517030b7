"""Public data sets and the frozen mixtures of real and synthetic images made from them and from contributions."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from contributions.models import Contribution
from portal.programmes.models import Programme


class DataSet(models.Model):
    """Photographs with labels that the consortium may hold, as one tar in the vault; frozen by hash."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="datasets")
    slug = models.SlugField(max_length=60, unique=True)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    credits = models.TextField(help_text="Sources and licences, Markdown; shown wherever the set is.")
    is_phantom = models.BooleanField(default=False, help_text="Drawn by a program; no patient.")
    image_count = models.PositiveIntegerField()
    train_count = models.PositiveIntegerField(help_text="Images of the training split, the only ones trained on.")
    patient_count = models.PositiveIntegerField()
    manifest_sha256 = models.CharField(max_length=64, help_text="Of the sorted SHA256SUMS of its images.")
    sha256 = models.CharField(max_length=64, help_text="Of the tar.")
    size_bytes = models.PositiveBigIntegerField()
    storage_key = models.CharField(max_length=200)
    registered_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="dataset_sha256"),
            models.CheckConstraint(
                condition=Q(manifest_sha256__regex=r"^[0-9a-f]{64}$"), name="dataset_manifest_sha256"
            ),
        ]

    def __str__(self) -> str:
        return self.title


class Corpus(models.Model):
    """A mixture to train on; frozen when its manifest hash is set."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="corpora")
    slug = models.SlugField(max_length=60, unique=True)
    title = models.CharField(max_length=200)
    manifest_sha256 = models.CharField(max_length=64, blank=True, help_text="Of its parts, set when frozen.")
    created_at = models.DateTimeField(default=timezone.now)
    frozen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "corpora"
        constraints = [
            models.CheckConstraint(
                condition=Q(manifest_sha256="", frozen_at__isnull=True)
                | (~Q(manifest_sha256="") & Q(frozen_at__isnull=False)),
                name="corpus_frozen_iff_hash",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class CorpusPart(models.Model):
    """Images of one source: the training split of a data set, or images sampled from an approved generator."""

    class Kind(models.TextChoices):
        REAL = "real", "Real photographs"
        SYNTHETIC = "synthetic", "Synthetic images"

    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="parts")
    kind = models.CharField(max_length=10, choices=Kind)
    dataset = models.ForeignKey(DataSet, on_delete=models.PROTECT, null=True, blank=True, related_name="corpus_parts")
    contribution = models.ForeignKey(
        Contribution, on_delete=models.PROTECT, null=True, blank=True, related_name="corpus_parts"
    )
    image_count = models.PositiveIntegerField()
    seed = models.PositiveBigIntegerField(default=0, help_text="Of the sampling, for synthetic images.")
    source_sha256 = models.CharField(max_length=64, help_text="Data set manifest, or the generator's weights.")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="real", dataset__isnull=False, contribution__isnull=True)
                | Q(kind="synthetic", dataset__isnull=True, contribution__isnull=False),
                name="corpus_part_has_one_source",
            ),
            models.CheckConstraint(condition=Q(image_count__gte=1), name="corpus_part_not_empty"),
            models.UniqueConstraint(fields=["corpus", "dataset"], name="one_part_per_dataset"),
            models.UniqueConstraint(fields=["corpus", "contribution"], name="one_part_per_contribution"),
        ]

    def __str__(self) -> str:
        return f"{self.image_count} {self.get_kind_display().lower()} of {self.dataset or self.contribution}"

    @property
    def is_named(self) -> bool:
        """Test if the public reads whose it is. A title may hold the name, so it goes with it."""
        return self.contribution is None or self.contribution.institution.is_named

    @property
    def for_the_public(self) -> str:
        """The part in words, of an institution that asked not to be named without its title."""
        if self.is_named:
            return str(self)
        return f"{self.image_count} {self.get_kind_display().lower()} of C-{self.contribution_id}"
