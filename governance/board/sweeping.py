"""What the clock does for the board: closing, lapsing, reminding, ending terms. Safe to repeat."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from governance.board import closing, conflicts, opening, reviews
from portal.accounts import services as accounts
from portal.institutions.models import Institution

logger = logging.getLogger(__name__)


def sweep(*, now: datetime) -> None:
    """Refer what waits, take back what is moot, close what is due, remind, end terms. One bad row stops no other."""
    for pk in Institution.objects.filter(status="applied").values_list("pk", flat=True):
        _try(opening.refer_institution, pk, now=now)
    _try(closing.close_moot, now=now)
    for motion in conflicts.unrecused():
        _try(conflicts.sync_recusals, motion, now=now)
    for motion in reviews.understaffed():
        _try(reviews.refill, motion, now=now)
    for pk in closing.due(now=now):
        _try(closing.close_due, pk, now=now)
    _try(closing.remind, now=now)
    _try(reviews.remind, now=now)
    _try(accounts.end_due_terms, now=now)


def _try(step: Callable[..., object], *args: Any, now: datetime) -> None:
    try:
        step(*args, now=now)
    except Exception:
        logger.exception("The sweep could not do %s %s; it tries again.", step.__name__, args)
