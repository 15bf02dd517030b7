"""The life of an institution's application: one table says what is legal and what the audit log calls it."""

from django.db import models


class Status(models.TextChoices):
    DRAFT = "draft", "Draft"
    APPLIED = "applied", "Application under review"
    RETURNED = "returned", "Returned for changes"
    MEMBER = "member", "Member"
    DECLINED = "declined", "Declined"
    WITHDRAWN = "withdrawn", "Withdrawn"
    MERGED = "merged", "Merged into another member"


class Outcome(models.TextChoices):
    """How a round of review ended."""

    OPEN = "open", "Open"
    RETURNED = "returned", "Returned for changes"
    ADMITTED = "admitted", "Admitted"
    DECLINED = "declined", "Declined"
    WITHDRAWN = "withdrawn", "Withdrawn"


class DeclineCode(models.TextChoices):
    """Why an application was declined; a sentence of free text always stands beside it."""

    BOARD_VOTE = "board_vote", "The board voted against it"
    NO_INSTITUTION = "no_institution", "It is not an institution that can sign an agreement"
    IDENTITY = "identity", "We could not confirm who applied"
    DUPLICATE = "duplicate", "The institution is here already"
    NO_LEGAL_BASIS = "no_legal_basis", "There is no legal basis for any contribution"
    OTHER = "other", "Another reason"


# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (Status.DRAFT, Status.APPLIED): "institution.applied",
    (Status.APPLIED, Status.RETURNED): "institution.returned",
    (Status.RETURNED, Status.APPLIED): "institution.resubmitted",
    (Status.APPLIED, Status.MEMBER): "institution.admitted",
    (Status.APPLIED, Status.DECLINED): "institution.declined",
    (Status.DECLINED, Status.DRAFT): "institution.reopened",
    (Status.DECLINED, Status.APPLIED): "institution.appealed",
    (Status.DRAFT, Status.WITHDRAWN): "institution.withdrawn",
    (Status.APPLIED, Status.WITHDRAWN): "institution.withdrawn",
    (Status.RETURNED, Status.WITHDRAWN): "institution.withdrawn",
    (Status.MEMBER, Status.MERGED): "institution.merged",
}
# How the open round of review ends when the application moves on.
OUTCOMES = {
    Status.RETURNED: Outcome.RETURNED,
    Status.MEMBER: Outcome.ADMITTED,
    Status.DECLINED: Outcome.DECLINED,
    Status.WITHDRAWN: Outcome.WITHDRAWN,
}
ENDED = [Status.DECLINED, Status.WITHDRAWN, Status.MERGED]  # its ROR id and its name are free for others


def is_editable(status: Status) -> bool:
    """Test if the profile may change: before it is sent, while it is returned, and once the institution is a member."""
    return status in {Status.DRAFT, Status.RETURNED, Status.MEMBER}
