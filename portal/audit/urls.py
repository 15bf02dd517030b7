"""Addresses under /audit/."""

from django.urls import path

from portal.audit import export_views, views

app_name = "audit"
urlpatterns = [
    path("", views.log, name="log"),
    path("log.csv", views.csv_, name="csv"),
    path("log-<int:size>.jsonl", export_views.export, name="export"),
]
