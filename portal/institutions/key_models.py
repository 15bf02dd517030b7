"""The keys with which an institution signs what it sends."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from portal.audit.people import plain


class SigningKeyQuerySet(models.QuerySet["SigningKey"]):
    def in_force(self) -> "SigningKeyQuerySet":
        return self.filter(revoked_at__isnull=True)


class SigningKey(models.Model):
    """The public half of an ed25519 key, registered by a signing official: once, and never again."""

    institution = models.ForeignKey("institutions.Institution", on_delete=models.PROTECT, related_name="signing_keys")
    label = models.CharField(max_length=80, help_text="Such as the machine that holds it.")
    public_key = models.CharField(max_length=44, help_text="32 bytes in base64.")
    fingerprint = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the 32 bytes.")
    registered_at = models.DateTimeField(default=timezone.now)
    registered_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    reason = models.CharField(max_length=300, blank=True, help_text="Why it was revoked.")

    objects = SigningKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(fingerprint__regex=r"^[0-9a-f]{64}$"), name="signing_key_fingerprint"),
            models.CheckConstraint(
                condition=Q(public_key__regex=r"^[A-Za-z0-9+/]{43}=$"), name="signing_key_public_key"
            ),
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=True, revoked_by__isnull=True, reason="")
                | (Q(revoked_at__isnull=False, revoked_by__isnull=False) & ~Q(reason="")),
                name="signing_key_revoked_by_somebody_for_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"signing key {self.fingerprint[:16]} of {self.institution}"

    @property
    def audit_name(self) -> str:
        return f"signing key {self.fingerprint[:16]} of {plain(self.institution)}"
