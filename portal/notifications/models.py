"""What people are told: inbox, choice per kind, outbox of mail and webhooks, and the demonstration's mailbox."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from portal.notifications.lifecycle import State
from portal.notifications.types import MANDATORY, Delivery, Type


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


class NotificationQuerySet(models.QuerySet["Notification"]):
    def unread(self) -> "NotificationQuerySet":
        return self.filter(read_at__isnull=True)


class Notification(models.Model):
    """One entry of a person's inbox. People in its texts are references (portal.audit.people)."""

    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    type = models.CharField(max_length=20, choices=Type)
    subject = models.CharField(max_length=300)
    text = models.TextField()
    path = models.CharField(max_length=300, help_text="The page where the reader can act.")
    key = models.CharField(max_length=200, blank=True, help_text="Told once to each person; empty: told each time.")
    deadline_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)
    waits_for_digest = models.BooleanField(default=False)

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["recipient", "-id"], name="inbox_newest_first"),
            models.Index(fields=["recipient"], name="inbox_unread", condition=Q(read_at__isnull=True)),
            models.Index(fields=["recipient"], name="inbox_for_digest", condition=Q(waits_for_digest=True)),
        ]
        constraints = [
            models.UniqueConstraint(fields=["recipient", "key"], condition=~Q(key=""), name="told_once_per_key"),
            models.CheckConstraint(condition=Q(type__in=Type.values), name="notification_type_known"),
            models.CheckConstraint(
                condition=Q(path__startswith="/") & ~Q(path__startswith="//"), name="notification_path_is_ours"
            ),
        ]

    def __str__(self) -> str:
        return f"notification {self.pk}"


class Preference(models.Model):
    """How a person wants to hear of one kind; without a row it is by mail at once."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preferences")
    type = models.CharField(max_length=20, choices=Type)
    delivery = models.CharField(max_length=10, choices=Delivery)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "type"], name="one_preference_per_type"),
            models.CheckConstraint(
                condition=Q(type__in=Type.values, delivery__in=Delivery.values), name="preference_known"
            ),
            models.CheckConstraint(
                condition=~Q(type__in=sorted(MANDATORY), delivery=Delivery.OFF), name="mandatory_is_never_off"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type}: {self.delivery}"


class Webhook(models.Model):
    """A person's own endpoint. Its secret is derived from the site's key and `salt`, so no row holds it."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhooks")
    url = models.URLField(max_length=500)
    salt = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_because = models.CharField(max_length=300, blank=True)
    last_success_at = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="In a row.")
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "url"], condition=Q(disabled_at__isnull=True), name="one_live_webhook_per_url"
            ),
            models.CheckConstraint(
                condition=Q(failing_since__isnull=True, failures=0) | Q(failing_since__isnull=False, failures__gt=0),
                name="webhook_failing_iff_failures",
            ),
        ]

    def __str__(self) -> str:
        return f"webhook {self.pk}"


class OutboxMessage(models.Model):
    """
    One message to one recipient over one channel, written in the transaction of what it tells.

    What may hold a secret link (text, html, path) is cleared once the message has been handed over.
    """

    class Channel(models.TextChoices):
        MAIL = "mail", "E-mail"
        WEBHOOK = "webhook", "Webhook"

    key = models.CharField(max_length=200, unique=True, help_text="Event, recipient and channel.")
    channel = models.CharField(max_length=10, choices=Channel)
    type = models.CharField(max_length=20, choices=Type)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="outbox_messages"
    )
    notification = models.ForeignKey(
        Notification, null=True, blank=True, on_delete=models.CASCADE, related_name="deliveries"
    )
    webhook = models.ForeignKey(Webhook, null=True, blank=True, on_delete=models.CASCADE, related_name="deliveries")
    address = models.CharField(max_length=254, blank=True, db_index=True)
    subject = models.CharField(max_length=300)
    text = models.TextField(blank=True)
    html = models.TextField(blank=True)
    path = models.CharField(max_length=300, blank=True, help_text="Where the button leads; empty: rendered already.")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    next_attempt_at = models.DateTimeField(null=True, blank=True, default=timezone.now)
    settled_at = models.DateTimeField(null=True, blank=True, help_text="When it stopped waiting.")
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["next_attempt_at", "id"], name="outbox_due", condition=Q(state="pending")),
            models.Index(fields=["state", "-id"], name="outbox_by_state"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=State.values), name="outbox_state_known"),
            models.CheckConstraint(
                condition=Q(channel="mail", webhook__isnull=True) & ~Q(address="")
                | Q(channel="webhook", webhook__isnull=False, address=""),
                name="outbox_has_one_recipient",
            ),
            models.CheckConstraint(
                condition=Q(state="pending", next_attempt_at__isnull=False, settled_at__isnull=True)
                | (~Q(state="pending") & Q(next_attempt_at__isnull=True, settled_at__isnull=False)),
                name="outbox_waits_or_is_settled",
            ),
            models.CheckConstraint(
                condition=~Q(state="sent") | Q(text="", html="", path=""), name="outbox_sent_holds_no_body"
            ),
            models.CheckConstraint(condition=~Q(state="bounced") | Q(channel="mail"), name="outbox_only_mail_bounces"),
        ]

    def __str__(self) -> str:
        return f"message {self.pk}"

    @property
    def has_body(self) -> bool:
        return bool(self.text or self.path)
