"""Motions with their rules, votes, recusals; what surrounds a case and the meetings are in the files imported here."""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from contributions.models import Contribution
from governance.benchmarks.models import Task
from governance.board.case_models import (
    AgendaItem,
    Attendance,
    Comment,
    Condition,
    Decision,
    Declaration,
    Interest,
    Meeting,
    MinorityOpinion,
    Review,
)
from governance.board.lifecycle import DECIDED, UNDECIDED, Status
from governance.board.tally import Threshold
from governance.releases.models import Release
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.agreements.models import Agreement
from portal.audit.people import reference
from portal.institutions.models import Institution
from portal.programmes.models import Programme

__all__ = [
    "AgendaItem",
    "Attendance",
    "BallotRule",
    "CastingVote",
    "Comment",
    "Condition",
    "Decision",
    "Declaration",
    "Interest",
    "Kind",
    "Meeting",
    "MinorityOpinion",
    "Motion",
    "Recusal",
    "Review",
    "Vote",
]

RULE_FIELDS = ["electorate", "quorum_percent", "quorum_floor", "threshold", "per_institution", "days", "reviewers"]


class Kind(models.TextChoices):
    ADMIT_INSTITUTION = "admit_institution", "Admit an institution"
    APPROVE_CONTRIBUTION = "approve_contribution", "Approve a contribution"
    RELEASE_MODEL = "release_model", "Release a model"
    RETRACT_RELEASE = "retract_release", "Retract a release"
    SETTLE_WITHDRAWAL = "settle_withdrawal", "Settle what follows a withdrawal"
    PUBLISH_AGREEMENT = "publish_agreement", "Publish a version of an agreement"
    ADOPT_TASK = "adopt_task", "Adopt a benchmark task"
    GIVE_SEAT = "give_seat", "Give a seat on the board"


# What each kind is about: these columns are set, the other subjects are empty.
SUBJECTS: dict[Kind, set[str]] = {
    Kind.ADMIT_INSTITUTION: {"institution"},
    Kind.APPROVE_CONTRIBUTION: {"institution", "contribution"},
    Kind.RELEASE_MODEL: {"release"},
    Kind.RETRACT_RELEASE: {"release"},
    Kind.SETTLE_WITHDRAWAL: {"institution", "contribution"},
    Kind.PUBLISH_AGREEMENT: {"agreement"},
    Kind.ADOPT_TASK: {"task"},
    Kind.GIVE_SEAT: {"person"},
}
SUBJECT_FIELDS = ["institution", "contribution", "release", "agreement", "task", "person"]


def _has_its_subject() -> Q:
    """Return the condition that a motion names exactly what its kind is about."""
    found = Q()
    for kind, subject in SUBJECTS.items():
        found |= Q(kind=kind.value, **{f"{name}__isnull": name not in subject for name in SUBJECT_FIELDS})
    return found


def _in_range() -> Q:
    """Return the condition that a rule can be counted by."""
    return Q(
        electorate__in=["consortium", "programme"],
        threshold__in=[threshold.value for threshold in Threshold],
        quorum_floor__gte=1,
        quorum_percent__lte=100,
        days__gte=1,
        days__lte=90,
        reviewers__lte=5,
    )


class RuleFields(models.Model):
    """How a question is decided. A motion has a copy of its own; the database freezes it with the first ballot."""

    class Electorate(models.TextChoices):
        CONSORTIUM = "consortium", "Seats of every programme"
        PROGRAMME = "programme", "Seats of the programme, and of every one"

    electorate = models.CharField(max_length=10, choices=Electorate, default=Electorate.PROGRAMME)
    quorum_percent = models.PositiveSmallIntegerField(default=50, help_text="Of those who may vote.")
    quorum_floor = models.PositiveSmallIntegerField(default=3, help_text="Votes needed however many are recused.")
    threshold = models.CharField(
        max_length=10,
        choices=[
            (Threshold.MAJORITY, "More votes for than against"),
            (Threshold.TWO_THIRDS, "At least two thirds of the votes for and against"),
            (Threshold.UNANIMOUS, "Nobody against"),
        ],
        default=Threshold.MAJORITY,
    )
    per_institution = models.BooleanField(default=False, help_text="Members of one institution have one vote together.")
    days = models.PositiveSmallIntegerField(default=14, help_text="How long the ballot is open.")
    reviewers = models.PositiveSmallIntegerField(default=0, help_text="Who must recommend it before the ballot opens.")

    class Meta:
        abstract = True


class BallotRule(RuleFields):
    """The rule for a kind of motion, in every programme or in one. Motions without a ballot follow a change."""

    kind = models.CharField(max_length=30, choices=Kind)
    programme = models.ForeignKey(
        Programme, on_delete=models.PROTECT, null=True, blank=True, related_name="ballot_rules"
    )
    set_at = models.DateTimeField(default=timezone.now)
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["kind", "programme"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "programme"], nulls_distinct=False, name="one_rule_per_kind_and_programme"
            ),
            models.CheckConstraint(condition=Q(kind__in=list(Kind)), name="rule_kind_known"),
            models.CheckConstraint(condition=_in_range(), name="rule_in_range"),
        ]

    def __str__(self) -> str:
        where = f" in {self.programme}" if self.programme else ""
        return f"rule for “{self.get_kind_display().lower()}”{where}"


class MotionQuerySet(models.QuerySet["Motion"]):
    def visible_to(self, user: User) -> "MotionQuerySet":
        """Motions are seen by the board, operators and auditors; by a programme's own board, those of the programme."""
        if accounts.has_role(user, "board_member", "chair", "operator", "auditor"):
            return self.all()
        return self.filter(programme__in=accounts.programmes_seated(user) - {None})

    def concerning(self, user: User) -> "MotionQuerySet":
        """Motions about an institution that the person manages: the applicant's side of the table."""
        roles = ["principal_investigator", "steward", "signing_official"]
        own = user.memberships.current().filter(role__in=roles).values("institution")
        return self.filter(Q(institution__in=own) | Q(institution__merged_into__in=own))

    def undecided(self) -> "MotionQuerySet":
        return self.filter(status__in=UNDECIDED)


class Motion(RuleFields):
    """A question before the board."""

    Kind = Kind

    kind = models.CharField(max_length=30, choices=Kind)
    title = models.CharField(max_length=300)
    programme = models.ForeignKey(
        Programme,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="motions",
        help_text="Empty: the question concerns them all.",
    )
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
    agreement = models.ForeignKey(Agreement, on_delete=models.PROTECT, null=True, blank=True, related_name="motions")
    task = models.ForeignKey(Task, on_delete=models.PROTECT, null=True, blank=True, related_name="motions")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="motions"
    )
    proposal = models.JSONField(default=dict, blank=True, help_text="What is done when it is carried, by kind.")
    status = models.CharField(max_length=12, choices=Status, default=Status.OPEN)
    opened_at = models.DateTimeField(default=timezone.now, help_text="When it came before the board.")
    opened_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    closes_at = models.DateTimeField(null=True, blank=True, help_text="Empty until the ballot opens.")
    extended_at = models.DateTimeField(null=True, blank=True, help_text="When it was given 7 days more, once.")
    closed_at = models.DateTimeField(null=True, blank=True)
    arithmetic = models.JSONField(null=True, blank=True, help_text="The count with which it closed.")
    reason = models.TextField(blank=True, help_text="Why it was returned or taken back.")

    objects = MotionQuerySet.as_manager()

    class Meta:
        ordering = ["opened_at", "id"]
        indexes = [
            models.Index(fields=["opened_at", "id"], condition=Q(status__in=UNDECIDED), name="motion_docket"),
            models.Index(fields=["status", "closes_at"], name="motion_due"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="motion_status_known"),
            models.CheckConstraint(
                condition=Q(status__in=UNDECIDED, closed_at__isnull=True)
                | (~Q(status__in=UNDECIDED) & Q(closed_at__isnull=False)),
                name="motion_closed_at_iff_closed",
            ),
            models.CheckConstraint(
                condition=Q(status="reviewing", closes_at__isnull=True)
                | Q(status__in=["returned", "withdrawn"])
                | (~Q(status="reviewing") & Q(closes_at__isnull=False)),
                name="motion_closes_at_once_its_ballot_is_open",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=DECIDED) | Q(arithmetic__isnull=False),
                name="motion_decided_with_its_arithmetic",
            ),
            models.CheckConstraint(condition=_has_its_subject(), name="motion_has_its_subject"),
            models.CheckConstraint(condition=_in_range(), name="motion_rule_in_range"),
            models.CheckConstraint(
                condition=~Q(electorate="programme") | Q(programme__isnull=False),
                name="motion_names_the_programme_that_votes",
            ),
            *(
                models.UniqueConstraint(
                    fields=["kind", name],
                    condition=Q(status__in=UNDECIDED, **{f"{name}__isnull": False}),
                    name=f"one_undecided_motion_per_{name}",
                )
                for name in ("contribution", "release", "agreement", "task", "person")
            ),
            models.UniqueConstraint(
                fields=["institution"],
                condition=Q(status__in=UNDECIDED, kind="admit_institution"),
                name="one_undecided_motion_per_applicant",
            ),
        ]

    def __str__(self) -> str:
        return f"M-{self.pk} {self.title}"

    def get_absolute_url(self) -> str:
        return reverse("board:motion", args=[self.pk])

    @property
    def audit_name(self) -> str:
        """A seat's motion is called after the person, by reference."""
        return f"M-{self.pk} Give {reference(self.person)} a seat" if self.person else str(self)

    @property
    def subject(self) -> Any:
        """What the question is about."""
        return self.contribution or self.release or self.agreement or self.task or self.person or self.institution


class Vote(models.Model):
    """One ballot of one member. Append-only by trigger: who changes it casts the next, and the last one counts."""

    class Choice(models.TextChoices):
        FOR = "for", "For"
        AGAINST = "against", "Against"
        ABSTAIN = "abstain", "Abstain"

    motion = models.ForeignKey(Motion, on_delete=models.PROTECT, related_name="votes")
    voter = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="votes")
    number = models.PositiveSmallIntegerField(default=1, help_text="Of this member's ballots on this motion.")
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
    conditions = models.JSONField(default=list, blank=True, help_text="Texts; with a vote for, they become tasks.")
    cast_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["motion", "voter", "number"], name="one_ballot_per_number"),
            models.CheckConstraint(condition=Q(choice__in=["for", "against", "abstain"]), name="vote_choice_known"),
            models.CheckConstraint(condition=Q(choice="for") | ~Q(reason=""), name="vote_reason_unless_for"),
            models.CheckConstraint(condition=Q(choice="for") | Q(conditions=[]), name="vote_conditions_only_with_for"),
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


class CastingVote(models.Model):
    """The chair's decision of a tie. Append-only by trigger."""

    motion = models.OneToOneField(Motion, on_delete=models.PROTECT, related_name="casting_vote")
    chair = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="casting_votes")
    choice = models.CharField(max_length=8, choices=[("for", "For"), ("against", "Against")])
    reason = models.TextField()
    cast_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(choice__in=["for", "against"]), name="casting_vote_decides"),
            models.CheckConstraint(condition=~Q(reason=""), name="casting_vote_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"casting vote on {self.motion}"


class Recusal(models.Model):
    """A member who does not vote on a motion, by a rule or by own decision. Append-only by trigger."""

    class Basis(models.TextChoices):
        INSTITUTION = "institution", "Belongs to the institution concerned"
        COSIGNED = "cosigned", "Made, sent or signed for what is judged"
        INTEREST = "interest", "Declared an interest within 36 months"
        PERSON = "person", "Is the person concerned"
        VOLUNTARY = "voluntary", "Stepped aside"

    motion = models.ForeignKey(Motion, on_delete=models.PROTECT, related_name="recusals")
    member = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="recusals")
    basis = models.CharField(max_length=12, choices=Basis, default=Basis.VOLUNTARY)
    reason = models.TextField()
    declared_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["motion", "member"], name="one_recusal_per_member"),
            models.CheckConstraint(
                condition=Q(basis__in=["institution", "cosigned", "interest", "person", "voluntary"]),
                name="recusal_basis_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.member} on {self.motion}"

    @property
    def audit_name(self) -> str:
        return f"recusal of {reference(self.member)}"
