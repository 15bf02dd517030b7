"""API: the registered base generators."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from portal import storage
from portal.programmes.models import BaseModel


def _row(base: BaseModel) -> dict[str, Any]:
    return {
        "id": base.pk,
        "slug": base.slug,
        "version": base.version,
        "programme": base.programme.slug,
        "sha256": base.sha256,
        "size_bytes": base.size_bytes,
        "config": base.effective_config(),
        "licence": base.licence,
        "download_url": reverse("api:base_model_download", args=[base.pk]),
    }


@api_view(["GET"])
def base_models(request: Request) -> Response:
    """List the base generators that a site can fine-tune."""
    return Response([_row(base) for base in BaseModel.objects.select_related("programme")])


@api_view(["GET"])
def base_model_download(request: Request, base_model_id: int) -> HttpResponse:
    """Answer with a short-lived address of the file itself."""
    base = get_object_or_404(BaseModel, pk=base_model_id)
    filename = f"{base.slug}-{base.version}.safetensors"
    address = storage.sign_download(storage.VAULT, base.storage_key, filename=filename)
    return HttpResponse(status=307, headers={"Location": address, "Cache-Control": "no-store"})


urlpatterns = [
    path("base-models", base_models, name="base_models"),
    path("base-models/<int:base_model_id>/download", base_model_download, name="base_model_download"),
]
