"""Motions, votes and recusals."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from contributions.models import Contribution
from governance.board.lifecycle import Status
from governance.releases.models import Release
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit.people import reference
from portal.institutions.models import Institution
from portal.programmes.models import Programme


class MotionQuerySet(models.QuerySet["Motion"]):
    def visible_to(self, user: User) -> "MotionQuerySet":
        """Motions are seen by the board, operators and auditors; by a programme's own board, those of the programme."""
        if accounts.has_role(user, "board_member", "chair", "operator", "auditor"):
            return self.all()
        seats = accounts.programmes_seated(user)
        return self.filter(Q(contribution__programme__in=seats) | Q(release__candidate__programme__in=seats))


class Motion(models.Model):
    """A question before the board. Its rule is frozen when it opens."""

    class Kind(models.TextChoices):
        ADMIT_INSTITUTION = "admit_institution", "Admit an institution"
        APPROVE_CONTRIBUTION = "approve_contribution", "Approve a contribution"
        RELEASE_MODEL = "release_model", "Release a model"

    kind = models.CharField(max_length=30, choices=Kind)
    title = models.CharField(max_length=300)
    institution = models.ForeignKey(
        Institution,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="motions",
        help_text="The applicant, or the contributor: its members are recused.",
    )
    round = models.PositiveSmallIntegerField(
        default=1, help_text="Which round of the application it judges: another round is another question."
    )
    contribution = models.ForeignKey(
        Contribution, on_delete=models.PROTECT, null=True, blank=True, related_name="motions"
    )
    release = models.ForeignKey(Release, on_delete=models.PROTECT, null=True, blank=True, related_name="motions")
    quorum = models.PositiveSmallIntegerField(help_text="Votes needed, abstentions included.")
    threshold_percent = models.PositiveSmallIntegerField(help_text="Of for + against; strictly more carries at 50.")
    status = models.CharField(max_length=12, choices=Status, default=Status.OPEN)
    opened_at = models.DateTimeField(default=timezone.now)
    opened_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    closes_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = MotionQuerySet.as_manager()

    class Meta:
        ordering = ["opened_at", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="motion_status_known"),
            models.CheckConstraint(
                condition=Q(status="open", closed_at__isnull=True) | (~Q(status="open") & Q(closed_at__isnull=False)),
                name="motion_closed_at_iff_closed",
            ),
            models.CheckConstraint(
                condition=Q(
                    kind="admit_institution", institution__isnull=False, contribution__isnull=True, release__isnull=True
                )
                | Q(
                    kind="approve_contribution",
                    institution__isnull=False,
                    contribution__isnull=False,
                    release__isnull=True,
                )
                | Q(kind="release_model", institution__isnull=True, contribution__isnull=True, release__isnull=False),
                name="motion_has_its_subject",
            ),
            models.CheckConstraint(
                condition=Q(threshold_percent__gte=50, threshold_percent__lte=100, quorum__gte=1),
                name="motion_rule_in_range",
            ),
            models.UniqueConstraint(
                fields=["contribution"], condition=Q(status="open"), name="one_open_motion_per_contribution"
            ),
            models.UniqueConstraint(fields=["release"], condition=Q(status="open"), name="one_open_motion_per_release"),
            models.UniqueConstraint(
                fields=["institution"],
                condition=Q(status="open", kind="admit_institution"),
                name="one_open_motion_per_applicant",
            ),
        ]

    def __str__(self) -> str:
        return f"M-{self.pk} {self.title}"

    def get_absolute_url(self) -> str:
        return reverse("board:motion", args=[self.pk])

    @property
    def programme(self) -> Programme | None:
        """The programme whose board votes; None: the question concerns them all."""
        if self.contribution is not None:
            return self.contribution.programme
        return self.release.candidate.programme if self.release is not None else None


class Vote(models.Model):
    """One vote of one board member; final. Append-only by trigger."""

    class Choice(models.TextChoices):
        FOR = "for", "For"
        AGAINST = "against", "Against"
        ABSTAIN = "abstain", "Abstain"

    motion = models.ForeignKey(Motion, on_delete=models.PROTECT, related_name="votes")
    voter = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="votes")
    voter_institution = models.ForeignKey(
        Institution,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Where the voter belonged when voting.",
    )
    subject_institution = models.ForeignKey(
        Institution,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Copied from the motion.",
    )
    choice = models.CharField(max_length=8, choices=Choice)
    reason = models.TextField(blank=True)
    cast_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["motion", "voter"], name="one_vote_per_member"),
            models.CheckConstraint(condition=Q(choice__in=["for", "against", "abstain"]), name="vote_choice_known"),
            models.CheckConstraint(condition=Q(choice="for") | ~Q(reason=""), name="vote_reason_unless_for"),
            models.CheckConstraint(
                condition=Q(voter_institution__isnull=True)
                | Q(subject_institution__isnull=True)
                | ~Q(voter_institution=F("subject_institution")),
                name="vote_not_on_own_institution",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.voter}: {self.get_choice_display()}"

    @property
    def audit_name(self) -> str:
        return f"vote of {reference(self.voter)}"


class Recusal(models.Model):
    """A board member who stepped aside; members of the subject's institution are recused without a row."""

    motion = models.ForeignKey(Motion, on_delete=models.PROTECT, related_name="recusals")
    member = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="recusals")
    reason = models.TextField()
    declared_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["motion", "member"], name="one_recusal_per_member")]

    def __str__(self) -> str:
        return f"{self.member} on {self.motion}"

    @property
    def audit_name(self) -> str:
        return f"recusal of {reference(self.member)}"
