from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.agreements.models import AgreementVersion, Signature


@admin.register(AgreementVersion)
class AgreementVersionAdmin(ReadOnlyAdmin):
    list_display = ["title", "programme", "version", "published_at", "sha256"]
    list_select_related = ["programme"]


@admin.register(Signature)
class SignatureAdmin(ReadOnlyAdmin):
    list_display = ["institution", "agreement", "typed_name", "signed_at", "receipt_code"]
    list_select_related = ["institution", "agreement"]
