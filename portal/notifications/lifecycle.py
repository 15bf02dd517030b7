"""The life of one message in the outbox."""

from django.db import models


class State(models.TextChoices):
    PENDING = "pending", "Waiting"
    SENT = "sent", "Handed over"
    BOUNCED = "bounced", "Came back"
    DEAD = "dead", "Given up"


PENDING, SENT, BOUNCED, DEAD = State

# (from, to): the verb. What the portal does itself every second is no event of the log; what an operator does is.
TRANSITIONS: dict[tuple[State, State], str] = {
    (PENDING, SENT): "message.sent",
    (PENDING, BOUNCED): "message.bounced",
    (PENDING, DEAD): "message.given_up",
    (BOUNCED, PENDING): "message.retried",
    (DEAD, PENDING): "message.retried",
}
