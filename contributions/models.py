"""What institutions give: contributions, their files, the results of their checks."""

from datetime import timedelta

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import TruncDate
from django.urls import reverse
from django.utils import timezone

from contributions.credit_models import Contributor
from contributions.lifecycle import CLOSED, LIVE, Status
from contributions.room_models import RoomRequest
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit.people import plain
from portal.institutions.models import Institution
from portal.programmes.models import BaseModel, Programme

__all__ = [
    "Attestation", "CheckResult", "Contribution", "ContributionFile", "Contributor", "Evidence", "Hold", "Isolation",
    "RoomRequest",
]  # fmt: skip

# Two years, one of them a leap year, from when the draft was begun: the time that a study and its publication take.
LONGEST_EMBARGO = timedelta(days=731)


class ContributionQuerySet(models.QuerySet["Contribution"]):
    def visible_to(self, user: User) -> "ContributionQuerySet":
        """
        Its institution's people see it always; the board from review on; operators and auditors once submitted.

        The people of a merged institution are those of what it was merged into.
        """
        if not user.is_authenticated:
            return self.none()
        own = user.memberships.current().values("institution")
        mine = Q(institution__in=own) | Q(institution__merged_into__in=own)
        if accounts.is_auditor(user):
            return self.filter(mine | Q(submitted_at__isnull=False))
        seats = accounts.programmes_seated(user)
        if seats:
            own_board = Q() if None in seats else Q(programme__in=seats)
            return self.filter(mine | Q(own_board, referred_at__isnull=False))
        return self.filter(mine)


class Contribution(models.Model):
    """One immutable set of files; a corrected one is a new row that `supersedes` it."""

    class Kind(models.TextChoices):
        WEIGHTS = "weights", "Generator weights"
        SYNTHETIC = "synthetic", "Synthetic images"
        IMAGES = "images", "De-identified photographs"

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="contributions")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="contributions")
    kind = models.CharField(max_length=10, choices=Kind)
    title = models.CharField(max_length=200)
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, null=True, related_name="contributions")
    training_card = models.JSONField(default=dict, blank=True)
    embargo_until = models.DateField(
        null=True, blank=True, help_text="The first day, in UTC, on which it may be used; null where nothing keeps it."
    )
    status = models.CharField(max_length=12, choices=Status, default=Status.DRAFT)
    status_since = models.DateTimeField(default=timezone.now)
    manifest_sha256 = models.CharField(max_length=64, blank=True, help_text="Of its SHA256SUMS, set at submission.")
    supersedes = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="superseded_by"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    submitted_at = models.DateTimeField(null=True, blank=True)
    submitted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    referred_at = models.DateTimeField(null=True, blank=True, help_text="When it passed the checks.")
    decided_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True, help_text="Why it was rejected, returned or withdrawn.")
    deletion_asked_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When its institution, or the consortium after an incident, asked that its files be deleted at once.",
    )
    stalled_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when its checks, stopped by a fault, wait for an operator."
    )
    deletion_began_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="From when on the store may hold only some of its files.",
    )

    objects = ContributionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="contribution_status_known"),
            models.CheckConstraint(
                condition=Q(submitted_at__isnull=True, submitted_by__isnull=True)
                | Q(submitted_at__isnull=False, submitted_by__isnull=False),
                name="contribution_submitted_at_iff_by",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["draft", "withdrawn"])
                | (Q(submitted_at__isnull=False) & ~Q(manifest_sha256="")),
                name="contribution_submitted_once_past_draft",
            ),
            models.CheckConstraint(
                condition=Q(status="withdrawn")
                | Q(status__in=["approved", "rejected"], decided_at__isnull=False)
                | (~Q(status__in=["approved", "rejected"]) & Q(decided_at__isnull=True)),
                name="contribution_decided_iff_decision",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["rejected", "returned"]) | ~Q(reason=""),
                name="contribution_rejected_with_reason",
            ),
            models.CheckConstraint(
                condition=Q(deletion_asked_at__isnull=True) | Q(status__in=CLOSED),
                name="contribution_deletion_asked_once_closed",
            ),
            models.CheckConstraint(
                condition=Q(deletion_began_at__isnull=True) | Q(status__in=CLOSED),
                name="contribution_deletion_begins_once_closed",
            ),
            models.CheckConstraint(
                condition=Q(stalled_at__isnull=True) | Q(status="submitted"), name="contribution_stalls_in_the_queue"
            ),
            models.CheckConstraint(
                condition=Q(kind="images") | Q(base_model__isnull=False), name="contribution_names_its_base"
            ),
            models.CheckConstraint(
                condition=Q(embargo_until__isnull=True)
                | Q(embargo_until__lte=TruncDate("created_at") + LONGEST_EMBARGO),
                name="contribution_embargo_ends_in_time",
            ),
            models.UniqueConstraint(
                fields=["institution", "manifest_sha256"],
                condition=Q(status__in=LIVE),
                name="one_live_contribution_per_institution_and_files",
            ),
        ]

    def __str__(self) -> str:
        return f"C-{self.pk} {plain(self.title)}"  # mails quote it, where a typed {person:17} would become a name

    def get_absolute_url(self) -> str:
        return reverse("contributions:show", args=[self.pk])


class ContributionFile(models.Model):
    """One file of a contribution: known by its parts' hashes and its size, uploaded in parts, verified by a worker."""

    class State(models.TextChoices):
        UPLOADING = "uploading", "Uploading"
        UPLOADED = "uploaded", "Uploaded"
        VERIFIED = "verified", "Verified"
        REFUSED = "refused", "Refused"
        DELETED = "deleted", "Deleted"

    contribution = models.ForeignKey(Contribution, on_delete=models.PROTECT, related_name="files")
    name = models.CharField(max_length=200)
    size_bytes = models.PositiveBigIntegerField()
    parts_sha256 = models.CharField(max_length=64, help_text="SHA-256 of its parts' SHA-256, one after the other.")
    sha256 = models.CharField(
        max_length=64, blank=True, help_text="As declared once its parts are here; the worker computes it again."
    )
    state = models.CharField(max_length=10, choices=State, default=State.UPLOADING)
    storage_key = models.CharField(max_length=200, unique=True)
    upload_id = models.CharField(max_length=300)
    part_size_bytes = models.PositiveIntegerField()
    vault_version = models.CharField(
        max_length=200, blank=True, help_text="Of the promoted copy: the version whose bytes were hashed again."
    )
    added_at = models.DateTimeField(default=timezone.now)
    reminded_at = models.DateTimeField(null=True, blank=True, help_text="That its upload stands still.")
    uploaded_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="When its bytes left the store; the row stays.")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["contribution", "parts_sha256", "size_bytes"], name="one_upload_per_hash_and_size"
            ),
            models.UniqueConstraint(fields=["contribution", "name"], name="one_file_per_name"),
            models.CheckConstraint(condition=Q(parts_sha256__regex=r"^[0-9a-f]{64}$"), name="file_parts_sha256"),
            models.CheckConstraint(
                condition=Q(state="uploading", sha256="") | Q(sha256__regex=r"^[0-9a-f]{64}$"), name="file_sha256"
            ),
            models.CheckConstraint(
                condition=Q(state="uploading", uploaded_at__isnull=True)
                | (~Q(state="uploading") & Q(uploaded_at__isnull=False)),
                name="file_uploaded_at_iff_uploaded",
            ),
            models.CheckConstraint(
                condition=Q(state="deleted", deleted_at__isnull=False, vault_version="")
                | (~Q(state="deleted") & Q(deleted_at__isnull=True)),
                name="file_deleted_at_iff_deleted",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def part_count(self) -> int:
        """Number of parts; an empty file has one empty part."""
        return max(1, -(-self.size_bytes // self.part_size_bytes))


class HoldQuerySet(models.QuerySet["Hold"]):
    def standing(self) -> "HoldQuerySet":
        """Return the holds that are not released."""
        return self.filter(released_at=None)


class Hold(models.Model):
    """While it is not released, nothing deletes the contribution's files: a court or an inquiry may need them."""

    contribution = models.ForeignKey(Contribution, on_delete=models.PROTECT, related_name="holds")
    reason = models.TextField(help_text="Who needs the files, and for what.")
    placed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    placed_at = models.DateTimeField(default=timezone.now)
    release_reason = models.TextField(blank=True, help_text="Why the files are needed no longer.")
    released_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    released_at = models.DateTimeField(null=True, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        verbose_name = "hold on files"
        verbose_name_plural = "holds on files"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["contribution"], condition=Q(released_at__isnull=True), name="one_hold_at_a_time"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="hold_has_a_reason"),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True, released_by__isnull=True, release_reason="")
                | (Q(released_at__isnull=False, released_by__isnull=False) & ~Q(release_reason="")),
                name="hold_released_by_somebody_for_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"Hold on {self.contribution}"


class IsolationQuerySet(models.QuerySet["Isolation"]):
    def standing(self) -> "IsolationQuerySet":
        """Return the isolations that are not lifted."""
        return self.filter(lifted_at=None)


class Isolation(models.Model):
    """While it is not lifted, nothing uses or shows the contribution: it may hold what must not be sent."""

    contribution = models.ForeignKey(Contribution, on_delete=models.PROTECT, related_name="isolations")
    reason = models.TextField(help_text="What was found.")
    file_names = ArrayField(models.CharField(max_length=200), help_text="Of the files that are concerned.")
    placed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    placed_at = models.DateTimeField(default=timezone.now)
    lift_reason = models.TextField(blank=True, help_text="Why it was a mistake.")
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    lifted_at = models.DateTimeField(null=True, blank=True)
    deletion_ordered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    deletion_ordered_at = models.DateTimeField(null=True, blank=True)

    objects = IsolationQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["contribution"], condition=Q(lifted_at__isnull=True), name="one_isolation_at_a_time"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="isolation_has_a_reason"),
            models.CheckConstraint(condition=~Q(file_names=[]), name="isolation_names_files"),
            models.CheckConstraint(
                condition=Q(lifted_at__isnull=True, lifted_by__isnull=True, lift_reason="")
                | (Q(lifted_at__isnull=False, lifted_by__isnull=False) & ~Q(lift_reason="")),
                name="isolation_lifted_by_somebody_for_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(deletion_ordered_at__isnull=True, deletion_ordered_by__isnull=True)
                | Q(deletion_ordered_at__isnull=False, deletion_ordered_by__isnull=False, lifted_at__isnull=True),
                name="isolation_deletion_ordered_by_somebody_or_lifted",
            ),
        ]

    def __str__(self) -> str:
        return f"Isolation of {self.contribution}"


class Attestation(models.Model):
    """What the institution signed about its file: a DSSE envelope, as the kit wrote it. Workers verify it."""

    class Kind(models.TextChoices):
        SIGNATURE = "signature", "Signature"
        PRIVACY = "privacy", "Privacy report"

    contribution = models.ForeignKey(Contribution, on_delete=models.PROTECT, related_name="attestations")
    kind = models.CharField(max_length=10, choices=Kind)
    envelope = models.JSONField()
    added_at = models.DateTimeField(default=timezone.now)
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["kind"]
        constraints = [
            models.UniqueConstraint(fields=["contribution", "kind"], name="one_attestation_per_kind"),
            models.CheckConstraint(condition=Q(kind__in=["signature", "privacy"]), name="attestation_kind_known"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.contribution}"


class CheckResult(models.Model):
    """What one check said about a contribution, in one attempt of its run."""

    class Verdict(models.TextChoices):
        PASS = "pass", "Pass"
        WARN = "warn", "Warning"
        FAIL = "fail", "Fail"

    contribution = models.ForeignKey(Contribution, on_delete=models.CASCADE, related_name="check_results")
    run_id = models.BigIntegerField(help_text="The jobs.Run that found it; jobs stand above contributions, so no key.")
    attempt = models.PositiveSmallIntegerField()
    number = models.PositiveSmallIntegerField(help_text="As in the table of checks.")
    name = models.CharField(max_length=40)
    verdict = models.CharField(max_length=4, choices=Verdict)
    sentence = models.TextField()
    fix = models.TextField(blank=True)
    evidence = models.JSONField(default=dict)
    duration_seconds = models.FloatField()
    checked_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["run_id", "attempt", "number"]
        constraints = [
            models.UniqueConstraint(fields=["run_id", "attempt", "number"], name="one_result_per_check_and_attempt"),
            models.CheckConstraint(condition=Q(verdict__in=["pass", "warn", "fail"]), name="check_verdict_known"),
            models.CheckConstraint(condition=Q(duration_seconds__gte=0), name="check_duration_not_negative"),
        ]

    def __str__(self) -> str:
        return f"check {self.number} {self.name}: {self.verdict}"


class Evidence(models.Model):
    """A picture or file that a check produced, kept in the vault."""

    contribution = models.ForeignKey(Contribution, on_delete=models.CASCADE, related_name="evidence_files")
    run_id = models.BigIntegerField()
    attempt = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=100)
    storage_key = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    added_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run_id", "attempt", "name"], name="one_evidence_per_name_and_attempt"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="evidence_sha256"),
        ]

    def __str__(self) -> str:
        return self.name
