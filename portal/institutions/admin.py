from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.institutions.models import Institution, Invitation, Membership


@admin.register(Institution)
class InstitutionAdmin(ReadOnlyAdmin):
    list_display = ["name", "country", "kind", "status", "status_since"]
    list_filter = ["status", "kind"]
    search_fields = ["name", "local_name", "ror_id"]


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ["user", "institution", "role", "started_at", "ended_at"]
    list_filter = ["role"]
    list_select_related = ["user", "institution"]


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ["email", "institution", "role", "invited_at", "accepted_at", "withdrawn_at"]
    list_select_related = ["institution"]
    exclude = ["digest"]
