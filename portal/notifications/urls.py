"""Addresses under /mailbox/."""

from django.urls import path

from portal.notifications import views
from portal.notifications.authenticator import authenticator

app_name = "notifications"
urlpatterns = [
    path("", views.mailbox, name="mailbox"),
    path("authenticator/", authenticator, name="authenticator"),
    path("<int:mail_id>/", views.mail, name="mail"),
]
