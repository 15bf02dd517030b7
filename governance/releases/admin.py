from django.contrib import admin

from governance.releases.models import Candidate, Download, License, LicenseAcceptance, Release, ReleaseFile, SiteAnswer
from portal.admin import ReadOnlyAdmin


@admin.register(License)
class LicenseAdmin(ReadOnlyAdmin):
    list_display = ["spdx_id", "title", "registered_at", "sha256"]


@admin.register(Candidate)
class CandidateAdmin(ReadOnlyAdmin):
    list_display = ["name", "kind", "programme", "registered_at", "sha256"]
    list_filter = ["kind"]
    list_select_related = ["programme"]


@admin.register(Release)
class ReleaseAdmin(ReadOnlyAdmin):
    list_display = ["name", "version", "status", "license", "released_at"]
    list_filter = ["status"]
    list_select_related = ["license"]


@admin.register(SiteAnswer)
class SiteAnswerAdmin(ReadOnlyAdmin):
    list_display = ["release", "institution", "answer", "by", "answered_at"]
    list_select_related = ["release", "institution", "by"]


@admin.register(ReleaseFile)
class ReleaseFileAdmin(ReadOnlyAdmin):
    list_display = ["release", "name", "size_bytes", "sha256"]
    list_select_related = ["release"]


@admin.register(LicenseAcceptance)
class LicenseAcceptanceAdmin(ReadOnlyAdmin):
    list_display = ["release", "license", "user", "institution_name", "channel", "accepted_at"]
    list_select_related = ["release", "license", "user"]


@admin.register(Download)
class DownloadAdmin(ReadOnlyAdmin):
    list_display = ["file", "user", "at"]
    list_select_related = ["file__release", "user"]
    show_full_result_count = False
