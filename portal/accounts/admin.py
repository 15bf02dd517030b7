from django.contrib import admin

from portal.accounts.models import ApiToken, ConsortiumRole, DeviceLogin, EmailCode, SiteTerms, TermsAcceptance, User
from portal.admin import ReadOnlyAdmin


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ["email", "name", "is_active", "is_staff", "last_login"]
    search_fields = ["email", "name"]
    exclude = ["password"]


@admin.register(ConsortiumRole)
class ConsortiumRoleAdmin(ReadOnlyAdmin):
    list_display = ["user", "role", "started_at", "ended_at"]
    list_select_related = ["user"]


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ["user", "name", "scope", "created_at", "expires_at", "last_used_at", "revoked_at"]
    list_select_related = ["user"]
    exclude = ["digest"]


@admin.register(DeviceLogin)
class DeviceLoginAdmin(ReadOnlyAdmin):
    list_display = ["client_name", "created_at", "approved_by", "denied_at", "used_at"]
    list_select_related = ["approved_by"]
    exclude = ["digest", "user_code"]


@admin.register(SiteTerms)
class SiteTermsAdmin(ReadOnlyAdmin):
    list_display = ["version", "published_at", "sha256"]


@admin.register(TermsAcceptance)
class TermsAcceptanceAdmin(ReadOnlyAdmin):
    list_display = ["user", "terms", "accepted_at"]
    list_select_related = ["user", "terms"]


@admin.register(EmailCode)
class EmailCodeAdmin(ReadOnlyAdmin):
    list_display = ["email_address", "created_at", "expires_at", "attempts", "used_at"]
    list_select_related = ["email_address"]
    exclude = ["digest"]  # six digits are found from it by trying
