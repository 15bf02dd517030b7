"""The life of a motion."""

from django.db import models


class Status(models.TextChoices):
    OPEN = "open", "Open"
    TIED = "tied", "Tied"
    CARRIED = "carried", "Carried"
    LOST = "lost", "Lost"
    LAPSED = "lapsed", "Lapsed"
    WITHDRAWN = "withdrawn", "Taken back"


UNDECIDED = [Status.OPEN, Status.TIED]

# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (Status.OPEN, Status.TIED): "motion.tied",  # the chair decides
    (Status.OPEN, Status.CARRIED): "motion.carried",
    (Status.OPEN, Status.LOST): "motion.lost",
    (Status.OPEN, Status.LAPSED): "motion.lapsed",
    (Status.OPEN, Status.WITHDRAWN): "motion.withdrawn",
    (Status.TIED, Status.CARRIED): "motion.carried",
    (Status.TIED, Status.LOST): "motion.lost",
    (Status.TIED, Status.WITHDRAWN): "motion.withdrawn",
}
