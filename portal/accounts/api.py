"""API: signing in from the kit (RFC 8628), and who am I."""

from typing import Any

from django.conf import settings
from django.urls import path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, permission_classes, throttle_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from portal.accounts import services
from portal.accounts.models import User


class BeginThrottle(AnonRateThrottle):
    """New codes, per address: each is a row, and eight letters must stay unguessable."""

    scope = "device"


class PollThrottle(BeginThrottle):
    """Questions about one code: per code, so that kits behind one address do not disturb each other."""

    def get_cache_key(self, request: Request, view: APIView) -> str:
        code = request.data.get("device_code", "") if isinstance(request.data, dict) else ""
        ident = services.digest_of(str(code))
        return self.cache_format % {"scope": "device-poll", "ident": ident}


class BeginSerializer(serializers.Serializer):
    client_name = serializers.CharField(max_length=100)


class PollSerializer(serializers.Serializer):
    device_code = serializers.CharField(max_length=100)


@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
@throttle_classes([BeginThrottle])
def begin_device_login(request: Request) -> Response:
    """Give a kit a code to show and a secret to poll with."""
    body = BeginSerializer(data=request.data)
    body.is_valid(raise_exception=True)
    login, device_code = services.begin_device_login(client_name=body.validated_data["client_name"], now=timezone.now())
    query = urlencode({"code": login.user_code})
    answer = {
        "device_code": device_code,
        "user_code": login.user_code,
        "verification_url": f"{settings.PORTAL_URL}{reverse('accounts:device')}?{query}",
        "interval_seconds": services.POLL_SECONDS,
        "expires_in_seconds": services.DEVICE_MINUTES * 60,
    }
    return Response(answer, status=201, headers={"Cache-Control": "no-store"})


@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
@throttle_classes([PollThrottle])
def redeem_device_login(request: Request) -> Response:
    """Give the kit its token, once, after the person has said yes."""
    body = PollSerializer(data=request.data)
    body.is_valid(raise_exception=True)
    token = services.redeem_device_login(body.validated_data["device_code"], now=timezone.now())
    return Response({"token": token}, headers={"Cache-Control": "no-store"})


@api_view(["GET"])
def me(request: Request) -> Response:
    """Say whose token this is, and what the person is where."""
    user: User = request.user  # type: ignore[assignment]  # nobody else passes IsAuthenticated
    institutions: dict[str, dict[str, Any]] = {}
    for row in user.memberships.current().select_related("institution").order_by("institution__name", "pk"):
        entry = {"slug": row.institution.slug, "name": row.institution.name, "roles": []}
        institutions.setdefault(row.institution.slug, entry)["roles"].append(row.role)
    return Response({"email": user.email, "name": user.name, "institutions": list(institutions.values())})


urlpatterns = [
    path("device", begin_device_login, name="device"),
    path("device/token", redeem_device_login, name="device_token"),
    path("me", me, name="me"),
]
