"""The append-only audit log."""

from django.db import models


class AuditEvent(models.Model):
    """
    One state change, written in the transaction that made it.

    No foreign keys, so the log never interferes with live data and outlives it. A trigger refuses UPDATE and DELETE.
    No names of people either (portal/audit/people.py): an account can be erased, a line of the log cannot.
    """

    at = models.DateTimeField(db_index=True)
    actor_id = models.BigIntegerField(null=True, help_text="Empty: the system itself.")
    verb = models.CharField(max_length=60, db_index=True)
    subject_type = models.CharField(max_length=40)
    subject_id = models.BigIntegerField()
    subject = models.CharField(max_length=300, help_text="What it was called at that time; people by reference.")
    institution_id = models.BigIntegerField(null=True, db_index=True)
    facts = models.JSONField(default=dict)

    # For those who show it, set by audit.services.with_sentences: in the names of today.
    actor: str
    sentence: str

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["subject_type", "subject_id"], name="audit_by_subject")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_id or 'system'} {self.verb} {self.subject}"
