"""The append-only audit log, and the Merkle tree over it that shows it was never changed (docs/log.md)."""

from django.contrib.postgres.functions import RandomUUID
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
    nonce = models.UUIDField(
        db_default=RandomUUID(), help_text="So that the hash of an event does not let it be guessed."
    )

    # For those who show it, set by audit.services.with_sentences: in the names of today.
    actor: str
    sentence: str
    note: str  # what a page adds to the sentence, from the facts

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["subject_type", "subject_id"], name="audit_by_subject")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_id or 'system'} {self.verb} {self.subject}"


class AuditPending(models.Model):
    """
    An event that is not in the tree yet. Kept by triggers alone: the site may only read this table.

    Transactions commit in another order than they took their numbers, so "above the last number" would lose events.
    """

    event_id = models.BigIntegerField(primary_key=True)

    class Meta:
        verbose_name_plural = "audit pending"

    def __str__(self) -> str:
        return f"event {self.event_id}"


class AuditLeaf(models.Model):
    """One event's place in the tree. The database refuses another hash than the event's, and any index but the next."""

    index = models.BigIntegerField(primary_key=True, help_text="From 0, without gaps.")
    event_id = models.BigIntegerField(unique=True)
    hash = models.BinaryField(help_text="SHA-256 of 0x00 and the event's line (RFC 6962, section 2.1).")

    class Meta:
        ordering = ["index"]
        indexes = [models.Index(fields=["hash"], name="audit_leaf_by_hash")]

    def __str__(self) -> str:
        return f"leaf {self.index}"


class AuditNode(models.Model):
    """The root of the complete subtree over leaves index * 2^level onwards. Written by a trigger alone."""

    pk = models.CompositePrimaryKey("level", "index")
    level = models.SmallIntegerField(help_text="From 1: two leaves.")
    index = models.BigIntegerField()
    hash = models.BinaryField(help_text="SHA-256 of 0x01 and both children (RFC 6962, section 2.1).")

    def __str__(self) -> str:
        return f"node {self.level}/{self.index}"


class Checkpoint(models.Model):
    """A signed statement of the tree's root at one size, published in the object-locked bucket before this row."""

    size = models.BigIntegerField(primary_key=True, help_text="How many events the tree held.")
    root = models.BinaryField()
    note = models.TextField(help_text="C2SP signed note, exactly as published.")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-size"]

    def __str__(self) -> str:
        return f"checkpoint {self.size}"
