"""The life of a release."""

from django.db import models


class Status(models.TextChoices):
    PROPOSED = "proposed", "Before the board"
    RELEASED = "released", "Released"
    DECLINED = "declined", "Declined"
    RETRACTED = "retracted", "Retracted"


NOT_PUBLIC = (Status.PROPOSED, Status.DECLINED)

# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (Status.PROPOSED, Status.RELEASED): "release.released",
    (Status.PROPOSED, Status.DECLINED): "release.declined",
    (Status.RELEASED, Status.RETRACTED): "release.retracted",
}
