"""The life of a motion."""

from django.db import models


class Status(models.TextChoices):
    REVIEWING = "reviewing", "Being reviewed"
    OPEN = "open", "Open"
    TIED = "tied", "Tied"
    CARRIED = "carried", "Carried"
    LOST = "lost", "Lost"
    LAPSED = "lapsed", "Lapsed"
    RETURNED = "returned", "Returned for changes"
    WITHDRAWN = "withdrawn", "Taken back"


REVIEWING, OPEN, TIED, CARRIED, LOST, LAPSED, RETURNED, WITHDRAWN = Status
UNDECIDED = [REVIEWING, OPEN, TIED]
DECIDED = [CARRIED, LOST, LAPSED]  # what gets a number in the register

# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (REVIEWING, OPEN): "motion.ballot_opened",  # its reviewers have finished
    (REVIEWING, RETURNED): "motion.returned",
    (REVIEWING, WITHDRAWN): "motion.withdrawn",
    (OPEN, TIED): "motion.tied",  # the chair decides
    (OPEN, CARRIED): "motion.carried",
    (OPEN, LOST): "motion.lost",
    (OPEN, LAPSED): "motion.lapsed",
    (OPEN, RETURNED): "motion.returned",  # before the first ballot
    (OPEN, WITHDRAWN): "motion.withdrawn",
    (TIED, CARRIED): "motion.carried",
    (TIED, LOST): "motion.lost",
    (TIED, WITHDRAWN): "motion.withdrawn",
}
