"""Addresses under /agreements/."""

from django.urls import path

from portal.agreements import views

app_name = "agreements"
urlpatterns = [
    path("", views.list_, name="list"),
    path("sign/<slug:slug>/", views.sign, name="sign"),
    # The programme is part of the path: allauth, having asked for the password, resumes a POST only without a query.
    path("sign/<slug:slug>/<slug:programme>/", views.sign, name="sign"),
    path("receipts/<str:code>.pdf", views.receipt_pdf, name="receipt_pdf"),
    path("receipts/<str:code>/", views.receipt, name="receipt"),
    path("<slug:programme>/<int:version>/", views.read, name="read"),
    path("<slug:programme>/<int:version>/text.md", views.text, name="text"),
]
