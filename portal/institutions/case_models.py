"""What belongs to the case of an institution: rounds of review, requests to join, documents, chosen kinds, ROR."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from portal.institutions.lifecycle import DeclineCode, Outcome
from portal.institutions.vocabulary import Pathway, Role

INSTITUTION = "institutions.Institution"


def _person(*, null: bool = False) -> models.ForeignKey:
    """A person on record: never deleted with the account."""
    return models.ForeignKey(
        settings.AUTH_USER_MODEL, null=null, blank=null, on_delete=models.PROTECT, related_name="+"
    )


class Review(models.Model):
    """One round: the answers as they were sent, who looks at them until when, and how it ended."""

    institution = models.ForeignKey(INSTITUTION, on_delete=models.PROTECT, related_name="reviews")
    number = models.PositiveSmallIntegerField()
    snapshot = models.JSONField(help_text="The profile as it was sent.")
    sent_at = models.DateTimeField(default=timezone.now)
    sent_by = _person()
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="reviews"
    )
    target_on = models.DateField(help_text="Five working days after sending.")
    outcome = models.CharField(max_length=12, choices=Outcome, default=Outcome.OPEN)
    code = models.CharField(max_length=20, choices=DeclineCode, blank=True)
    note = models.TextField(blank=True, help_text="What the reviewer or the board said.")
    ended_at = models.DateTimeField(null=True, blank=True)
    appeal_of = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="appeal", help_text="One per decision."
    )
    grounds = models.TextField(blank=True, help_text="Why the applicants appeal.")
    reminded_at = models.DateTimeField(null=True, blank=True)
    escalated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["sent_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["institution", "number"], name="review_number_once"),
            models.UniqueConstraint(
                fields=["institution"], condition=Q(outcome="open"), name="one_open_review_per_institution"
            ),
            models.CheckConstraint(condition=Q(outcome__in=list(Outcome)), name="review_outcome_known"),
            models.CheckConstraint(
                condition=Q(outcome="open", ended_at__isnull=True) | (~Q(outcome="open") & Q(ended_at__isnull=False)),
                name="review_ended_at_iff_ended",
            ),
            models.CheckConstraint(
                condition=(~Q(outcome="declined") & Q(code="")) | (Q(outcome="declined") & ~Q(code="") & ~Q(note="")),
                name="review_declined_says_why",
            ),
            models.CheckConstraint(
                condition=Q(appeal_of__isnull=True, grounds="") | (Q(appeal_of__isnull=False) & ~Q(grounds="")),
                name="review_appeal_has_grounds",
            ),
            models.CheckConstraint(
                condition=Q(escalated_at__isnull=True) | Q(reminded_at__isnull=False),
                name="review_escalated_after_reminder",
            ),
        ]

    def __str__(self) -> str:
        return f"round {self.number} of {self.institution}"


class FieldComment(models.Model):
    """What a reviewer asks to change in one field."""

    review = models.ForeignKey(Review, on_delete=models.PROTECT, related_name="comments")
    field = models.CharField(max_length=40)
    text = models.TextField()
    by = _person()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [models.CheckConstraint(condition=~Q(text="") & ~Q(field=""), name="field_comment_says_what")]

    def __str__(self) -> str:
        return f"comment on {self.field} in {self.review}"


class JoinRequest(models.Model):
    """Somebody asks the managers of an institution for a role in it."""

    class State(models.TextChoices):
        ASKED = "asked", "Waiting"
        ACCEPTED = "accepted", "Accepted"
        DECLINED = "declined", "Declined"

    institution = models.ForeignKey(INSTITUTION, on_delete=models.PROTECT, related_name="join_requests")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="join_requests")
    role = models.CharField("wanted role", max_length=30, choices=Role)
    message = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.ASKED)
    asked_at = models.DateTimeField(default=timezone.now)
    answered_by = _person(null=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True)

    class Meta:
        ordering = ["asked_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["institution", "person"], condition=Q(state="asked"), name="one_open_join_request"
            ),
            models.CheckConstraint(
                condition=Q(role__in=["principal_investigator", "steward", "signing_official", "member"]),
                name="join_request_role_known",
            ),
            models.CheckConstraint(
                condition=Q(state="asked", answered_at__isnull=True, answered_by__isnull=True)
                | Q(state__in=["accepted", "declined"], answered_at__isnull=False, answered_by__isnull=False),
                name="join_request_answered_iff_by",
            ),
            models.CheckConstraint(
                condition=~Q(state="declined") | ~Q(reason=""), name="join_request_declined_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"request to join {self.institution}"


class Document(models.Model):
    """A version of the ethics document, in quarantine: the portal never opens it, people only download it."""

    class State(models.TextChoices):
        SENDING = "sending", "Not here whole yet"
        STORED = "stored", "Here"

    institution = models.ForeignKey(INSTITUTION, on_delete=models.PROTECT, related_name="documents")
    version = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=200, help_text="As the sender called it; shown, never used as a path.")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveIntegerField()
    key = models.CharField(max_length=200, unique=True)
    state = models.CharField(max_length=10, choices=State, default=State.SENDING)
    uploaded_by = _person()
    uploaded_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-version"]
        constraints = [
            models.UniqueConstraint(fields=["institution", "version"], name="document_version_once"),
            models.UniqueConstraint(fields=["institution", "sha256"], name="document_once_per_institution"),
            models.CheckConstraint(condition=Q(state__in=["sending", "stored"]), name="document_state_known"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="document_sha256"),
            models.CheckConstraint(
                condition=Q(size_bytes__gte=1, size_bytes__lte=20 * 2**20), name="document_size_in_range"
            ),
        ]

    def __str__(self) -> str:
        return f"ethics document {self.version} of {self.institution}"


class PathwayChoice(models.Model):
    """A kind of contribution that an institution has chosen, from when to when."""

    institution = models.ForeignKey(INSTITUTION, on_delete=models.PROTECT, related_name="pathway_choices")
    kind = models.CharField(max_length=10, choices=Pathway)
    chosen_at = models.DateTimeField(default=timezone.now)
    chosen_by = _person()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["chosen_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["institution", "kind"], condition=Q(ended_at__isnull=True), name="one_current_choice_per_kind"
            ),
            models.CheckConstraint(condition=Q(kind__in=list(Pathway)), name="pathway_kind_known"),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(ended_at__gte=F("chosen_at")), name="pathway_ends_after_choice"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display().lower()} of {self.institution}"


class RorOrganisation(models.Model):
    """An entry of the Research Organization Registry, from its public dump: what `manage.py load_ror` replaces."""

    ror_id = models.CharField(max_length=9, primary_key=True)
    name = models.CharField(max_length=300)
    local_name = models.CharField(max_length=300, blank=True)
    country = models.CharField(max_length=2)
    city = models.CharField(max_length=150, blank=True)
    website = models.CharField(max_length=300, blank=True)
    key = models.CharField(max_length=300, help_text="The name without case and accents.")
    words = models.TextField(help_text="Every word of every name, without case and accents, once each.")

    class Meta:
        ordering = ["key"]

    def __str__(self) -> str:
        return self.name
