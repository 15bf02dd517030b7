"""Versions of the data-use agreement and the signatures under them."""

import secrets

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from portal.institutions.models import Institution, Membership
from portal.programmes.models import Programme


class AgreementVersion(models.Model):
    """One immutable text of the data-use agreement. A trigger refuses UPDATE and DELETE."""

    programme = models.ForeignKey(Programme, on_delete=models.PROTECT, related_name="agreement_versions")
    version = models.PositiveIntegerField()
    title = models.CharField(max_length=200)
    text = models.TextField(help_text="Markdown; exactly what is signed.")
    sha256 = models.CharField(max_length=64, help_text="Of the text's UTF-8 bytes.")
    change_note = models.TextField(blank=True)
    published_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-version"]
        constraints = [
            models.UniqueConstraint(fields=["programme", "version"], name="agreement_version_once"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="agreement_sha256"),
        ]

    def __str__(self) -> str:
        return f"{self.title}, version {self.version}"


def new_receipt_code() -> str:
    """Return a code of 20 characters for a public receipt: 100 bits, unguessable."""
    return secrets.token_hex(10)


class Signature(models.Model):
    """
    An institution's signature under one version, kept for ever: append-only by trigger, PROTECT on everything.

    What is stored follows 21 CFR 11.50: printed name, time and meaning; and the SHA-256 of the exact text.
    """

    agreement = models.ForeignKey(AgreementVersion, on_delete=models.PROTECT, related_name="signatures")
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="signatures")
    signer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="signatures")
    typed_name = models.CharField(max_length=200)
    role = models.CharField(max_length=30, choices=Membership.Role)
    meaning = models.TextField()
    text_sha256 = models.CharField(max_length=64)
    authentication = models.CharField(max_length=60, help_text="How the signer proved who they are, again.")
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)
    signed_at = models.DateTimeField()
    receipt_code = models.CharField(max_length=20, unique=True, default=new_receipt_code)

    class Meta:
        ordering = ["-signed_at"]
        constraints = [
            models.UniqueConstraint(fields=["agreement", "institution"], name="one_signature_per_institution"),
            models.CheckConstraint(condition=Q(text_sha256__regex=r"^[0-9a-f]{64}$"), name="signature_sha256"),
            models.CheckConstraint(condition=Q(role="signing_official"), name="signature_by_signing_official"),
        ]

    def __str__(self) -> str:
        return f"{self.agreement} for {self.institution}"

    def get_absolute_url(self) -> str:
        return reverse("agreements:receipt", args=[self.receipt_code])
