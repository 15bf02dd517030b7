"""What surrounds a motion: declarations, reviews, comments, the decision and what follows it, meetings."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from portal.audit.people import reference
from portal.institutions.models import Institution

MOTION = "board.Motion"
PERSON = settings.AUTH_USER_MODEL


class Interest(models.Model):
    """An entry of the register of interests: public, kept when it has ended. Within 36 months it recuses."""

    class Nature(models.TextChoices):
        EMPLOYMENT = "employment", "Employment or office"
        AUTHORSHIP = "authorship", "A paper or grant in common"
        FINANCIAL = "financial", "Money: shares, fees, patents, funding"
        FAMILY = "family", "Family or close friendship"
        OTHER = "other", "Another tie"

    member = models.ForeignKey(PERSON, on_delete=models.PROTECT, related_name="interests")
    nature = models.CharField(max_length=12, choices=Nature)
    institution = models.ForeignKey(
        Institution, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="With whom."
    )
    organisation = models.CharField(max_length=200, blank=True, help_text="With whom, when it is no institution here.")
    note = models.CharField(max_length=500, help_text="In a sentence. The register is public.")
    declared_at = models.DateTimeField(default=timezone.now)
    ended_on = models.DateField(null=True, blank=True, help_text="Empty: it lasts.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(institution__isnull=False, organisation="")
                | (Q(institution__isnull=True) & ~Q(organisation="")),
                name="interest_is_with_one_party",
            ),
            models.CheckConstraint(
                condition=Q(nature__in=["employment", "authorship", "financial", "family", "other"]),
                name="interest_nature_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_nature_display()}: {self.institution or self.organisation}"

    @property
    def audit_name(self) -> str:
        return f"an interest of {reference(self.member)}"


class Declaration(models.Model):
    """What a member answered, before the case opened, about interests in it. Append-only by trigger."""

    class Answer(models.TextChoices):
        NONE = "none", "I have no interest in the outcome"
        STAY = "stay", "I declare an interest and can still judge fairly"

    motion = models.ForeignKey(MOTION, on_delete=models.PROTECT, related_name="declarations")
    member = models.ForeignKey(PERSON, on_delete=models.PROTECT, related_name="declarations")
    answer = models.CharField(max_length=5, choices=Answer)
    note = models.TextField(blank=True)
    declared_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["motion", "member"], name="one_declaration_per_member"),
            models.CheckConstraint(
                condition=Q(answer="none") | (Q(answer="stay") & ~Q(note="")), name="declaration_says_what"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.member} on {self.motion}: {self.get_answer_display()}"

    @property
    def audit_name(self) -> str:
        return f"declaration of {reference(self.member)}"


class ReviewQuerySet(models.QuerySet["Review"]):
    def current(self) -> "ReviewQuerySet":
        """Reviews that were not given to somebody else."""
        return self.filter(ended_at__isnull=True)

    def waiting(self) -> "ReviewQuerySet":
        return self.current().filter(submitted_at__isnull=True, motion__status="reviewing")


class Review(models.Model):
    """One reviewer's look at a motion before its ballot opens."""

    class Recommendation(models.TextChoices):
        APPROVE = "approve", "Approve"
        CONDITIONS = "conditions", "Approve with conditions"
        RETURN = "return", "Return for changes"
        REJECT = "reject", "Reject"

    motion = models.ForeignKey(MOTION, on_delete=models.PROTECT, related_name="reviews")
    reviewer = models.ForeignKey(PERSON, on_delete=models.PROTECT, related_name="board_reviews")
    assigned_at = models.DateTimeField()
    due_on = models.DateField()
    answers = models.JSONField(default=dict, blank=True, help_text="Per question: yes, no, unclear; and a remark.")
    recommendation = models.CharField(max_length=10, choices=Recommendation, blank=True)
    note = models.TextField(blank=True)
    submitted_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True, help_text="When it was given to somebody else.")

    objects = ReviewQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["motion", "reviewer"], condition=Q(ended_at__isnull=True), name="one_review_per_reviewer"
            ),
            models.CheckConstraint(
                condition=Q(submitted_at__isnull=True, recommendation="")
                | (
                    Q(submitted_at__isnull=False, recommendation__in=["approve", "conditions", "return", "reject"])
                    & ~Q(note="")
                ),
                name="review_submitted_with_its_recommendation",
            ),
        ]

    def __str__(self) -> str:
        return f"review of {self.motion}"

    @property
    def audit_name(self) -> str:
        return f"review of M-{self.motion_id} by {reference(self.reviewer)}"


class Comment(models.Model):
    """A note on a motion: the board's own discussion, or one that the applicant reads too. Append-only by trigger."""

    class Audience(models.TextChoices):
        BOARD = "board", "The board only"
        APPLICANT = "applicant", "The applicant too"

    motion = models.ForeignKey(MOTION, on_delete=models.PROTECT, related_name="comments")
    author = models.ForeignKey(PERSON, on_delete=models.PROTECT, related_name="+")
    audience = models.CharField(max_length=9, choices=Audience)
    text = models.TextField()
    written_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(audience__in=["board", "applicant"]), name="comment_audience_known"),
            models.CheckConstraint(condition=~Q(text=""), name="comment_not_empty"),
        ]

    def __str__(self) -> str:
        return f"comment on {self.motion}"

    @property
    def audit_name(self) -> str:
        return f"a comment on M-{self.motion_id}"


class Decision(models.Model):
    """The permanent number of a decided motion: of its year, without gaps. Append-only by trigger."""

    motion = models.OneToOneField(MOTION, on_delete=models.PROTECT, related_name="decision")
    year = models.PositiveSmallIntegerField()
    number = models.PositiveIntegerField()
    decided_at = models.DateTimeField()

    class Meta:
        ordering = ["-year", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["year", "number"], name="one_decision_per_number"),
            models.CheckConstraint(condition=Q(number__gte=1), name="decision_numbers_start_at_one"),
        ]

    def __str__(self) -> str:
        return f"D-{self.year}-{self.number:04}"

    def get_absolute_url(self) -> str:
        return reverse("decisions:show", args=[self.year, self.number])


class MinorityOpinion(models.Model):
    """Why a member who was outvoted disagrees; within 7 days, published beside the decision. Append-only by trigger."""

    decision = models.ForeignKey(Decision, on_delete=models.PROTECT, related_name="opinions")
    author = models.ForeignKey(PERSON, on_delete=models.PROTECT, related_name="+")
    text = models.TextField()
    filed_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["decision", "author"], name="one_opinion_per_member"),
            models.CheckConstraint(condition=~Q(text=""), name="opinion_not_empty"),
        ]

    def __str__(self) -> str:
        return f"minority opinion on {self.decision}"

    @property
    def audit_name(self) -> str:
        return f"minority opinion of {reference(self.author)} on {self.decision}"


class Condition(models.Model):
    """What an institution owes after an approval with conditions."""

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        REPORTED = "reported", "Reported as met"
        MET = "met", "Met"
        WAIVED = "waived", "Waived"

    motion = models.ForeignKey(MOTION, on_delete=models.PROTECT, related_name="conditions")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="conditions")
    text = models.TextField()
    due_on = models.DateField()
    status = models.CharField(max_length=8, choices=Status, default=Status.OPEN)
    report = models.TextField(blank=True, help_text="What the institution did.")
    reported_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    settled_by = models.ForeignKey(PERSON, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    note = models.TextField(blank=True, help_text="What the board answered.")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["open", "reported"], settled_at__isnull=True)
                | Q(status__in=["met", "waived"], settled_at__isnull=False, settled_by__isnull=False),
                name="condition_settled_at_iff_settled",
            ),
            models.CheckConstraint(
                condition=~Q(status="reported") | ~Q(report=""), name="condition_reported_with_text"
            ),
        ]

    def __str__(self) -> str:
        return f"condition {self.pk} of M-{self.motion_id}"


class Meeting(models.Model):
    """A meeting of the board with its agenda and, afterwards, its minutes."""

    title = models.CharField(max_length=200)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    place = models.CharField(max_length=300, help_text="A room, or the address of the call.")
    called_by = models.ForeignKey(PERSON, on_delete=models.PROTECT, related_name="+")
    called_at = models.DateTimeField(default=timezone.now)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    minutes = models.TextField(blank=True, help_text="Markdown.")
    minuted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="meeting_ends_after_it_starts"),
            models.CheckConstraint(
                condition=Q(minutes="", minuted_at__isnull=True) | (~Q(minutes="") & Q(minuted_at__isnull=False)),
                name="meeting_minuted_at_iff_minutes",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("board:meeting", args=[self.pk])


class AgendaItem(models.Model):
    """One point of an agenda: a motion, or a text."""

    meeting = models.ForeignKey(Meeting, on_delete=models.CASCADE, related_name="agenda")
    position = models.PositiveSmallIntegerField()
    motion = models.ForeignKey(MOTION, on_delete=models.PROTECT, null=True, blank=True, related_name="agenda_items")
    text = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["meeting", "position"], name="one_agenda_item_per_position"),
            models.UniqueConstraint(fields=["meeting", "motion"], name="a_motion_is_once_on_an_agenda"),
            models.CheckConstraint(condition=Q(motion__isnull=False) | ~Q(text=""), name="agenda_item_says_what"),
        ]

    def __str__(self) -> str:
        return self.text or str(self.motion)


class Attendance(models.Model):
    """Whether a member will come."""

    class Answer(models.TextChoices):
        YES = "yes", "I come"
        NO = "no", "I cannot come"

    meeting = models.ForeignKey(Meeting, on_delete=models.CASCADE, related_name="attendances")
    member = models.ForeignKey(PERSON, on_delete=models.PROTECT, related_name="+")
    answer = models.CharField(max_length=3, choices=Answer)
    answered_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["meeting", "member"], name="one_answer_per_member"),
            models.CheckConstraint(condition=Q(answer__in=["yes", "no"]), name="attendance_answer_known"),
        ]

    def __str__(self) -> str:
        return f"{self.member}: {self.get_answer_display()}"
