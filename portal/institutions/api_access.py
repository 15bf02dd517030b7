"""How the API obtains an institution, and answers with it."""

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts.requests import person_of
from portal.institutions import services
from portal.institutions.models import Institution
from portal.institutions.serializers import InstitutionDetailSerializer


def visible(request: Request, slug: str) -> Institution:
    """Return the institution, or 404 where the person may not know of it."""
    return get_object_or_404(Institution.objects.visible_to(request.user), slug=slug)


def with_file(request: Request, slug: str) -> Institution:
    """Return the institution to its people and the consortium's officers."""
    institution = visible(request, slug)
    if not request.user.has_perm("institutions.view_file", institution):
        raise PermissionDenied(f"Only people of {institution} and the consortium's officers see this.")
    return institution


def managed(request: Request, slug: str) -> Institution:
    """Return the institution to somebody who may change it."""
    institution = visible(request, slug)
    services.require_manager(person_of(request), institution)
    return institution


def answer(institution: Institution, request: Request, status: int = 200) -> Response:
    """Answer with the whole institution, as far as the person may see it."""
    return Response(InstitutionDetailSerializer(institution, context={"request": request}).data, status=status)
