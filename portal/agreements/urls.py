"""Addresses under /agreements/. A programme can be called neither sign, prepare, cases nor receipts."""

from django.urls import path

from portal.agreements import signing_views, views
from portal.agreements.reading_urls import urlpatterns as reading

app_name = "agreements"
urlpatterns = [
    path("", views.list_, name="list"),
    path("cases/", views.cases, name="cases"),
    path("countersign/", views.countersign, name="countersign"),
    path("sign/<slug:slug>/", views.sign, name="sign"),
    path("sign/<slug:slug>/<slug:programme>/", views.sign, name="sign"),
    path("sign/<slug:slug>/<slug:programme>/<slug:agreement>/", views.sign, name="sign"),
    path("prepare/<slug:slug>/<slug:programme>/<slug:agreement>/", views.prepare, name="prepare"),
    path("cases/<int:pk>/", views.case, name="case"),
    path("cases/<int:pk>/sign/", signing_views.sign, name="sign_case"),
    path("cases/<int:pk>/send/", views.send, name="send"),
    path("cases/<int:pk>/covered/<int:cover_pk>/confirm/", views.confirm, name="confirm"),
    path("cases/<int:pk>/decline/", views.decline, name="decline"),
    path("cases/<int:pk>/withdraw/", views.withdraw, name="withdraw"),
    path("cases/<int:pk>/terminate/", views.terminate, name="terminate"),
    path("cases/<int:pk>/expiry.ics", views.expiry_ics, name="expiry_ics"),
    *reading,
]
