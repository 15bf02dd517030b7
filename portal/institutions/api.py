"""API: institutions and their profiles. The case is in case_api.py, people in people_api.py."""

from typing import Any

from django.db.models import Q, QuerySet
from django.urls import path
from django.utils import timezone
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts.requests import person_of
from portal.institutions import case_api, people_api, services
from portal.institutions.api_access import answer, visible
from portal.institutions.models import Institution
from portal.institutions.serializers import (
    ApplicationSerializer,
    FilterSerializer,
    InstitutionDetailSerializer,
    InstitutionSerializer,
    ProfileSerializer,
)
from portal.institutions.vocabulary import UNKNOWABLE
from portal.openapi import operation, page_of, valid
from portal.paging import BEFORE, page

GROUP = "Institutions"


def _filtered(request: Request) -> QuerySet[Institution]:
    given = valid(FilterSerializer(data=request.query_params))
    rows = Institution.objects.visible_to(request.user)
    if "q" in given:
        rows = rows.filter(Q(name__icontains=given["q"]) | Q(local_name__icontains=given["q"]))
    if "country" in given:
        rows = rows.filter(country=given["country"].upper())
    if "region" in given:
        rows = rows.filter(subregion=given["region"])
    if given["mine"]:
        rows = rows.filter(pk__in=services.institutions_of(person_of(request)).values("pk"))
    return rows


@operation(
    "GET",
    "list_institutions",
    "List the institutions that you may see, newest first.",
    group=GROUP,
    answers=page_of(InstitutionSerializer),
    query=[FilterSerializer, BEFORE],
    description="Without a token: the members of the consortium. With one, also your own and, for the consortium's "
    "officers, every application that was sent.",
)
@operation(
    "POST",
    "begin_application",
    "Begin the application of an institution as a draft.",
    group=GROUP,
    takes=ApplicationSerializer,
    answers=InstitutionDetailSerializer,
    status=201,
)
@api_view(["GET", "POST"])
@permission_classes([AllowAny])
def institutions(request: Request) -> Response:
    """List the institutions that the reader may see, or begin an application."""
    if request.method == "GET":
        return page(request, _filtered(request), InstitutionSerializer, filters=FilterSerializer)
    by = person_of(request)
    given = valid(ApplicationSerializer(data=request.data))
    return answer(services.start_application(by=by, now=timezone.now(), **given), request, status=201)


@operation("GET", "show_institution", "Show an institution.", group=GROUP, answers=InstitutionDetailSerializer)
@operation(
    "PATCH",
    "change_profile",
    "Change parts of the profile.",
    group=GROUP,
    takes=ProfileSerializer,
    answers=InstitutionDetailSerializer,
)
@api_view(["GET", "PATCH"])
@permission_classes([AllowAny])
def institution(request: Request, slug: str) -> Response:
    """Show an institution, or change its profile."""
    row = visible(request, slug)
    if request.method == "PATCH":
        by = person_of(request)
        services.require_manager(by, row)
        given = valid(ProfileSerializer(row, data=request.data, partial=True))
        row = services.change_profile(row, by=by, marks=_marks(given), **given)
    return answer(row, request)


def _marks(given: dict[str, Any]) -> dict[str, bool] | None:
    """Take `unknown` out of what was given, and return which fields are ticked and which are not."""
    ticked = given.pop("unknown", None)
    return None if ticked is None else {name: name in ticked for name in UNKNOWABLE}


urlpatterns = [
    path("institutions", institutions, name="institutions"),
    path("institutions/<slug:slug>", institution, name="institution"),
    *case_api.urlpatterns,
    *people_api.urlpatterns,
]
