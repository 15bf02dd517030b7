from django.contrib import admin

from portal.admin import ReadOnlyAdmin
from portal.notifications.models import Mail


@admin.register(Mail)
class MailAdmin(ReadOnlyAdmin):
    list_display = ["recipient", "subject", "sent_at"]
    search_fields = ["recipient", "subject"]
    exclude = ["body"]  # it may carry a link that signs somebody in
