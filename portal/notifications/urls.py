"""Addresses under /mailbox/."""

from django.urls import path

from portal.notifications import views

app_name = "notifications"
urlpatterns = [
    path("", views.mailbox, name="mailbox"),
    path("<int:mail_id>/", views.mail, name="mail"),
]
