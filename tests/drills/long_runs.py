"""What the drill's own worker loads (`--include`): evaluations that take minutes, whatever the candidate."""

import time

from jobs import tasks
from jobs.engine import Attempt
from jobs.models import Run

SECONDS = 180


def take_long(attempt: Attempt) -> None:
    """Be at work, tell how far it is, and stop when asked to."""
    for second in range(SECONDS):
        attempt.progress(second, SECONDS, "Evaluating")
        time.sleep(1)


tasks.WORK[Run.Kind.EVALUATE] = take_long
