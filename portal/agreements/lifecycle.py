"""The life of a signing case: one table says what is legal and what the audit log calls it."""

from django.db import models


class Status(models.TextChoices):
    DRAFT = "draft", "Draft"
    SIGNING = "signing", "Being signed"
    ACTIVE = "active", "Active"
    EXPIRED = "expired", "Expired"
    TERMINATED = "terminated", "Terminated"
    SUPERSEDED = "superseded", "Replaced by a later one"
    DECLINED = "declined", "Declined"
    WITHDRAWN = "withdrawn", "Withdrawn"


DRAFT, SIGNING, ACTIVE, EXPIRED, TERMINATED, SUPERSEDED, DECLINED, WITHDRAWN = Status
OPEN = [DRAFT, SIGNING]
ENDED = [EXPIRED, TERMINATED, SUPERSEDED, DECLINED, WITHDRAWN]
ONCE_ACTIVE = [ACTIVE, EXPIRED, TERMINATED, SUPERSEDED]

# (from, to): the audit verb. A pair that is absent is not allowed.
TRANSITIONS: dict[tuple[Status, Status], str] = {
    (DRAFT, SIGNING): "agreement.sent",
    (SIGNING, ACTIVE): "agreement.activated",  # by the last signature of the signing order
    (DRAFT, DECLINED): "agreement.declined",
    (SIGNING, DECLINED): "agreement.declined",
    (DRAFT, WITHDRAWN): "agreement.withdrawn",
    (SIGNING, WITHDRAWN): "agreement.withdrawn",
    (ACTIVE, EXPIRED): "agreement.expired",
    (ACTIVE, TERMINATED): "agreement.terminated",
    (ACTIVE, SUPERSEDED): "agreement.superseded",  # a renewal became active
}
