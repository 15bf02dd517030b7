"""
API: what an agreement in force allows, and the files of base models.

The library and receipts are in library_api.py, cases in case_api.py.
"""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from portal import storage
from portal.accounts.models import User
from portal.agreements import case_api, library_api, services
from portal.institutions.api_access import with_file
from portal.openapi import operation, valid
from portal.programmes.models import BaseModel, Programme


@operation(
    "GET",
    "download_base_model",
    "Download the weights of a base generator.",
    group="Programmes and base models",
    status=307,
    description="Answers 307 with a short-lived address of the file itself in Location.",
)
@api_view(["GET"])
def base_model_download(request: Request, base_model_id: int) -> HttpResponse:
    """Answer with a short-lived address of the file itself, to people of institutions whose agreement is in force."""
    base = get_object_or_404(BaseModel.objects.select_related("programme"), pk=base_model_id)
    assert isinstance(request.user, User)  # IsAuthenticated has let the request in
    decision = services.may_download(request.user, base.programme, now=timezone.now())
    if not decision.allowed:
        raise services.AgreementRequired(decision)
    filename = f"{base.slug}-{base.version}.safetensors"
    address = storage.sign_download(storage.VAULT, base.storage_key, filename=filename)
    return HttpResponse(status=307, headers={"Location": address, "Cache-Control": "no-store"})


class QuestionSerializer(serializers.Serializer):
    action = serializers.ChoiceField(choices=services.Action.choices)
    programme = serializers.SlugField(required=False, help_text="Left out: in any programme.")


class DecisionSerializer(serializers.Serializer):
    """Yes; or no with a code, a sentence, and where to settle it."""

    allowed = serializers.BooleanField()
    code = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    next_url = serializers.CharField(allow_blank=True)


@operation(
    "GET",
    "may",
    "Say whether the institution may do this now, and why not, where not.",
    group="Agreements",
    answers=DecisionSerializer,
    query=[QuestionSerializer],
    description="For people of the institution and the consortium. The same answer that uploads and downloads get.",
)
@api_view(["GET"])
def may(request: Request, slug: str) -> Response:
    """Answer whether the institution may do this now."""
    institution = with_file(request, slug)
    asked = valid(QuestionSerializer(data=request.query_params))
    programme = get_object_or_404(Programme, slug=asked["programme"]) if "programme" in asked else None
    decision = services.may(institution, asked["action"], programme=programme, now=timezone.now())
    return Response(DecisionSerializer(decision).data)


urlpatterns = [
    path("base-models/<int:base_model_id>/download", base_model_download, name="base_model_download"),
    path("institutions/<slug:slug>/may", may, name="may"),
    *case_api.urlpatterns,
    *library_api.urlpatterns,
]
