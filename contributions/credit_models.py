"""Who is credited for a contribution: one line for each person, which only that person confirms."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from portal.audit.people import plain, reference


class CreditRole(models.TextChoices):
    """The fourteen roles of CRediT. Source: ANSI/NISO Z39.104-2022, Contributor Roles Taxonomy."""

    CONCEPTUALIZATION = "conceptualization", "Conceptualization"
    DATA_CURATION = "data-curation", "Data curation"
    FORMAL_ANALYSIS = "formal-analysis", "Formal analysis"
    FUNDING_ACQUISITION = "funding-acquisition", "Funding acquisition"
    INVESTIGATION = "investigation", "Investigation"
    METHODOLOGY = "methodology", "Methodology"
    PROJECT_ADMINISTRATION = "project-administration", "Project administration"
    RESOURCES = "resources", "Resources"
    SOFTWARE = "software", "Software"
    SUPERVISION = "supervision", "Supervision"
    VALIDATION = "validation", "Validation"
    VISUALIZATION = "visualization", "Visualization"
    WRITING_DRAFT = "writing-original-draft", "Writing – original draft"
    WRITING_REVIEW = "writing-review-editing", "Writing – review & editing"


class Contributor(models.Model):
    """A person named on a contribution. Unconfirmed lines are seen by the institution's people alone."""

    contribution = models.ForeignKey(
        "contributions.Contribution", on_delete=models.PROTECT, related_name="contributors"
    )
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    roles = ArrayField(models.CharField(max_length=30), default=list, blank=True)
    added_at = models.DateTimeField(default=timezone.now)
    confirmed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["contribution", "person"], name="one_line_per_contributor"),
            models.CheckConstraint(
                condition=Q(roles__contained_by=[str(role) for role in CreditRole]), name="contributor_roles_known"
            ),
            models.CheckConstraint(
                condition=Q(confirmed_at__isnull=True) | Q(roles__len__gte=1), name="contributor_confirmed_with_a_role"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person} on {self.contribution}"

    @property
    def audit_name(self) -> str:
        return f"line of {reference(self.person)} on {plain(self.contribution)}"

    @property
    def institution_id(self) -> int:
        return self.contribution.institution_id

    def role_labels(self) -> list[str]:
        """Return the roles in words, in the order of the taxonomy."""
        return [role.label for role in CreditRole if role.value in self.roles]
