from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.notifications.models import Mail, Notification, OutboxMessage, Preference, Webhook


@admin.register(Mail)
class MailAdmin(ReadOnlyAdmin):
    list_display = ["recipient", "subject", "sent_at"]
    search_fields = ["recipient", "subject"]
    exclude = ["body"]  # it may carry a link that signs somebody in


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    list_display = ["recipient", "type", "subject", "created_at", "read_at"]


@admin.register(Preference)
class PreferenceAdmin(ReadOnlyAdmin):
    list_display = ["user", "type", "delivery"]


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    list_display = ["owner", "created_at", "disabled_at", "failures", "last_error"]
    exclude = ["salt"]  # with the site's key it makes the secret


@admin.register(OutboxMessage)
class OutboxMessageAdmin(ReadOnlyAdmin):
    list_display = ["channel", "address", "subject", "state", "attempts", "next_attempt_at", "last_error"]
    list_filter = ["state", "channel"]
    exclude = ["text", "html", "path"]  # they may carry a link that signs somebody in
