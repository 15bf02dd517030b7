"""The log of a run: numbered lines, written first and then announced, without secrets, up to a limit."""

from django.db import transaction
from django.db.models import Max, QuerySet

from jobs.models import Run, RunLog
from jobs.services import names_of
from portal.live import announce
from portal.logging import redacted

MOST_LINES = 5_000
LINE_CHARACTERS = 1_000
FULL = f"The log ends here: it has {MOST_LINES:,} lines. The work goes on."


@transaction.atomic
def write(run: Run, text: str) -> None:
    """Write one line, whatever it is that was written; then announce it."""
    Run.objects.select_for_update().get(pk=run.pk)
    last = RunLog.objects.filter(run=run).aggregate(last=Max("seq"))["last"] or 0
    if last > MOST_LINES:
        return
    text = FULL if last == MOST_LINES else redacted(text)[:LINE_CHARACTERS]
    RunLog.objects.create(run=run, seq=last + 1, attempt=run.attempt, text=text)
    announce(*names_of(run))


def lines(run: Run, *, since: int = 0, holding: str = "") -> QuerySet[RunLog]:
    """Return the lines after number `since` in order: what a reader who was away has missed."""
    rows = run.log.filter(seq__gt=since).order_by("seq")
    return rows.filter(text__icontains=holding) if holding else rows


def as_text(rows: QuerySet[RunLog]) -> str:
    """Return lines as a file: number, time (UTC), attempt, text."""
    return "".join(f"{row.seq}\t{row.at:%Y-%m-%dT%H:%M:%SZ}\t{row.attempt}\t{row.text}\n" for row in rows.iterator())
