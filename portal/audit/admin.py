from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.audit.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "actor_id", "verb", "subject"]
    show_full_result_count = False
