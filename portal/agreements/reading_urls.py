"""Addresses under /agreements/ for reading and for receipts; urls.py adds them to its own."""

from django.urls import path

from portal.agreements import reading_views, receipt_views

urlpatterns = [
    path("keys.json", receipt_views.keys, name="keys"),
    path("receipts/<slug:code>.pdf", receipt_views.receipt_pdf, name="receipt_pdf"),
    path("receipts/<slug:code>.json", receipt_views.public_json, name="receipt_json"),
    path("receipts/<slug:code>/", receipt_views.show, name="receipt"),
    path("receipts/<slug:code>/full.json", receipt_views.full_json, name="receipt_full"),
    path("receipts/<slug:code>/text.md", receipt_views.text, name="receipt_text"),
    path("<slug:programme>/<int:version>/", reading_views.moved, name="moved"),
    path("<slug:programme>/<int:version>/text.md", reading_views.text_moved, name="text_moved"),
    path("<slug:programme>/<slug:agreement>/<int:version>/", reading_views.read, name="read"),
    path("<slug:programme>/<slug:agreement>/<int:version>/text.md", reading_views.text, name="text"),
    path("<slug:programme>/<slug:agreement>/<int:version>/text.<slug:language>.md", reading_views.text, name="text"),
    path("<slug:programme>/<slug:agreement>/<int:version>/changes/<int:old>/", reading_views.changes, name="changes"),
]
