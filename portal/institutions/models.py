"""Institutions, the people in them, invitations."""

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from portal.accounts.models import User
from portal.audit.people import plain, reference
from portal.institutions.case_models import (
    Document,
    FieldComment,
    JoinRequest,
    PathwayChoice,
    Review,
    RorOrganisation,
)
from portal.institutions.key_models import SigningKey
from portal.institutions.lifecycle import DeclineCode, Status
from portal.institutions.option_models import ProfileOption
from portal.institutions.vocabulary import LegalBasis, Pathway, Role

__all__ = [
    "Document",
    "FieldComment",
    "Institution",
    "Invitation",
    "JoinRequest",
    "Membership",
    "PathwayChoice",
    "ProfileOption",
    "Review",
    "RorOrganisation",
    "SigningKey",
]


class InstitutionQuerySet(models.QuerySet["Institution"]):
    def visible_to(self, user: User | AnonymousUser) -> "InstitutionQuerySet":
        """Members, merged ones too, are public; an application is seen by its people, the board and auditors."""
        public = Q(status__in=[Status.MEMBER, Status.MERGED])
        if not user.is_authenticated:
            return self.filter(public)
        own = Q(pk__in=user.memberships.current().values("institution"))
        if user.consortium_roles.current().everywhere().exists():
            return self.filter(~Q(status=Status.DRAFT) | own)
        return self.filter(public | own)

    def one_with(self, institution: "Institution") -> "InstitutionQuerySet":
        """Return what is one institution today: the one that acts, and all that were merged into it."""
        acting = institution.merged_into_id or institution.pk
        return self.filter(Q(pk=acting) | Q(merged_into=acting))


class Institution(models.Model):
    """A hospital, university or company that applies to, or is a member of, the consortium."""

    class Kind(models.TextChoices):
        HOSPITAL = "hospital", "Hospital or clinic"
        UNIVERSITY = "university", "University"
        INSTITUTE = "institute", "Research institute"
        SCREENING = "screening", "Screening programme"
        COMPANY = "company", "Company"

    class Answer(models.TextChoices):
        YES = "yes", "Yes"
        NO = "no", "No"
        UNKNOWN = "unknown", "Not known yet"

    class Gpu(models.TextChoices):
        NONE = "none", "No GPU"
        SMALL = "small", "One GPU with up to 16 GB"
        LARGE = "large", "A GPU with 24 GB or more, or several"
        UNKNOWN = "unknown", "Not known yet"

    class Expertise(models.TextChoices):
        NONE = "none", "Nobody who trains models"
        SOME = "some", "Somebody who can run a command line"
        TEAM = "team", "A machine-learning team"
        UNKNOWN = "unknown", "Not known yet"

    class Naming(models.TextChoices):
        NAMED = "named", "Yes, by our name"
        UNNAMED = "unnamed", "No, without our name"

    slug = models.SlugField(max_length=80, unique=True)
    name = models.CharField(max_length=250)
    local_name = models.CharField("name in the local script", max_length=250, blank=True)
    ror_id = models.CharField("ROR id", max_length=9, blank=True, help_text="Nine characters, as in ror.org/04cpxjv19.")
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2; the UN M49 region follows from it.")
    subregion = models.CharField(max_length=3, help_text="UN M49 code of the sub-region, derived from the country.")
    city = models.CharField(max_length=120, blank=True)
    website = models.URLField(blank=True)
    kind = models.CharField(max_length=20, choices=Kind)
    population_served = models.TextField("population served", blank=True)
    care_settings = models.JSONField("where the images are taken", default=list, blank=True)
    image_count = models.PositiveIntegerField(
        "colour fundus photographs", null=True, blank=True, help_text="A guess is fine."
    )
    oct_count = models.PositiveIntegerField("OCT scans", null=True, blank=True)
    widefield_count = models.PositiveIntegerField("wide-field images", null=True, blank=True)
    other_count = models.PositiveIntegerField("images of another kind", null=True, blank=True)
    cameras = models.TextField(blank=True)
    years_from = models.PositiveSmallIntegerField("first year", null=True, blank=True)
    years_to = models.PositiveSmallIntegerField("last year", null=True, blank=True)
    labels = models.JSONField("diseases with labels", default=list, blank=True)
    sex_recorded = models.CharField(
        "is the sex of the patient recorded?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    age_recorded = models.CharField(
        "is the age of the patient recorded?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    ethnicity_recorded = models.CharField(
        "is the ethnicity of the patient recorded?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    gpu = models.CharField("GPU", max_length=10, choices=Gpu, default=Gpu.UNKNOWN)
    expertise = models.CharField(max_length=10, choices=Expertise, default=Expertise.UNKNOWN)
    images_may_leave = models.CharField(
        "may de-identified photographs leave the institution?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    synthetic_may_leave = models.CharField(
        "may synthetic images leave the institution?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    weights_may_leave = models.CharField(
        "may model weights leave the institution?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    regulation_note = models.TextField("limits of law or contract", blank=True)
    legal_basis = models.CharField(max_length=10, choices=LegalBasis, default=LegalBasis.UNKNOWN)
    ethics_reference = models.CharField(max_length=200, blank=True)
    naming = models.CharField("may releases name the institution?", max_length=10, choices=Naming, default=Naming.NAMED)
    unknown = models.JSONField(default=list, blank=True, help_text="Fields answered with “not known yet”.")
    status = models.CharField(max_length=20, choices=Status, default=Status.DRAFT)
    status_since = models.DateTimeField(default=timezone.now)
    round = models.PositiveSmallIntegerField(default=0, help_text="How often the application was sent.")
    decision_code = models.CharField(max_length=20, choices=DeclineCode, blank=True)
    decision_reason = models.TextField(blank=True)
    merged_into = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="aliases")
    created_at = models.DateTimeField(default=timezone.now)

    objects = InstitutionQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="institution_status_known"),
            models.CheckConstraint(condition=Q(naming__in=["named", "unnamed"]), name="institution_naming_known"),
            models.CheckConstraint(condition=Q(country__regex=r"^[A-Z]{2}$"), name="institution_country_alpha2"),
            models.CheckConstraint(
                condition=Q(ror_id="") | Q(ror_id__regex=r"^0[a-hj-km-np-tv-z0-9]{6}[0-9]{2}$"),
                name="institution_ror_id",
            ),
            models.UniqueConstraint(
                fields=["ror_id"],
                condition=~Q(ror_id="") & ~Q(status__in=["declined", "withdrawn", "merged"]),
                name="one_live_institution_per_ror_id",
            ),
            models.CheckConstraint(
                condition=Q(years_from__isnull=True) | Q(years_from__gte=1950, years_from__lte=2100),
                name="institution_years_from_in_range",
            ),
            models.CheckConstraint(
                condition=Q(years_to__isnull=True) | Q(years_to__gte=1950, years_to__lte=2100),
                name="institution_years_to_in_range",
            ),
            models.CheckConstraint(
                condition=Q(years_from__isnull=True) | Q(years_to__isnull=True) | Q(years_from__lte=F("years_to")),
                name="institution_years_in_order",
            ),
            models.CheckConstraint(
                condition=~Q(status="declined") | (~Q(decision_code="") & ~Q(decision_reason="")),
                name="institution_declined_says_why",
            ),
            models.CheckConstraint(
                condition=Q(status="merged", merged_into__isnull=False)
                | (~Q(status="merged") & Q(merged_into__isnull=True)),
                name="institution_merged_iff_into",
            ),
            models.CheckConstraint(
                condition=Q(merged_into__isnull=True) | ~Q(merged_into=F("id")), name="institution_not_into_itself"
            ),
        ]

    def __str__(self) -> str:
        return plain(self.name)  # mails quote it, where a typed {person:17} would become a name

    def get_absolute_url(self) -> str:
        return reverse("institutions:show", args=[self.slug])

    @property
    def institution_id(self) -> int:
        """The audit log files an institution's own events under itself."""
        return self.pk

    def merged_into_url(self) -> str:
        return self.merged_into.get_absolute_url() if self.merged_into else ""

    def chosen_kinds(self) -> set[str]:
        """Return the kinds of contribution that the institution has chosen: weights, synthetic, images."""
        return set(self.pathway_choices.filter(ended_at__isnull=True).values_list("kind", flat=True))

    def may_leave(self, kind: str) -> str:
        """Return what the institution says of a kind: yes, no or unknown."""
        answers = {
            Pathway.WEIGHTS: self.weights_may_leave,
            Pathway.SYNTHETIC: self.synthetic_may_leave,
            Pathway.IMAGES: self.images_may_leave,
        }
        return answers[Pathway(kind)]

    @property
    def is_named(self) -> bool:
        """Test if releases name it: it, and what it was merged into, did not ask otherwise."""
        asks = [self, *([self.merged_into] if self.merged_into else [])]
        return all(institution.naming == self.Naming.NAMED for institution in asks)


class MembershipQuerySet(models.QuerySet["Membership"]):
    def current(self) -> "MembershipQuerySet":
        return self.filter(ended_at__isnull=True)


class Membership(models.Model):
    """One role of one person in one institution, with dates. A person may hold several."""

    Role = Role

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=30, choices=Role)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "institution", "role"],
                condition=Q(ended_at__isnull=True),
                name="one_current_membership_per_role",
            ),
            models.UniqueConstraint(  # who leads the work cannot also bind the institution to it
                fields=["user", "institution"],
                condition=Q(ended_at__isnull=True, role__in=["principal_investigator", "signing_official"]),
                name="investigator_is_not_signing_official",
            ),
            models.CheckConstraint(
                condition=Q(role__in=["principal_investigator", "steward", "signing_official", "member"]),
                name="membership_role_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} as {self.get_role_display().lower()} of {self.institution}"

    @property
    def audit_name(self) -> str:
        return f"{reference(self.user)} as {self.get_role_display().lower()} of {plain(self.institution)}"


class Invitation(models.Model):
    """An invitation to one address and one role; single use, 14 days, only the digest of its secret is kept."""

    institution = models.ForeignKey(Institution, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=30, choices=Membership.Role)
    digest = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    invited_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    code_hmac = models.CharField(max_length=64, blank=True, help_text="Of the six digits in the mail; empty: no code.")
    code_attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(accepted_at__isnull=True, accepted_by__isnull=True)
                | Q(accepted_at__isnull=False, accepted_by__isnull=False),
                name="invitation_accepted_at_iff_by",
            ),
            models.CheckConstraint(
                condition=Q(accepted_at__isnull=True) | Q(withdrawn_at__isnull=True), name="invitation_ended_one_way"
            ),
            models.CheckConstraint(condition=Q(code_attempts__lte=5), name="invitation_code_attempts"),
        ]

    def __str__(self) -> str:
        return f"invitation of {self.email} as {self.get_role_display().lower()} of {self.institution}"

    @property
    def audit_name(self) -> str:
        """The log keeps no address; the invitation's number is the subject's."""
        return f"invitation of a {self.get_role_display().lower()} to {plain(self.institution)}"
