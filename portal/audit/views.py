"""The audit log: read it, filter it, take it along as CSV. Nothing here writes."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from portal.audit import services
from portal.audit.forms import LogForm
from portal.audit.models import AuditEvent

PAGE_SIZE = 50
BATCH = 1000  # events whose names are looked up together
COLUMNS = ["id", "at", "actor_id", "actor", "verb", "subject_type", "subject_id", "subject", "institution_id", "facts"]


def require_auditor(request: HttpRequest) -> None:
    """Raise PermissionDenied for whoever may not read the log."""
    if not request.user.has_perm("audit.view_log"):
        raise PermissionDenied("The audit log is read by auditors, operators and the chair.")


@require_GET
def log(request: HttpRequest) -> HttpResponse:
    """Show the log, newest first, by keyset: ?before= is the number of the last event of the page before."""
    require_auditor(request)
    form = LogForm(request.GET)
    rows, before = form.matching(), request.GET.get("before", "")
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    events = list(rows[: PAGE_SIZE + 1])
    query = request.GET.copy()
    query.pop("before", None)
    context = {
        "form": form,
        "events": services.with_sentences(events[:PAGE_SIZE]),
        "before": events[PAGE_SIZE - 1].pk if len(events) > PAGE_SIZE else 0,
        "query": query.urlencode(),
        "filtered": any(query.values()),
    }
    return render(request, "audit/log.html", context, status=422 if form.errors else 200)


class _Echo:
    """A file that hands each line back."""

    def write(self, line: str) -> str:
        return line


def _cell(value: Any) -> Any:
    """Return a value that a spreadsheet shows and does not run (OWASP: CSV injection)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _lines(rows: Iterator[AuditEvent]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow([*COLUMNS, "sentence"])
    while batch := services.with_sentences(islice(rows, BATCH)):
        for row in batch:
            values = [row.at.isoformat() if name == "at" else getattr(row, name) for name in COLUMNS]
            yield writer.writerow([_cell(value) for value in [*values, row.sentence]])


@require_GET
def csv_(request: HttpRequest) -> HttpResponseBase:
    """Send what matches the filters, oldest first, as it is read."""
    require_auditor(request)
    form = LogForm(request.GET)
    if not form.is_valid():
        return HttpResponse("A filter is malformed.", status=422, content_type="text/plain")
    rows = form.matching().order_by("pk").iterator(chunk_size=BATCH)
    filename = f"audit-{timezone.now():%Y%m%d-%H%M}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "private, no-store"}
    return StreamingHttpResponse(_lines(rows), content_type="text/csv; charset=utf-8", headers=headers)
