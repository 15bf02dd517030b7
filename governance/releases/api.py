"""Released models over the API: list, accept the licence."""

from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils import timezone
from rest_framework import serializers
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from governance.releases import services
from governance.releases.lifecycle import Status
from governance.releases.models import LicenseAcceptance, Release
from portal.openapi import operation, valid

GROUP = "Released models"


class LicenceSerializer(serializers.Serializer):
    spdx = serializers.CharField()
    sha256 = serializers.CharField(help_text="Of the text: what you accept.")
    title = serializers.CharField()
    url = serializers.URLField()


class ReleaseFileSerializer(serializers.Serializer):
    name = serializers.CharField()
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()
    url = serializers.CharField(help_text="Answers once the licence is accepted; resumable (Range).")


class ReleaseSerializer(serializers.Serializer):
    """A released model."""

    slug = serializers.SlugField()
    name = serializers.CharField()
    version = serializers.CharField()
    url = serializers.URLField()
    licence = LicenceSerializer()
    files = ReleaseFileSerializer(many=True)
    accepted = serializers.BooleanField(help_text="You have accepted the licence of this release.")


class AcceptLicenceSerializer(serializers.Serializer):
    licence_sha256 = serializers.RegexField(r"^[0-9a-f]{64}$", help_text="Of the text that you have read.")
    typed_name = serializers.CharField(max_length=200, help_text="Your name, as it stands on your account.")
    purpose = serializers.CharField(max_length=2000, help_text="What you will do with it, not for profit.")
    institution = serializers.CharField(max_length=250, help_text="Where you work; any name.")


class AcceptedSerializer(serializers.Serializer):
    release = serializers.SlugField()
    accepted_at = serializers.DateTimeField()


def _document(release: Release, request: Request, *, accepted: bool) -> dict[str, object]:
    license = release.license
    return {
        "slug": release.slug,
        "name": release.name,
        "version": release.version,
        "url": request.build_absolute_uri(release.get_absolute_url()),
        "licence": {
            "spdx": license.spdx_id,
            "sha256": license.sha256,
            "title": license.title,
            "url": request.build_absolute_uri(reverse("releases:license", args=[license.spdx_id])),
        },
        "files": [
            {
                "name": file.name,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "url": reverse("releases:download", args=[release.slug, file.name]),
            }
            for file in release.files.all()
        ],
        "accepted": accepted,
    }


@operation("GET", "list_models", "List the released models.", group=GROUP, answers=ReleaseSerializer(many=True))
@api_view(["GET"])
@permission_classes([AllowAny])
def models(request: Request) -> Response:
    """List the released models."""
    rows = Release.objects.filter(status=Status.RELEASED).select_related("license").prefetch_related("files")
    accepted = services.accepted_by(request.user)
    return Response([_document(release, request, accepted=release.pk in accepted) for release in rows])


@operation(
    "POST",
    "accept_licence",
    "Accept the licence of a release, by the hash of its text.",
    group=GROUP,
    takes=AcceptLicenceSerializer,
    answers=AcceptedSerializer,
    status=201,
)
@api_view(["POST"])
def accept(request: Request, slug: str) -> Response:
    """Accept the licence of a release; the hash must be that of its text."""
    release = get_object_or_404(Release.objects.filter(status=Status.RELEASED), slug=slug)
    given = valid(AcceptLicenceSerializer(data=request.data))
    accepted = services.accept_license(
        release,
        license_sha256=given["licence_sha256"],
        typed_name=given["typed_name"],
        institution_name=given["institution"],
        purpose=given["purpose"],
        channel=LicenseAcceptance.Channel.API,
        by=request.user,  # type: ignore[arg-type]  # a person: IsAuthenticated is the default
        now=timezone.now(),
    )
    return Response({"release": release.slug, "accepted_at": accepted.accepted_at}, status=201)


urlpatterns = [path("models", models), path("models/<slug:slug>/accept", accept)]
