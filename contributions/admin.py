"""Contributions in the admin: read-only, because only the services move them."""

from django.contrib import admin

from contributions.models import (
    Attestation,
    CheckResult,
    Contribution,
    ContributionFile,
    Contributor,
    Evidence,
    Hold,
    Isolation,
    RoomRequest,
)
from portal.admin import ReadOnlyAdmin


@admin.register(Contribution)
class ContributionAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "institution", "kind", "status", "status_since"]
    list_filter = ["status", "kind"]


@admin.register(ContributionFile)
class ContributionFileAdmin(ReadOnlyAdmin):
    list_display = ["name", "contribution", "size_bytes", "state"]


@admin.register(CheckResult)
class CheckResultAdmin(ReadOnlyAdmin):
    list_display = ["contribution", "number", "name", "verdict", "checked_at"]
    list_filter = ["verdict"]


@admin.register(Evidence)
class EvidenceAdmin(ReadOnlyAdmin):
    list_display = ["name", "contribution", "added_at"]


@admin.register(Attestation)
class AttestationAdmin(ReadOnlyAdmin):
    list_display = ["contribution", "kind", "added_by", "added_at"]
    list_select_related = ["contribution", "added_by"]


@admin.register(Contributor)
class ContributorAdmin(ReadOnlyAdmin):
    list_display = ["contribution", "person", "confirmed_at"]
    list_select_related = ["contribution", "person"]


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ["contribution", "placed_at", "released_at"]
    list_select_related = ["contribution"]


@admin.register(Isolation)
class IsolationAdmin(ReadOnlyAdmin):
    list_display = ["contribution", "placed_at", "lifted_at", "deletion_ordered_at"]
    list_select_related = ["contribution"]


@admin.register(RoomRequest)
class RoomRequestAdmin(ReadOnlyAdmin):
    list_display = ["institution", "asked_bytes", "status", "granted_bytes", "asked_at", "decided_at"]
    list_filter = ["status"]
    list_select_related = ["institution"]
