from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.programmes.models import BaseModel, Programme


@admin.register(Programme)
class ProgrammeAdmin(ReadOnlyAdmin):
    list_display = ["name", "modality", "created_at"]


@admin.register(BaseModel)
class BaseModelAdmin(ReadOnlyAdmin):
    list_display = ["slug", "version", "programme", "size_bytes", "licence", "registered_at"]
    list_select_related = ["programme"]
