from django.urls import path

from jobs import ops_views, storage_views, views

app_name = "jobs"
urlpatterns = [
    path("", views.list_, name="list"),
    path("<int:pk>/", views.show, name="show"),
    path("<int:pk>/status/", views.status, name="status"),
    path("<int:pk>/cancel/", views.cancel, name="cancel"),
    path("<int:pk>/retry/", views.retry, name="retry"),
    path("<int:pk>/fault/", views.fault, name="fault"),
    path("<int:pk>/log/", views.log, name="log"),
    path("<int:pk>/log.txt", views.log_text, name="log_text"),
    path("of-contribution/<int:pk>/", views.of_contribution, name="of_contribution"),
    path("workers/", ops_views.workers_list, name="workers"),
    path("workers/<int:pk>/drain/", ops_views.drain, name="drain"),
    path("ledger/", ops_views.ledger_page, name="ledger"),
    path("ledger.csv", ops_views.ledger_csv, name="ledger_csv"),
    path("pretrain/", views.pretrain, name="pretrain"),
    path("evaluate/<slug:slug>/", views.evaluate, name="evaluate"),
]
ops_urlpatterns = [
    path("health/", ops_views.health_page, name="health"),
    path("storage/", storage_views.show, name="storage"),
    path("storage/verify/", storage_views.verify, name="storage_verify"),
    path("storage/clear/", storage_views.clear, name="storage_clear"),
    path("maintenance/", ops_views.maintenance_page, name="maintenance"),
]
