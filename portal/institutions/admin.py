from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.institutions.models import (
    Document,
    FieldComment,
    Institution,
    Invitation,
    JoinRequest,
    Membership,
    PathwayChoice,
    ProfileOption,
    Review,
    RorOrganisation,
    SigningKey,
)


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
    exclude = ["digest", "code_hmac"]


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ["institution", "number", "reviewer", "sent_at", "target_on", "outcome"]
    list_filter = ["outcome"]
    list_select_related = ["institution", "reviewer"]


@admin.register(FieldComment)
class FieldCommentAdmin(ReadOnlyAdmin):
    list_display = ["review", "field", "by", "at"]
    list_select_related = ["review__institution", "by"]


@admin.register(JoinRequest)
class JoinRequestAdmin(ReadOnlyAdmin):
    list_display = ["institution", "person", "role", "state", "asked_at"]
    list_filter = ["state"]
    list_select_related = ["institution", "person"]


@admin.register(Document)
class DocumentAdmin(ReadOnlyAdmin):
    list_display = ["institution", "version", "size_bytes", "state", "uploaded_at"]
    list_select_related = ["institution"]


@admin.register(PathwayChoice)
class PathwayChoiceAdmin(ReadOnlyAdmin):
    list_display = ["institution", "kind", "chosen_at", "ended_at"]
    list_select_related = ["institution"]


@admin.register(ProfileOption)
class ProfileOptionAdmin(ReadOnlyAdmin):
    list_display = ["name", "field", "code"]
    list_filter = ["field"]


@admin.register(RorOrganisation)
class RorOrganisationAdmin(ReadOnlyAdmin):
    list_display = ["name", "ror_id", "country", "city"]
    search_fields = ["key"]


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnlyAdmin):
    list_display = ["fingerprint", "institution", "label", "registered_at", "revoked_at"]
    list_select_related = ["institution"]
