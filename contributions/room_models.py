"""What an institution asks the operators for: more room in the store."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from contributions.lifecycle import RoomStatus
from portal.institutions.models import Institution


class RoomRequest(models.Model):
    """A request for more room, and what came of it; the newest that was granted says how much room there is."""

    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="room_requests")
    asked_bytes = models.BigIntegerField(help_text="The whole room that is wanted, not the difference.")
    reason = models.TextField(help_text="What it is needed for.")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField(default=timezone.now)
    status = models.CharField(max_length=10, choices=RoomStatus, default=RoomStatus.REQUESTED)
    granted_bytes = models.BigIntegerField(null=True, blank=True, help_text="The whole room from then on.")
    reply = models.TextField(blank=True, help_text="What the operator says to it; the institution reads it.")
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True, help_text="When it was answered or taken back.")

    class Meta:
        verbose_name = "request for more room"
        verbose_name_plural = "requests for more room"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(RoomStatus)), name="room_request_status_known"),
            models.UniqueConstraint(
                fields=["institution"], condition=Q(status="requested"), name="one_open_room_request"
            ),
            models.CheckConstraint(condition=Q(asked_bytes__gt=0), name="room_request_asks_for_some"),
            models.CheckConstraint(condition=~Q(reason=""), name="room_request_has_a_reason"),
            models.CheckConstraint(
                condition=Q(status="granted", granted_bytes__isnull=False, granted_bytes__gt=0)
                | (~Q(status="granted") & Q(granted_bytes__isnull=True)),
                name="room_request_granted_bytes_iff_granted",
            ),
            models.CheckConstraint(
                condition=Q(status="requested", decided_at__isnull=True, decided_by__isnull=True)
                | (~Q(status="requested") & Q(decided_at__isnull=False, decided_by__isnull=False)),
                name="room_request_decided_iff_not_open",
            ),
            models.CheckConstraint(
                condition=~Q(status="declined") | ~Q(reply=""), name="room_request_declined_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"request of {self.institution} for more room"

    def get_absolute_url(self) -> str:
        return reverse("contributions:room", args=[self.institution.slug])
