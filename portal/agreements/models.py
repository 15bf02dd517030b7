"""The library of agreements, the cases in which institutions sign them, and the signatures."""

import hashlib
import secrets
from datetime import UTC, date, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse
from django.utils import timezone

from portal.accounts.models import User
from portal.agreements.lifecycle import ENDED, ONCE_ACTIVE, OPEN, TRANSITIONS, Status
from portal.audit.models import AuditEvent
from portal.institutions.models import Institution
from portal.programmes.models import Programme
from portal.signing import canonical

SHA256 = r"^[0-9a-f]{64}$"


class Party(models.TextChoices):
    """In which capacity a person signs."""

    PRINCIPAL_INVESTIGATOR = "principal_investigator", "Principal investigator"
    SIGNING_OFFICIAL = "signing_official", "Signing official"
    CONSORTIUM = "consortium", "Consortium"


class Side(models.TextChoices):
    """Which of the two sides of an agreement ended it."""

    INSTITUTION = "institution", "The institution"
    CONSORTIUM = "consortium", "The consortium"


def all_kinds() -> list[str]:
    """Return the kinds of contribution: an agreement covers all of them unless it says otherwise."""
    return ["weights", "synthetic", "images"]


def default_order() -> list[str]:
    """Return who signs, in order, unless an agreement says otherwise."""
    return [Party.PRINCIPAL_INVESTIGATOR.value, Party.SIGNING_OFFICIAL.value, Party.CONSORTIUM.value]


class Agreement(models.Model):
    """An entry of a programme's library: what it is for, who signs it and for how long."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="agreements")
    slug = models.SlugField(max_length=60)
    title = models.CharField(max_length=200)
    summary = models.TextField(blank=True, help_text="What it is for, in one or two plain sentences.")
    covers = models.JSONField(default=all_kinds, help_text="The kinds of contribution that need it.")
    signing_order = models.JSONField(default=default_order, help_text="Who signs, first to last.")
    months_valid = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Empty: it does not expire.")
    reconsent_days = models.PositiveSmallIntegerField(default=60, help_text="To sign a material new version.")
    grace_days = models.PositiveSmallIntegerField(default=30, help_text="After that, before work stops.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["programme", "id"]
        constraints = [
            models.UniqueConstraint(fields=["programme", "slug"], name="agreement_slug_once"),
            models.CheckConstraint(condition=~Q(months_valid=0), name="agreement_valid_for_some_time"),
            models.CheckConstraint(condition=~Q(signing_order=[]), name="agreement_has_a_signer"),
        ]

    def __str__(self) -> str:
        return self.title


class AgreementVersion(models.Model):
    """One immutable text of an agreement. A trigger refuses UPDATE and DELETE."""

    agreement = models.ForeignKey(Agreement, on_delete=models.PROTECT, related_name="versions")
    version = models.PositiveIntegerField()
    text = models.TextField(help_text="Markdown with {{ variables }}.")
    sha256 = models.CharField(max_length=64, help_text="Of the text's UTF-8 bytes.")
    language = models.CharField(max_length=10, default="en", help_text="Of the text, which alone is binding.")
    change_note = models.TextField(blank=True)
    is_material = models.BooleanField(default=True, help_text="Whether signers of earlier versions must sign again.")
    deletion_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="In which the files of a withdrawn contribution go. Empty: it says nothing."
    )
    side_notes = models.JSONField(default=dict, blank=True, help_text="Section number to plain words.")
    published_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-version"]
        constraints = [
            models.UniqueConstraint(fields=["agreement", "version"], name="agreement_version_once"),
            models.CheckConstraint(condition=Q(sha256__regex=SHA256), name="agreement_sha256"),
            models.CheckConstraint(condition=~Q(deletion_days=0), name="agreement_leaves_time_to_delete"),
        ]

    def __str__(self) -> str:
        return f"{self.agreement.title}, version {self.version}"

    @property
    def title(self) -> str:
        return self.agreement.title

    @property
    def programme(self) -> Programme:
        return self.agreement.programme


class AgreementTranslation(models.Model):
    """A translation that helps reading and never binds. A trigger refuses UPDATE and DELETE."""

    version = models.ForeignKey(AgreementVersion, on_delete=models.PROTECT, related_name="translations")
    language = models.CharField(max_length=10)
    text = models.TextField()
    sha256 = models.CharField(max_length=64)
    side_notes = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["language"]
        constraints = [
            models.UniqueConstraint(fields=["version", "language"], name="agreement_translation_once"),
            models.CheckConstraint(condition=Q(sha256__regex=SHA256), name="agreement_translation_sha256"),
        ]

    def __str__(self) -> str:
        return f"{self.version} ({self.language})"


def new_receipt_code() -> str:
    """Return a code of 20 characters for a public receipt: 80 bits, unguessable."""
    return secrets.token_hex(10)


def _was_sent() -> Q:
    """Return the condition that a case was sent to its signers: what was taken back as a draft stays where it was."""
    sent = AuditEvent.objects.filter(
        subject_type="signingrequest",
        subject_id=OuterRef("pk"),
        verb=TRANSITIONS[Status.DRAFT, Status.SIGNING],
    )
    return Q(status__in=[Status.SIGNING, *ONCE_ACTIVE]) | Q(
        Exists(sent), status__in=[Status.DECLINED, Status.WITHDRAWN]
    )


class SigningRequestQuerySet(models.QuerySet["SigningRequest"]):
    def visible_to(self, user: User | AnonymousUser) -> "SigningRequestQuerySet":
        """
        Cases are seen by people of the institutions in them; cases that were sent also by the consortium.

        The people of a merged institution are those of what it was merged into.
        """
        if not user.is_authenticated:
            return self.none()
        held = user.memberships.current().values("institution")
        own = Institution.objects.filter(Q(pk__in=held) | Q(merged_into__in=held)).values("pk")
        involved = Q(institution__in=own) | Q(
            pk__in=CoveredInstitution.objects.filter(institution__in=own).values("request")
        )
        if user.consortium_roles.current().exists():
            involved |= _was_sent()
        return self.filter(involved)

    def locked(self) -> "SigningRequestQuerySet":
        """Lock the rows for a change, and bring what names them."""
        rows = self.select_for_update(of=("self",))
        return rows.select_related("agreement", "agreement_version__agreement", "institution")


class SigningRequest(models.Model):
    """
    One case: an institution signs one version, in one exact text.

    From the first signature on a trigger refuses every change of what was signed; DELETE is always refused.
    """

    agreement = models.ForeignKey(Agreement, on_delete=models.PROTECT, related_name="requests")
    agreement_version = models.ForeignKey(AgreementVersion, on_delete=models.PROTECT, related_name="requests")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="signing_requests")
    status = models.CharField(max_length=20, choices=Status, default=Status.DRAFT)
    status_since = models.DateTimeField(default=timezone.now)
    variables = models.JSONField(default=dict)
    text = models.TextField(help_text="Rendered: exactly what is signed.")
    text_sha256 = models.CharField(max_length=64)
    expires_on = models.DateField(null=True, blank=True, help_text="The last day on which it is valid.")
    ends_on = models.DateField(null=True, blank=True, help_text="The last day, once the consortium has given notice.")
    ended_by = models.CharField(
        max_length=12, blank=True, choices=Side, help_text="Which side terminated it, or gave notice."
    )
    receipt_code = models.CharField(max_length=20, unique=True, default=new_receipt_code)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    activated_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True, help_text="Why it was declined, withdrawn or terminated.")
    renews = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="renewals")

    objects = SigningRequestQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="request_status_known"),
            models.CheckConstraint(condition=Q(text_sha256__regex=SHA256), name="request_sha256"),
            models.CheckConstraint(condition=Q(receipt_code__regex=r"^[0-9a-f]{20}$"), name="request_receipt_code"),
            models.CheckConstraint(
                condition=Q(activated_at__isnull=False, status__in=ONCE_ACTIVE)
                | (Q(activated_at__isnull=True) & ~Q(status__in=ONCE_ACTIVE)),
                name="request_activated_at_iff_activated",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=False, status__in=ENDED)
                | (Q(ended_at__isnull=True) & ~Q(status__in=ENDED)),
                name="request_ended_at_iff_ended",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["declined", "terminated"]) | ~Q(reason=""), name="request_end_has_a_reason"
            ),
            models.CheckConstraint(
                condition=Q(ended_by="") | (Q(ended_by__in=list(Side)) & ~Q(reason="")),
                name="request_ended_by_a_side_with_a_reason",
            ),
            models.CheckConstraint(
                condition=Q(ends_on__isnull=True) | Q(ended_by="consortium", activated_at__isnull=False),
                name="request_notice_is_of_the_consortium",
            ),
            models.UniqueConstraint(
                fields=["institution", "agreement"], condition=Q(status__in=OPEN), name="one_open_request"
            ),
            models.UniqueConstraint(
                fields=["institution", "agreement"], condition=Q(status="active"), name="one_active_request"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agreement_version} for {self.institution}"

    def get_absolute_url(self) -> str:
        return reverse("agreements:case", args=[self.pk])

    @property
    def last_day(self) -> date | None:
        """The last day on which it is valid: its own, or the one that a notice brought forward."""
        return min((day for day in (self.expires_on, self.ends_on) if day), default=None)

    @property
    def receipt_url(self) -> str:
        return reverse("agreements:receipt", args=[self.receipt_code])


class CoveredInstitution(models.Model):
    """A further hospital under the same agreement: named by the signing institution, confirmed by its own people."""

    request = models.ForeignKey(SigningRequest, on_delete=models.PROTECT, related_name="covered")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="covered_by")
    confirmed_at = models.DateTimeField(null=True, blank=True)
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["request", "institution"], name="institution_covered_once"),
            models.CheckConstraint(
                condition=Q(confirmed_at__isnull=True, confirmed_by__isnull=True)
                | Q(confirmed_at__isnull=False, confirmed_by__isnull=False),
                name="cover_confirmed_at_iff_by",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.institution} under {self.request}"


class Signature(models.Model):
    """
    One person's signature in a case, kept for ever: append-only by trigger, PROTECT on everything.

    What is stored follows 21 CFR 11.50 (printed name, time, meaning) and 11.70 (bound to the record, here by the
    SHA-256 of the exact text). `previous_sha256` is the hash of the signature before it in the same case.
    """

    request = models.ForeignKey(SigningRequest, on_delete=models.PROTECT, related_name="signatures")
    position = models.PositiveSmallIntegerField(help_text="1 is the first signature of the case.")
    signer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="signatures")
    printed_name = models.CharField(max_length=200)
    institution_name = models.CharField(max_length=250, help_text="As it was called then.")
    institution = models.ForeignKey(
        Institution, null=True, blank=True, on_delete=models.PROTECT, related_name="signatures"
    )
    role = models.CharField(max_length=30, choices=Party)
    authority = models.TextField(help_text="What the signer stated about the authority to sign.")
    meaning = models.TextField()
    document_id = models.CharField(max_length=60, help_text="The agreement's short name in its programme.")
    document_title = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    text_sha256 = models.CharField(max_length=64)
    signed_at = models.DateTimeField()
    authentication = models.JSONField(help_text="The methods by which the signer proved who they are, again.")
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    audit_index = models.BigIntegerField(unique=True, help_text="The number of its event in the audit log.")
    previous_sha256 = models.CharField(max_length=64, blank=True, help_text="Empty for the first one.")

    class Meta:
        ordering = ["request", "position"]
        constraints = [
            models.UniqueConstraint(fields=["request", "position"], name="one_signature_per_position"),
            models.UniqueConstraint(fields=["request", "role"], name="one_signature_per_role"),
            models.UniqueConstraint(fields=["request", "signer"], name="nobody_signs_twice"),
            models.CheckConstraint(condition=Q(text_sha256__regex=SHA256), name="signature_sha256"),
            models.CheckConstraint(condition=Q(role__in=list(Party)), name="signature_role_known"),
            models.CheckConstraint(
                condition=Q(position=1, previous_sha256="") | Q(position__gt=1, previous_sha256__regex=SHA256),
                name="signature_chained",
            ),
            models.CheckConstraint(
                condition=Q(role="consortium", institution__isnull=True)
                | (~Q(role="consortium") & Q(institution__isnull=False)),
                name="signature_of_an_institution_or_the_consortium",
            ),
            models.CheckConstraint(condition=~Q(printed_name=""), name="signature_has_a_printed_name"),
        ]

    def __str__(self) -> str:
        return f"{self.get_role_display()} under {self.document_title}, version {self.version}"

    def record(self) -> dict[str, Any]:
        """Return everything that was signed and how, as the chain hashes it and the full receipt shows it."""
        return {
            "position": self.position,
            "signer_id": self.signer_id,
            "printed_name": self.printed_name,
            "institution_id": self.institution_id,
            "institution_name": self.institution_name,
            "role": self.role,
            "authority": self.authority,
            "meaning": self.meaning,
            "document_id": self.document_id,
            "document_title": self.document_title,
            "version": self.version,
            "text_sha256": self.text_sha256,
            "signed_at": _utc(self.signed_at),
            "authentication": self.authentication,
            "ip_address": self.ip_address,
            "user_agent": self.user_agent,
            "audit_index": self.audit_index,
            "previous_sha256": self.previous_sha256,
        }

    @property
    def sha256(self) -> str:
        """The SHA-256 of the canonical JSON of record(): what the next signature of the case carries."""
        return hashlib.sha256(canonical(self.record())).hexdigest()


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
