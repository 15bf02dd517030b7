"""Addresses under /programmes/."""

from django.urls import path

from portal.programmes import views

app_name = "programmes"
urlpatterns = [
    path("", views.list_, name="list"),
    path("<slug:slug>/", views.show, name="show"),
]
