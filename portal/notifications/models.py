"""Mail that left the portal, kept where the embedded default shows it."""

from django.db import models
from django.utils import timezone


class Mail(models.Model):
    """One message of the embedded default's mailbox."""

    recipient = models.EmailField(db_index=True)
    subject = models.CharField(max_length=300)
    body = models.TextField()
    sent_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.subject} to {self.recipient}"
