from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.agreements.models import (
    Agreement,
    AgreementTranslation,
    AgreementVersion,
    CoveredInstitution,
    Signature,
    SigningRequest,
)


@admin.register(Agreement)
class AgreementAdmin(ReadOnlyAdmin):
    list_display = ["title", "programme", "slug", "months_valid"]
    list_select_related = ["programme"]


@admin.register(AgreementVersion)
class AgreementVersionAdmin(ReadOnlyAdmin):
    list_display = ["agreement", "version", "is_material", "published_at", "sha256"]
    list_select_related = ["agreement"]


@admin.register(SigningRequest)
class SigningRequestAdmin(ReadOnlyAdmin):
    list_display = ["institution", "agreement_version", "status", "expires_on", "receipt_code"]
    list_select_related = ["institution", "agreement_version__agreement"]


@admin.register(Signature)
class SignatureAdmin(ReadOnlyAdmin):
    list_display = ["request", "position", "role", "printed_name", "signed_at"]
    list_select_related = ["request"]


@admin.register(AgreementTranslation)
class AgreementTranslationAdmin(ReadOnlyAdmin):
    list_display = ["version", "language", "sha256"]
    list_select_related = ["version__agreement"]


@admin.register(CoveredInstitution)
class CoveredInstitutionAdmin(ReadOnlyAdmin):
    list_display = ["institution", "request", "confirmed_at"]
    list_select_related = ["institution", "request__institution", "request__agreement_version__agreement"]
