"""What is on record about somebody or something, on one page: processing, one's downloads, an institution."""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db.models import Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from contributions.corpora.models import CorpusPart
from contributions.models import Contribution
from governance.board.models import Decision
from governance.releases.models import Download, LicenseAcceptance
from portal import processing, spreadsheet
from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.audit.views import require_auditor
from portal.institutions.models import Institution

PAGE_SIZE = 50
DOWNLOADS = 200  # of an institution's people, on its report
DOWNLOAD_COLUMNS = ["at", "release", "file", "sha256", "licence", "accepted_at", "purpose"]


# The record of processing activities


@login_not_required
@require_GET
def record_of_processing(request: HttpRequest) -> HttpResponse:
    """Show the record of processing activities (GDPR, Art. 30), for everybody."""
    context = {
        "rows": processing.record(),
        "controller": settings.CONTROLLER,
        "contact": settings.PRIVACY_CONTACT,
        "places": processing.places(),
    }
    return render(request, "portal/processing.html", context)


@login_not_required
@require_GET
def record_of_processing_csv(request: HttpRequest) -> HttpResponseBase:
    """Send the record as a table."""
    columns = ["activity", "purpose", "legal_basis", "data_subjects", "personal_data", "recipients", "retention"]
    rows = (
        [row.activity.title, row.activity.purpose, row.activity.legal_basis, row.activity.subjects,
         "; ".join(row.fields), row.activity.recipients, row.activity.retention]
        for row in processing.record()
    )  # fmt: skip
    return spreadsheet.answer("record-of-processing", columns, rows)


# Downloads


def _person(request: SignedInRequest) -> User:
    """Return whose downloads are asked for: one's own, or those of anybody for who reads the audit log."""
    wanted = request.GET.get("person", "")
    if not wanted or wanted == str(request.user.pk):
        return request.user
    require_auditor(request)
    return get_object_or_404(User, pk=int(wanted) if wanted.isdecimal() and len(wanted) < 19 else 0)


def _downloads(person: User) -> Any:
    return Download.objects.filter(user=person).select_related("file__release__license").order_by("-pk")


def _accepted(person: User) -> dict[int, LicenseAcceptance]:
    """Return the acceptance of each release, by its id."""
    rows = LicenseAcceptance.objects.filter(user=person).select_related("license", "release")
    return {row.release_id: row for row in rows}


@require_GET
def downloads(request: SignedInRequest) -> HttpResponse:
    """Show what a person downloaded, newest first, under which licence."""
    person = _person(request)
    rows, before = _downloads(person), request.GET.get("before", "")
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    page = list(rows[: PAGE_SIZE + 1])
    context = {
        "person": person,
        "is_own": person == request.user,
        "downloads": page[:PAGE_SIZE],
        "accepted": _accepted(person).values(),
        "more": page[PAGE_SIZE - 1].pk if len(page) > PAGE_SIZE else None,
        "query": "" if person == request.user else f"person={person.pk}",
    }
    return render(request, "portal/downloads.html", context)


@require_GET
def downloads_csv(request: SignedInRequest) -> HttpResponseBase:
    """Send a person's downloads as a table."""
    person = _person(request)
    return spreadsheet.answer("downloads", DOWNLOAD_COLUMNS, _download_cells(person))


def _download_cells(person: User) -> Iterator[list[Any]]:
    accepted = _accepted(person)
    for row in _downloads(person).iterator(chunk_size=500):
        release = row.file.release
        under = accepted.get(release.pk)
        terms = [under.license.spdx_id, under.accepted_at, under.purpose] if under else ["", "", ""]
        yield [row.at, release.slug, row.file.name, row.file.sha256, *terms]


# An institution


class PeriodForm(forms.Form):
    """From the first day to the last one, both included."""

    start = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}))
    end = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}))

    def bounds(self) -> dict[str, Any]:
        """Return the filter for a moment called `at`; a malformed form narrows nothing."""
        given = self.cleaned_data if self.is_valid() else {}
        found = {}
        if given.get("start"):
            found["gte"] = datetime.combine(given["start"], time.min, tzinfo=UTC)
        if given.get("end"):
            found["lte"] = datetime.combine(given["end"], time.max, tzinfo=UTC)
        return found


def _within(name: str, bounds: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}__{edge}": moment for edge, moment in bounds.items()}


@require_GET
def institution(request: SignedInRequest, slug: str) -> HttpResponse:
    """Report on one institution in a period: people, agreements, contributions, decisions, downloads of its people."""
    row = get_object_or_404(Institution.objects.visible_to(request.user), slug=slug)
    if not request.user.has_perm("institutions.change_institution", row):
        require_auditor(request)
    form = PeriodForm(request.GET)
    bounds = form.bounds()
    sent = Contribution.objects.filter(institution=row, submitted_at__isnull=False)  # drafts are its people's alone
    context = {
        "institution": row,
        "form": form,
        "now": timezone.now(),
        "members": row.memberships.current().select_related("user").order_by("role", "user__name"),
        "role_changes": row.memberships.filter(**_within("started_at", bounds)).select_related("user"),
        "cases": row.signing_requests.exclude(status="draft").select_related("agreement_version__agreement"),
        "contributions": sent.filter(**_within("submitted_at", bounds)).order_by("submitted_at"),
        "decisions": Decision.objects.filter(motion__institution=row, **_within("decided_at", bounds)).select_related(
            "motion"
        ),
        "corpora": _uses(row),
        "downloads": _downloads_of(row, bounds),
    }
    return render(request, "portal/institution_report.html", context)


def _downloads_of(row: Institution, bounds: dict[str, Any]) -> Any:
    """Return what its people downloaded while they belonged to it."""
    belonged = row.memberships.filter(user=OuterRef("user"), started_at__lte=OuterRef("at")).filter(
        Q(ended_at=None) | Q(ended_at__gte=OuterRef("at"))
    )
    rows = Download.objects.filter(Exists(belonged), **_within("at", bounds))
    return rows.select_related("file__release", "user")[:DOWNLOADS]


def _uses(row: Institution) -> list[dict[str, Any]]:
    """Return the corpora that hold something of the institution, and the released models that learnt from each."""
    parts = CorpusPart.objects.filter(contribution__institution=row).select_related("corpus", "contribution")
    return [
        {"part": part, "releases": [c.release for c in part.corpus.candidates.all() if c.release]}
        for part in parts.prefetch_related("corpus__candidates__releases").order_by("pk")
    ]
