"""The embedded default's mail: kept in the portal, so that a person can click the links."""

from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from portal.notifications.models import Mail


class MailboxBackend(BaseEmailBackend):
    """Keep each message for each of its recipients."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        rows = [
            Mail(recipient=recipient, subject=str(message.subject), body=str(message.body))
            for message in email_messages
            for recipient in message.recipients()
        ]
        Mail.objects.bulk_create(rows)
        return len(email_messages)
