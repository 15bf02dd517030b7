"""Candidate encoders, releases, licences and their acceptances, downloads."""

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from contributions.corpora.models import Corpus, CorpusPart
from contributions.rules import institutions_to_act_for
from governance.releases.lifecycle import NOT_PUBLIC, Status
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit.people import reference
from portal.institutions.models import Institution
from portal.programmes.models import Programme

SHA256 = r"^[0-9a-f]{64}$"


class License(models.Model):
    """A licence text, verbatim; immutable by trigger."""

    spdx_id = models.CharField("SPDX id", max_length=60, unique=True)
    title = models.CharField(max_length=200)
    url = models.URLField("canonical address")
    text = models.TextField()
    sha256 = models.CharField(max_length=64, help_text="Of the text's UTF-8 bytes.")
    registered_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(sha256__regex=SHA256), name="license_sha256")]

    def __str__(self) -> str:
        return self.title

    @property
    def allows_commercial_use(self) -> bool:
        """Whether it does, by its SPDX id: CC-BY-NC-4.0 and PolyForm-Noncommercial-1.0.0 do not."""
        return not {"nc", "noncommercial"} & set(self.spdx_id.lower().split("-"))


class Candidate(models.Model):
    """An encoder that stands on the leaderboard: one of our own training, or a baseline from a package."""

    class Kind(models.TextChoices):
        TRAINED = "trained", "Trained by the consortium"
        BASELINE = "baseline", "Baseline"

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="candidates")
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=10, choices=Kind)
    description = models.TextField(blank=True)
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, null=True, blank=True, related_name="candidates")
    run_id = models.BigIntegerField(null=True, blank=True, help_text="The jobs.Run that trained it.")
    config = models.JSONField(default=dict, help_text="The kit's encoder configuration, with the transform.")
    training = models.JSONField(default=dict, blank=True, help_text="Steps, loss curve, seed, device, seconds.")
    sha256 = models.CharField(max_length=64, help_text="Of the weights file.")
    size_bytes = models.PositiveBigIntegerField(default=0)
    storage_key = models.CharField(
        max_length=200, blank=True, help_text="Of the weights in the vault; empty: in a package."
    )
    registered_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=SHA256), name="candidate_sha256"),
            models.CheckConstraint(
                condition=Q(kind="baseline") | Q(corpus__isnull=False, run_id__isnull=False) & ~Q(storage_key=""),
                name="trained_candidate_names_its_corpus",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def release(self) -> "Release | None":
        """Its newest release, also a declined one, after which another may be proposed; None: it has none."""
        return next(iter(self.releases.all()), None)

    @property
    def public_release(self) -> "Release | None":
        """Its release that anybody may see, also as a tombstone."""
        return self.release if self.release is not None and self.release.status not in NOT_PUBLIC else None

    @property
    def may_be_proposed(self) -> bool:
        """Whether the consortium trained it and no release of it is before the board, let out or retracted."""
        return self.kind == self.Kind.TRAINED and (self.release is None or self.release.status == Status.DECLINED)


class ReleaseQuerySet(models.QuerySet["Release"]):
    def visible_to(self, user: User | AnonymousUser) -> "ReleaseQuerySet":
        """What was ever released is public, retracted ones as tombstones; the board sees all, who is asked theirs."""
        public = Q(status__in=[Status.RELEASED, Status.RETRACTED])
        if not user.is_authenticated:
            return self.filter(public)
        return self.filter(public | _as_the_board(user) | _as_one_asked(user))

    def read_by_the_board(self, user: User | AnonymousUser) -> "ReleaseQuerySet":
        """Return the releases of which the person reads all that the board reads."""
        return self.filter(_as_the_board(user)) if user.is_authenticated else self.none()


def _as_the_board(user: User) -> Q:
    if accounts.has_role(user, "board_member", "chair", "operator", "auditor"):
        return Q(pk__isnull=False)
    return Q(candidate__programme__in=accounts.programmes_seated(user))


def _as_one_asked(user: User) -> Q:
    """Return the condition for what is proposed, or was declined, and learnt from an institution that they manage."""
    own = institutions_to_act_for(user)
    given = Q(contribution__institution__in=own) | Q(contribution__institution__merged_into__in=own)
    learnt_from = CorpusPart.objects.filter(given).values("corpus")
    return Q(status__in=NOT_PUBLIC, candidate__corpus__in=learnt_from)


class Release(models.Model):
    """A version of a model that the board let out, under one licence."""

    candidate = models.ForeignKey(Candidate, on_delete=models.PROTECT, related_name="releases")
    slug = models.SlugField(max_length=80, unique=True, help_text="In the download address; stable for ever.")
    name = models.CharField(max_length=120)
    version = models.CharField(max_length=20)
    license = models.ForeignKey(License, on_delete=models.PROTECT, related_name="releases")
    card = models.TextField(help_text="Model card, Markdown.")
    status = models.CharField(max_length=12, choices=Status, default=Status.PROPOSED)
    status_since = models.DateTimeField(default=timezone.now)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField(default=timezone.now)
    released_at = models.DateTimeField(null=True, blank=True)
    retracted_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True, help_text="Why it was declined or retracted.")

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="release_status_known"),
            models.UniqueConstraint(
                fields=["candidate"], condition=~Q(status="declined"), name="one_release_of_a_candidate_not_declined"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["released", "retracted"], released_at__isnull=False)
                | (~Q(status__in=["released", "retracted"]) & Q(released_at__isnull=True)),
                name="release_released_at_iff_released",
            ),
            models.CheckConstraint(
                condition=Q(status="retracted", retracted_at__isnull=False)
                | (~Q(status="retracted") & Q(retracted_at__isnull=True)),
                name="release_retracted_at_iff_retracted",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def get_absolute_url(self) -> str:
        return reverse("releases:show", args=[self.slug])


class SiteAnswer(models.Model):
    """What an institution says of a release, before the board decides, of a model that learnt from its contribution."""

    class Answer(models.TextChoices):
        APPROVES = "approves", "Approves"
        OBJECTS = "objects", "Objects"

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="site_answers")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="release_answers")
    answer = models.CharField(max_length=8, choices=Answer)
    reason = models.TextField(blank=True, help_text="For the board; never shown to other institutions.")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    answered_at = models.DateTimeField()

    class Meta:
        verbose_name = "answer of an institution"
        verbose_name_plural = "answers of institutions"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["release", "institution"], name="one_answer_per_release_and_institution"),
            models.CheckConstraint(condition=Q(answer__in=["approves", "objects"]), name="site_answer_known"),
            models.CheckConstraint(condition=~Q(answer="objects") | ~Q(reason=""), name="objection_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"answer of {self.institution} to {self.release}"


class ReleaseFile(models.Model):
    """One file of a release, in the releases bucket."""

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="files")
    name = models.CharField(max_length=120)
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    storage_key = models.CharField(max_length=200, unique=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["release", "name"], name="one_release_file_per_name"),
            models.CheckConstraint(condition=Q(sha256__regex=SHA256), name="release_file_sha256"),
        ]

    def __str__(self) -> str:
        return self.name


class LicenseAcceptance(models.Model):
    """Who accepted which text for which release, when, and for what purpose. Append-only by trigger."""

    class Channel(models.TextChoices):
        BROWSER = "browser", "Browser"
        API = "api", "API"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="license_acceptances")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="acceptances")
    license = models.ForeignKey(License, on_delete=models.PROTECT, related_name="acceptances")
    license_sha256 = models.CharField(max_length=64)
    typed_name = models.CharField(max_length=200)
    institution_name = models.CharField(max_length=250)
    purpose = models.TextField(help_text="Declared non-commercial purpose.")
    channel = models.CharField(max_length=10, choices=Channel)
    accepted_at = models.DateTimeField()

    class Meta:
        ordering = ["-accepted_at"]
        constraints = [
            models.UniqueConstraint(fields=["user", "release", "license"], name="one_acceptance_per_release_and_text"),
            models.CheckConstraint(condition=~Q(purpose="") & ~Q(typed_name=""), name="acceptance_states_purpose"),
            models.CheckConstraint(condition=Q(license_sha256__regex=SHA256), name="acceptance_sha256"),
        ]

    def __str__(self) -> str:
        return f"{self.license} for {self.release}"


class Download(models.Model):
    """One presigned address given out."""

    file = models.ForeignKey(ReleaseFile, on_delete=models.PROTECT, related_name="downloads")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="downloads")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.file} by {self.user}"

    @property
    def audit_name(self) -> str:
        return f"download by {reference(self.user)}"
