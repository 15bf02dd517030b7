from django.contrib import admin

from jobs.models import Run
from portal.admin import ReadOnlyAdmin


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ["title", "kind", "queue", "status", "attempt", "worker", "created_at", "finished_at"]
    list_filter = ["status", "kind", "queue"]
