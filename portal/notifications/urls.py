"""Addresses under /mailbox/, /inbox/ and /ops/outbox/."""

from django.urls import path

from portal.notifications import inbox, operations, views
from portal.notifications.authenticator import authenticator

app_name = "notifications"
urlpatterns = [
    path("", views.mailbox, name="mailbox"),
    path("authenticator/", authenticator, name="authenticator"),
    path("<int:mail_id>/", views.mail, name="mail"),
]
inbox_urlpatterns = [
    path("", inbox.inbox, name="list"),
    path("read/", inbox.mark_all, name="mark_all"),
    path("settings/", inbox.settings, name="settings"),
    path("webhooks/", inbox.own_webhooks, name="webhooks"),
    path("webhooks/<int:pk>/test/", inbox.test_webhook, name="test_webhook"),
    path("webhooks/<int:pk>/disable/", inbox.disable_webhook, name="disable_webhook"),
    path("<int:pk>/open/", inbox.open_, name="open"),
    path("<int:pk>/read/", inbox.mark, name="mark"),
    path("<int:pk>/deadline.ics", inbox.deadline, name="deadline"),
]
outbox_urlpatterns = [
    path("", operations.outbox_list, name="list"),
    path("<int:pk>/retry/", operations.retry, name="retry"),
    path("<int:pk>/give-up/", operations.give_up, name="give_up"),
]
