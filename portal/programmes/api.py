"""API: programmes and the registered base generators."""

from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from rest_framework import serializers
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts import services as accounts
from portal.openapi import operation, page_of
from portal.paging import BEFORE, page
from portal.programmes.models import BaseModel, Programme

GROUP = "Programmes and base models"


class BaseModelSerializer(serializers.ModelSerializer):
    """A base generator, with the configuration under which the centre checks what was fine-tuned from it."""

    programme = serializers.SlugField(source="programme.slug")
    config = serializers.DictField(source="effective_config", help_text="The kit's config.json.")
    download_url = serializers.SerializerMethodField()

    class Meta:
        model = BaseModel
        fields = [
            "id", "slug", "version", "programme", "sha256", "size_bytes", "config", "licence", "download_url"
        ]  # fmt: skip

    def get_download_url(self, base: BaseModel) -> str:
        return reverse("api:base_model_download", args=[base.pk])


class ProgrammeSerializer(serializers.ModelSerializer):
    """A programme in a list."""

    url = serializers.SerializerMethodField()

    class Meta:
        model = Programme
        fields = ["id", "slug", "name", "modality", "description", "is_open", "kinds", "purposes", "url"]

    def get_url(self, programme: Programme) -> str:
        return self.context["request"].build_absolute_uri(programme.get_absolute_url())


class ProgrammeDetailSerializer(ProgrammeSerializer):
    """A programme whole."""

    base_models = serializers.SerializerMethodField()
    board_size = serializers.SerializerMethodField()

    class Meta(ProgrammeSerializer.Meta):
        fields = [*ProgrammeSerializer.Meta.fields, "public_description", "checks", "base_models", "board_size"]

    def get_base_models(self, programme: Programme) -> list[str]:
        return [str(base) for base in programme.base_models.all()]

    def get_board_size(self, programme: Programme) -> int:
        return accounts.seated(programme).count()


@operation(
    "GET",
    "list_programmes",
    "List the programmes.",
    group=GROUP,
    answers=page_of(ProgrammeSerializer),
    query=[BEFORE],
)
@api_view(["GET"])
@permission_classes([AllowAny])
def programmes(request: Request) -> Response:
    """List the programmes."""
    return page(request, Programme.objects.all(), ProgrammeSerializer)


@operation("GET", "show_programme", "Show a programme.", group=GROUP, answers=ProgrammeDetailSerializer)
@api_view(["GET"])
@permission_classes([AllowAny])
def programme(request: Request, slug: str) -> Response:
    """Show a programme."""
    row = get_object_or_404(Programme, slug=slug)
    return Response(ProgrammeDetailSerializer(row, context={"request": request}).data)


@operation(
    "GET",
    "list_base_models",
    "List the base generators that a site can fine-tune.",
    group=GROUP,
    answers=BaseModelSerializer(many=True),
)
@api_view(["GET"])
def base_models(request: Request) -> Response:
    """List the base generators that a site can fine-tune."""
    return Response(BaseModelSerializer(BaseModel.objects.select_related("programme"), many=True).data)


urlpatterns = [
    path("programmes", programmes, name="programmes"),
    path("programmes/<slug:slug>", programme, name="programme"),
    path("base-models", base_models, name="base_models"),
]
