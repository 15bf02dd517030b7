"""The audit log: read it, filter it, follow one object, take it along; that alone is written down."""

from typing import cast

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_GET

from portal import spreadsheet
from portal.audit import exports, services
from portal.audit.forms import LogForm
from portal.audit.models import AuditEvent

PAGE_SIZE = 50


def require_auditor(request: HttpRequest) -> None:
    """Raise PermissionDenied for who may not read the log and what is drawn from it."""
    if not request.user.has_perm("audit.view_log"):
        raise PermissionDenied("The audit log is read by auditors, operators and the chair.")


def _page(request: HttpRequest, rows: QuerySet[AuditEvent]) -> dict[str, object]:
    """Return one page of events, newest first, by keyset: ?before= is the last event of the page before."""
    before = request.GET.get("before", "")
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    events = list(rows[: PAGE_SIZE + 1])
    return {
        "events": services.with_sentences(events[:PAGE_SIZE]),
        "before": events[PAGE_SIZE - 1].pk if len(events) > PAGE_SIZE else 0,
    }


@require_GET
def log(request: HttpRequest) -> HttpResponse:
    """Show the log, newest first."""
    require_auditor(request)
    form = LogForm(request.GET)
    query = request.GET.copy()
    query.pop("before", None)
    context = {
        "form": form,
        **_page(request, form.matching()),
        "query": query.urlencode(),
        "filtered": any(query.values()),
    }
    return render(request, "audit/log.html", context, status=422 if form.errors else 200)


@require_GET
def timeline(request: HttpRequest, subject_type: str, subject_id: int) -> HttpResponse:
    """Show everything that happened to one object, newest first; an institution's whole file."""
    require_auditor(request)
    rows = services.timeline(subject_type, subject_id)
    newest = services.of_number(subject_type, subject_id).first()
    if newest is None and not rows.exists():
        raise Http404
    context = {
        "subject_type": subject_type,
        "subject_id": subject_id,
        "name": services.with_sentences([newest])[0].subject if newest else "",
        "page": services.page_of(subject_type, subject_id, request.user),
        **_page(request, rows),
    }
    return render(request, "audit/timeline.html", context)


def _exported(request: HttpRequest, file_format: str) -> QuerySet[AuditEvent] | None:
    """Return what matches the filters, oldest first, and record that it is taken along; None: a malformed filter."""
    require_auditor(request)
    form = LogForm(request.GET)
    if not form.is_valid():
        return None
    by = cast(AbstractBaseUser, request.user)
    return services.export(form.matching(), by=by, file_format=file_format, filters=form.chosen())


def _malformed() -> HttpResponse:
    return HttpResponse("A filter is malformed.", status=422, content_type="text/plain")


@require_GET
def csv_(request: HttpRequest) -> HttpResponseBase:
    """Send what matches the filters as a table, as it is read."""
    rows = _exported(request, "csv")
    if rows is None:
        return _malformed()
    return spreadsheet.answer("audit", exports.COLUMNS, exports.table(rows.iterator(chunk_size=exports.BATCH)))


@require_GET
def json_lines(request: HttpRequest) -> HttpResponseBase:
    """Send what matches the filters as JSON Lines, as it is read."""
    rows = _exported(request, "jsonl")
    if rows is None:
        return _malformed()
    lines = exports.json_lines(rows.iterator(chunk_size=exports.BATCH))
    headers = spreadsheet.attachment("audit", "jsonl")
    return StreamingHttpResponse(lines, content_type="application/x-ndjson; charset=utf-8", headers=headers)
