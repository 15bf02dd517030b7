from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.audit.models import AuditEvent, AuditLeaf, AuditPending, Checkpoint


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "actor_id", "verb", "subject"]
    show_full_result_count = False


@admin.register(AuditLeaf)
class AuditLeafAdmin(ReadOnlyAdmin):
    list_display = ["index", "event_id"]
    show_full_result_count = False


@admin.register(AuditPending)
class AuditPendingAdmin(ReadOnlyAdmin):
    list_display = ["event_id"]


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ["size", "at"]
