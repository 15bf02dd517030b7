"""Every address of the site."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from contributions import api as contributions_api
from governance.releases import api as releases_api
from jobs import ops_views
from jobs import urls as jobs_urls
from portal import reference, reports, styleguide, views
from portal.accounts import api as accounts_api
from portal.accounts import urls as accounts_urls
from portal.agreements import api as agreements_api
from portal.institutions import api as institutions_api
from portal.institutions import urls as institutions_urls
from portal.notifications import api as notifications_api
from portal.notifications import urls as notifications_urls
from portal.programmes import api as programmes_api

api_urlpatterns = [
    *accounts_api.urlpatterns,
    *institutions_api.urlpatterns,
    *programmes_api.urlpatterns,
    *agreements_api.urlpatterns,
    *notifications_api.urlpatterns,
    *contributions_api.urlpatterns,
    *releases_api.urlpatterns,
]
urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.home, name="home"),
    path("join/", views.join, name="join"),
    path("regions.csv", views.regions_csv, name="regions_csv"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", ops_views.metrics_page, name="metrics"),
    path("privacy/record/", reports.record_of_processing, name="processing"),
    path("privacy/record.csv", reports.record_of_processing_csv, name="processing_csv"),
    path("account/downloads/", reports.downloads, name="downloads"),
    path("account/downloads.csv", reports.downloads_csv, name="downloads_csv"),
    path("institutions/<slug:slug>/report/", reports.institution, name="institution_report"),
    path("style/", styleguide.page, name="styleguide"),
    path("accounts/", include("allauth.urls")),
    path("account/delete/", views.erase_account, name="account_erase"),
    path("account/", include("portal.accounts.urls")),
    path("", include([*accounts_urls.terms_urlpatterns, *accounts_urls.ops_urlpatterns])),
    path("institutions/", include("portal.institutions.urls")),
    path("programmes/", include("portal.programmes.urls")),
    path("agreements/", include("portal.agreements.urls")),
    path("contributions/", include("contributions.urls")),
    path("board/", include("governance.board.urls")),
    path("decisions/", include("governance.board.register_urls")),
    path("benchmark/", include("governance.benchmarks.urls")),
    path("", include("governance.releases.urls")),
    path("runs/", include("jobs.urls")),
    path("ops/", include((jobs_urls.ops_urlpatterns, "ops"))),
    path("audit/", include(institutions_urls.audit_urlpatterns)),
    path("audit/", include("portal.audit.urls")),
    path("log/", include("portal.audit.public_urls")),
    path("mailbox/", include("portal.notifications.urls")),
    path("inbox/", include((notifications_urls.inbox_urlpatterns, "inbox"))),
    path("ops/outbox/", include((notifications_urls.outbox_urlpatterns, "outbox"))),
    path("api/", reference.page, name="api_reference"),
    path("api/v1/schema", reference.schema, name="api_schema"),
    path("api/v1/", include((api_urlpatterns, "api"))),
    path("admin/", admin.site.urls),
]
handler400 = "portal.views.bad_request"
handler403 = "portal.views.permission_denied"
handler404 = "portal.views.not_found"
handler500 = "portal.views.server_error"
