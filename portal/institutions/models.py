"""Institutions, the people in them, invitations."""

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from portal.accounts.models import User
from portal.institutions.lifecycle import Status


class InstitutionQuerySet(models.QuerySet["Institution"]):
    def visible_to(self, user: User | AnonymousUser) -> "InstitutionQuerySet":
        """Members of the consortium are public; an application is seen by its people, the board and auditors."""
        public = Q(status=Status.MEMBER)
        if not user.is_authenticated:
            return self.filter(public)
        own = Q(pk__in=user.memberships.current().values("institution"))
        if user.consortium_roles.current().everywhere().exists():
            return self.filter(~Q(status=Status.DRAFT) | own)
        return self.filter(public | own)


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

    slug = models.SlugField(max_length=80, unique=True)
    name = models.CharField(max_length=250)
    local_name = models.CharField("name in the local script", max_length=250, blank=True)
    ror_id = models.CharField("ROR id", max_length=9, blank=True, help_text="Nine characters, as in ror.org/04cpxjv19.")
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2; the UN M49 region follows from it.")
    subregion = models.CharField(max_length=3, help_text="UN M49 code of the sub-region, derived from the country.")
    city = models.CharField(max_length=120, blank=True)
    website = models.URLField(blank=True)
    kind = models.CharField(max_length=20, choices=Kind)
    image_count = models.PositiveIntegerField(
        "photographs held", null=True, blank=True, help_text="Colour fundus photographs; a guess is fine."
    )
    gpu = models.CharField("GPU", max_length=10, choices=Gpu, default=Gpu.UNKNOWN)
    expertise = models.CharField(max_length=10, choices=Expertise, default=Expertise.NONE)
    images_may_leave = models.CharField(
        "may de-identified photographs leave the institution?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    synthetic_may_leave = models.CharField(
        "may synthetic images leave the institution?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    weights_may_leave = models.CharField(
        "may model weights leave the institution?", max_length=10, choices=Answer, default=Answer.UNKNOWN
    )
    regulation_note = models.TextField("regulatory limits", blank=True)
    ethics_reference = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=20, choices=Status, default=Status.DRAFT)
    status_since = models.DateTimeField(default=timezone.now)
    decision_reason = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = InstitutionQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="institution_status_known"),
            models.CheckConstraint(condition=Q(country__regex=r"^[A-Z]{2}$"), name="institution_country_alpha2"),
            models.CheckConstraint(
                condition=Q(ror_id="") | Q(ror_id__regex=r"^0[a-hj-km-np-tv-z0-9]{6}[0-9]{2}$"),
                name="institution_ror_id",
            ),
            models.UniqueConstraint(
                fields=["ror_id"],
                condition=~Q(ror_id="") & ~Q(status__in=["declined", "withdrawn"]),
                name="one_live_institution_per_ror_id",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("institutions:show", args=[self.slug])

    @property
    def institution_id(self) -> int:
        """The audit log files an institution's own events under itself."""
        return self.pk


class MembershipQuerySet(models.QuerySet["Membership"]):
    def current(self) -> "MembershipQuerySet":
        return self.filter(ended_at__isnull=True)


class Membership(models.Model):
    """One role of one person in one institution, with dates. A person may hold several."""

    class Role(models.TextChoices):
        PRINCIPAL_INVESTIGATOR = "principal_investigator", "Principal investigator"
        STEWARD = "steward", "Data steward"
        SIGNING_OFFICIAL = "signing_official", "Signing official"
        MEMBER = "member", "Member"

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
            models.CheckConstraint(
                condition=Q(role__in=["principal_investigator", "steward", "signing_official", "member"]),
                name="membership_role_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} as {self.get_role_display().lower()} of {self.institution}"


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
        ]

    def __str__(self) -> str:
        return f"invitation of {self.email} as {self.get_role_display().lower()} of {self.institution}"
