"""The site's own pages: home, how to join, health, leaving, errors."""

import csv
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg_pool
import redis
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.db import InterfaceError, OperationalError, connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseServerError, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET

from contributions import kinds
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution
from governance.releases.lifecycle import Status as ReleaseStatus
from governance.releases.models import Release
from portal import erasure, maps
from portal.accounts.forms import EraseForm
from portal.accounts.requests import SignedInRequest
from portal.agreements.models import AgreementVersion
from portal.audit.models import AuditEvent
from portal.errors import PROBLEM_JSON, problem, wants_json
from portal.institutions import countries
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution
from portal.programmes.models import Programme

# What the public reads of the log: what was decided, about which institution or release, and no person's name.
PUBLIC_SENTENCES = {
    "institution.admitted": "{institution} joined the consortium",
    "agreement.activated": "{institution} signed the data-use agreement",
    "contribution.approved": "The board approved a contribution of {institution}",
    "release.released": "The board released {subject}",
    "release.retracted": "{subject} was retracted",
}


@dataclass(frozen=True)
class Activity:
    """One decision as the public reads it."""

    sentence: str
    at: datetime


@require_GET
@login_not_required
def home(request: HttpRequest) -> HttpResponse:
    """Show what the consortium is, in live figures."""
    members = list(_members().values_list("country", "subregion", "image_count"))
    approved = Counter(_approved())
    regions = _regions(Counter(row[1] for row in members), approved)
    programmes = list(Programme.objects.open())
    context = {
        "totals": {
            "institutions": len(members),
            "countries": len({row[0] for row in members}),
            "regions": len({row[1] for row in members}),
            "photographs": sum(row[2] or 0 for row in members),
            "contributions": approved.total(),
            "releases": Release.objects.filter(status=ReleaseStatus.RELEASED).count(),
        },
        "regions": regions,
        "map_svg": maps.world_map({row["code"]: row["count"] for row in regions}),
        "releases": _releases()[:3],
        "activity": _activity(),
        "open_kinds": _open_kinds(programmes),
        "headline": programmes[0].headline if len(programmes) == 1 else "",  # of several, none speaks for all
    }
    return render(request, "portal/home.html", context)


def _open_kinds(programmes: Iterable[Programme]) -> set[str]:
    """Return the kinds of contribution that one of these takes, and that can be sent."""
    return {kind for row in programmes for kind in row.kinds} & set(kinds.OPEN)


def _members() -> QuerySet[Institution]:
    return Institution.objects.filter(status=InstitutionStatus.MEMBER).order_by()


def _approved() -> QuerySet[Contribution, str]:
    """Return the sub-region of every approved contribution."""
    rows = Contribution.objects.filter(status=ContributionStatus.APPROVED).order_by()
    return rows.values_list("institution__subregion", flat=True)


def _releases() -> QuerySet[Release]:
    rows = Release.objects.filter(status=ReleaseStatus.RELEASED)
    return rows.select_related("license", "candidate").order_by("-released_at")


def _regions(institutions: Counter[str], contributions: Counter[str]) -> list[dict[str, Any]]:
    """Return every inhabited sub-region with its counts, most institutions first; empty ones are shown too."""
    rows = [
        {
            "code": code,
            "name": region.name,
            "region": region.region,
            "count": institutions[code],
            "contributions": contributions[code],
        }
        for code, region in countries.subregions().items()
        if code != maps.ANTARCTICA
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["name"]))


def _activity(limit: int = 6) -> list[Activity]:
    """Return the newest decisions that the public may read."""
    events = list(AuditEvent.objects.filter(verb__in=PUBLIC_SENTENCES).order_by("-pk")[:limit])
    institutions = _members().in_bulk({event.institution_id for event in events if event.institution_id})
    return [
        Activity(
            PUBLIC_SENTENCES[event.verb].format(
                institution=institutions.get(event.institution_id), subject=event.subject
            ),
            event.at,
        )
        for event in events
        if event.institution_id in institutions or event.subject_type == "release"
    ]


@require_GET
@login_not_required
def regions_csv(request: HttpRequest) -> HttpResponse:
    """Send the table of the home page."""
    members = Counter(_members().values_list("subregion", flat=True))
    rows = _regions(members, Counter(_approved()))
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="regions.csv"'
    writer = csv.writer(response)
    writer.writerow(["m49", "subregion", "region", "institutions", "approved_contributions"])
    writer.writerows(row.values() for row in rows)
    return response


@require_GET
@login_not_required
def join(request: HttpRequest) -> HttpResponse:
    """Say how to join, with the agreement to read before there is an account."""
    rows = AgreementVersion.objects.select_related("agreement__programme")
    agreement = rows.order_by("agreement__programme", "agreement", "-version").first()
    return render(
        request, "portal/join.html", {"agreement": agreement, "open_kinds": _open_kinds(Programme.objects.open())}
    )


@require_GET
@login_not_required
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 while this process can answer at all."""
    return JsonResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


@require_GET
@login_not_required
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 while the site can reach its database, else 503: send readers elsewhere, and do not restart it."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except AWAY:
        return JsonResponse(
            {"status": "the database does not answer"}, status=503, headers={"Cache-Control": "no-store"}
        )
    return JsonResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


@never_cache
@sensitive_post_parameters("password", "code")
def erase_account(request: SignedInRequest) -> HttpResponse:
    """Say what goes and what stays; erase the account after a fresh proof and the address typed."""
    holds = erasure.holds(request.user)
    form = EraseForm(request.POST or None, request=request)
    if request.method == "POST" and not holds and form.is_valid():
        erasure.erase(request.user, by=request.user, now=timezone.now())
        logout(request)
        return render(request, "accounts/erased.html")
    context = {"form": form, "holds": holds, "stays": erasure.stays(request.user)}
    return render(request, "accounts/delete.html", context, status=422 if form.errors else 200)


# Errors. `handler404` and its sisters in portal/urls.py.


def _error(request: HttpRequest, status: int, code: str, detail: str, heading: str = "") -> HttpResponse:
    if wants_json(request):
        body = problem(status=status, code=code, detail=detail)
        return JsonResponse(body, status=status, content_type=PROBLEM_JSON)
    return render(request, f"{status}.html", {"reason": detail, "heading": heading}, status=status)


@login_not_required
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 400, "bad_request", "The request could not be read.")


@login_not_required
def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _error(request, 403, "not_allowed", str(exception) or "You may not do this.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form whose token is not the browser's; CSRF_FAILURE_VIEW."""
    detail = (
        "Nothing was done: this page was opened before you signed in, or the browser keeps no cookies of this site. Go "
        "back, load the page again, and send it once more."
    )
    return _error(request, 403, "csrf_failed", detail, heading="This page is out of date")


@login_not_required
def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404; the address of what is missing is not repeated."""
    return _error(request, 404, "not_found", "There is no such page, or you may not see it.")


AWAY = (OperationalError, InterfaceError, psycopg_pool.PoolTimeout, redis.ConnectionError, redis.TimeoutError)


@login_not_required
def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500, or 503 where a service we need is away, without touching anything that may be what failed."""
    if isinstance(sys.exception(), AWAY):
        return _away(request)
    if wants_json(request):
        return _error(request, 500, "server_error", "A fault of the portal, not of yours. It is in our log.")
    return HttpResponseServerError(render_to_string("500.html"))


def _away(request: HttpRequest) -> HttpResponse:
    detail = "A service that the portal needs does not answer for the moment. Nothing of yours is lost; try again."
    if wants_json(request):
        response = _error(request, 503, "unavailable", detail)
    else:
        response = HttpResponse(render_to_string("503.html", {"reason": detail}), status=503)
    response.headers["Retry-After"] = "10"
    return response
