"""API: what needs an agreement in force and belongs to no contribution: the files of base models."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from rest_framework.decorators import api_view
from rest_framework.request import Request

from portal import storage
from portal.accounts.models import User
from portal.agreements import services
from portal.openapi import operation
from portal.programmes.models import BaseModel


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


urlpatterns = [path("base-models/<int:base_model_id>/download", base_model_download, name="base_model_download")]
