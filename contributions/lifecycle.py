"""The life of a contribution: one table says what is legal and what the audit log calls it."""

from django.db import models


class Status(models.TextChoices):
    DRAFT = "draft", "Draft"
    SUBMITTED = "submitted", "Waiting for checks"
    VALIDATING = "validating", "Being checked"
    REVIEW = "review", "Before the board"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    RETURNED = "returned", "Returned for changes"
    WITHDRAWN = "withdrawn", "Withdrawn"


DRAFT, SUBMITTED, VALIDATING, REVIEW, APPROVED, REJECTED, RETURNED, WITHDRAWN = Status
LIVE = [SUBMITTED, VALIDATING, REVIEW, APPROVED]
CLOSED = [REJECTED, RETURNED, WITHDRAWN]  # a correction may take its place, and its files may go

# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (DRAFT, SUBMITTED): "contribution.submitted",
    (SUBMITTED, VALIDATING): "contribution.validation_started",
    (VALIDATING, SUBMITTED): "contribution.requeued",  # its worker was lost
    (VALIDATING, REVIEW): "contribution.validated",
    (VALIDATING, REJECTED): "contribution.found_invalid",
    (REJECTED, SUBMITTED): "contribution.reopened",  # by its checks, and the platform was at fault
    (REVIEW, APPROVED): "contribution.approved",
    (REVIEW, REJECTED): "contribution.rejected",
    (REVIEW, RETURNED): "contribution.returned",  # files never change: a correction is the next contribution
    (DRAFT, WITHDRAWN): "contribution.withdrawn",
    (SUBMITTED, WITHDRAWN): "contribution.withdrawn",
    (VALIDATING, WITHDRAWN): "contribution.withdrawn",  # its worker finds out at its next step
    (REVIEW, WITHDRAWN): "contribution.withdrawn",
    (APPROVED, WITHDRAWN): "contribution.withdrawn",
}
# What the consortium does after an incident, with what is isolated (incidents.py): its institution takes nothing back.
REMOVALS: dict[tuple[Status, Status], str] = {
    (SUBMITTED, WITHDRAWN): "contribution.removed",  # one that was being checked is back here once it is isolated
    (REVIEW, WITHDRAWN): "contribution.removed",
    (APPROVED, WITHDRAWN): "contribution.removed",
}


class RoomStatus(models.TextChoices):
    REQUESTED = "requested", "Waiting for an answer"
    GRANTED = "granted", "Granted"
    DECLINED = "declined", "Declined"
    WITHDRAWN = "withdrawn", "Taken back"


# What becomes of an institution's request for more room (room.py).
ROOM_REQUESTS: dict[tuple[RoomStatus, RoomStatus], str] = {
    (RoomStatus.REQUESTED, RoomStatus.GRANTED): "room_request.granted",
    (RoomStatus.REQUESTED, RoomStatus.DECLINED): "room_request.declined",
    (RoomStatus.REQUESTED, RoomStatus.WITHDRAWN): "room_request.withdrawn",
}
