"""Pages of institutions: the public list, the institution's own page, my institutions."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.audit import services as audit
from portal.errors import DomainError, tell
from portal.institutions import actions, advice, countries, onboarding, profile, services
from portal.institutions.forms import FilterForm
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Invitation
from portal.institutions.rules import serves_consortium
from portal.institutions.vocabulary import Pathway

PAGE_SIZE = 50


def visible(request: HttpRequest, slug: str) -> Institution:
    """Return the institution, or 404 where the person may not know of it."""
    return get_object_or_404(Institution.objects.visible_to(request.user), slug=slug)


def managed(request: SignedInRequest, slug: str) -> Institution:
    """Return the institution for somebody who may change it: a stranger gets 404, a member without the role 403."""
    institution = visible(request, slug)
    if not request.user.has_perm("institutions.change_institution", institution):
        raise PermissionDenied(f"Only a principal investigator or data steward of {institution} can do this.")
    return institution


# Public


def _members(filters: dict[str, Any]) -> QuerySet[Institution]:
    """Return the member institutions that match, by the name of their region, then by their own."""
    order = [When(subregion=code, then=Value(place)) for place, code in enumerate(countries.subregions())]
    rows = Institution.objects.filter(status=Status.MEMBER)
    if filters.get("q"):
        rows = rows.filter(Q(name__icontains=filters["q"]) | Q(local_name__icontains=filters["q"]))
    if filters.get("country"):
        rows = rows.filter(country=filters["country"])
    if filters.get("region"):
        rows = rows.filter(subregion=filters["region"])
    return rows.annotate(place=Case(*order, default=len(order), output_field=IntegerField())).order_by(
        "place", "name", "pk"
    )


@require_GET
@login_not_required
def list_(request: HttpRequest) -> HttpResponse:
    """Show the members by region."""
    form = FilterForm(request.GET or None)
    filters = form.cleaned_data if form.is_valid() else {}
    number = max(1, int(page)) if (page := request.GET.get("page", "1")).isdecimal() and len(page) < 6 else 1
    begin = (number - 1) * PAGE_SIZE
    rows = list(_members(filters)[begin : begin + PAGE_SIZE + 1])
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "form": form,
        "query": query.urlencode(),
        "institutions": [described(row) for row in rows[:PAGE_SIZE]],
        "filtered": any(filters.values()),
        "previous_page": number - 1,
        "next_page": number + 1 if len(rows) > PAGE_SIZE else 0,
    }
    return render(request, "institutions/institution_list.html", context)


def described(institution: Institution) -> dict[str, Any]:
    """Return an institution with the names of its country and region, for templates."""
    region = countries.subregions()[institution.subregion]
    return {
        "institution": institution,
        "country": countries.countries()[institution.country].name,
        "region": region.name,
        "region_code": region.code,
    }


@require_GET
@login_not_required
def region(request: HttpRequest) -> HttpResponse:
    """Answer the form's question in which region a country lies."""
    country = countries.countries().get(request.GET.get("country", ""))
    return render(request, "institutions/_region.html", {"region": country.subregion if country else None})


@require_GET
@login_not_required
def show(request: HttpRequest, slug: str) -> HttpResponse:
    """Show an institution: to the public what is public, to its people and the consortium the whole file."""
    institution = visible(request, slug)
    if institution.status == Status.MERGED and not request.user.has_perm("institutions.view_file", institution):
        return render(request, "institutions/institution_merged.html", described(institution))
    can = actions.available(institution, request.user, now=timezone.now())
    context = described(institution) | {"contributions": _approved_by_kind(institution), "can": actions.named(can)}
    if request.user.has_perm("institutions.view_file", institution):
        context |= _file(request, institution)
        context["reads_report"] = _reads_report(request, institution)
    return render(request, "institutions/institution_show.html", context)


def _reads_report(request: HttpRequest, institution: Institution) -> bool:
    manages = request.user.has_perm("institutions.change_institution", institution)
    return manages or request.user.has_perm("audit.view_log")


def _approved_by_kind(institution: Institution) -> list[dict[str, Any]]:
    rows = institution.contributions.filter(status="approved").order_by().values("kind").annotate(count=Count("pk"))
    labels = dict(institution.contributions.model.Kind.choices)
    return [{"kind": labels[row["kind"]], "count": row["count"]} for row in rows]


def _file(request: HttpRequest, institution: Institution) -> dict[str, Any]:
    """Return what only the institution's people and the consortium's officers see."""
    return {
        "sees_file": True,
        "belongs": services.is_member(request.user, institution),
        "manages": request.user.has_perm("institutions.change_institution", institution),
        "serves": serves_consortium(request.user),
        "aliases": institution.aliases.order_by("name"),
        "chosen": [Pathway(kind).label for kind in sorted(institution.chosen_kinds())],
        "answers": _answers(institution),
        "standing": onboarding.standing(institution),
        "progress": onboarding.progress(institution),
        "advice": advice.recommend(institution),
        "memberships": institution.memberships.current().select_related("user").order_by("user__name", "pk"),
        "history": audit.history_of_institution(institution.pk),
    }


def _answers(institution: Institution) -> list[tuple[str, str]]:
    """Return the profile in words, without what the page shows to everybody."""
    names = [name for anchor, _, _, names in profile.SECTIONS if anchor != "institution" for name in names]
    said = profile.in_words
    return [(profile.label(n), said(n, getattr(institution, n), unknown=institution.unknown)) for n in names]


# Application


def withdraw(request: SignedInRequest, slug: str) -> HttpResponse:
    """Take the application back, after asking."""
    institution = managed(request, slug)
    if request.method != "POST":
        return render(request, "institutions/institution_withdraw.html", {"institution": institution})
    try:
        services.withdraw(institution, by=request.user, now=timezone.now())
        messages.success(request, f"The application of {institution} is withdrawn.")
    except DomainError as error:
        tell(request, error)
    return redirect("institutions:show", slug)


@require_GET
def mine(request: SignedInRequest) -> HttpResponse:
    """Show where the person belongs, and the invitations that wait for their verified addresses."""
    rows = services.institutions_of(request.user).order_by("name")
    waiting = Invitation.objects.select_related("institution").filter(
        email__in=accounts.verified_emails(request.user),
        accepted_at__isnull=True,
        withdrawn_at__isnull=True,
        expires_at__gt=timezone.now(),
    )
    requests = request.user.join_requests.select_related("institution").order_by("-asked_at")[:10]
    context = {
        "institutions": [(row, onboarding.standing(row)) for row in rows],
        "invitations": waiting,
        "requests": requests,
    }
    return render(request, "institutions/institution_mine.html", context)
