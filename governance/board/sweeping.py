"""What the clock does for the board: closing, lapsing, reminding, ending terms. Safe to repeat."""

from datetime import datetime

from governance.board import closing, conflicts, opening, reviews, withdrawals
from portal.accounts import services as accounts
from portal.institutions.models import Institution
from portal.queue import attempt


def sweep(*, now: datetime) -> None:
    """Refer what waits, take back what is moot, close what is due, remind, end terms. One bad row stops no other."""
    for pk in Institution.objects.filter(status="applied").values_list("pk", flat=True):
        attempt(opening.refer_institution, pk, now=now)
    attempt(closing.close_moot, now=now)
    for motion in conflicts.unrecused():
        attempt(conflicts.sync_recusals, motion, now=now)
    for motion in reviews.understaffed():
        attempt(reviews.refill, motion, now=now)
    for pk in closing.due(now=now):
        attempt(closing.close_due, pk, now=now)
    attempt(closing.remind, now=now)
    attempt(reviews.remind, now=now)
    attempt(withdrawals.remind, now=now)
    attempt(accounts.end_due_terms, now=now)
