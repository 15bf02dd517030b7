"""API: the registered base generators."""

from typing import Any

from django.urls import path, reverse
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from portal.programmes.models import BaseModel


def _row(base: BaseModel) -> dict[str, Any]:
    return {
        "id": base.pk,
        "slug": base.slug,
        "version": base.version,
        "programme": base.programme.slug,
        "sha256": base.sha256,
        "size_bytes": base.size_bytes,
        "config": base.config,
        "licence": base.licence,
        "download_url": reverse("api:base_model_download", args=[base.pk]),
    }


@api_view(["GET"])
def base_models(request: Request) -> Response:
    """List the base generators that a site can fine-tune."""
    return Response([_row(base) for base in BaseModel.objects.select_related("programme")])


urlpatterns = [
    path("base-models", base_models, name="base_models"),
]
