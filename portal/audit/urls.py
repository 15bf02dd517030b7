"""Addresses under /audit/."""

from django.urls import path

from portal.audit import export_views, views

app_name = "audit"
urlpatterns = [
    path("", views.log, name="log"),
    path("log.csv", views.csv_, name="csv"),
    path("log-<int:size>.jsonl", export_views.export, name="export"),
    path("log.jsonl", views.json_lines, name="json_lines"),
    path("<slug:subject_type>/<int:subject_id>/", views.timeline, name="timeline"),
]
