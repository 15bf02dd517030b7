"""The life of an institution's application: one table says what is legal and what the audit log calls it."""

from django.db import models


class Status(models.TextChoices):
    DRAFT = "draft", "Draft"
    APPLIED = "applied", "Application under review"
    MEMBER = "member", "Member"
    DECLINED = "declined", "Declined"
    WITHDRAWN = "withdrawn", "Withdrawn"


# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (Status.DRAFT, Status.APPLIED): "institution.applied",
    (Status.APPLIED, Status.MEMBER): "institution.admitted",
    (Status.APPLIED, Status.DECLINED): "institution.declined",
    (Status.DRAFT, Status.WITHDRAWN): "institution.withdrawn",
    (Status.APPLIED, Status.WITHDRAWN): "institution.withdrawn",
}


def is_editable(status: Status) -> bool:
    """Test if the profile may change: before it is sent, and again once the institution is a member."""
    return status in {Status.DRAFT, Status.MEMBER}
