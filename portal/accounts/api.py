"""API: signing in from the kit (RFC 8628), and who am I."""

from typing import Any

from django.conf import settings
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, permission_classes, throttle_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from portal.accounts import services
from portal.accounts.models import ApiToken
from portal.accounts.requests import person_of
from portal.actions import Action
from portal.openapi import ActionSerializer, operation, page_of
from portal.paging import BEFORE, page


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
    client_name = serializers.CharField(max_length=100, help_text="Shown to the person who is asked.")


class DeviceLoginSerializer(serializers.Serializer):
    device_code = serializers.CharField(help_text="The secret to poll with.")
    user_code = serializers.CharField(help_text="What the person compares in the browser.")
    verification_url = serializers.URLField(help_text="The page to open.")
    interval_seconds = serializers.IntegerField(help_text="Wait so long between two questions.")
    expires_in_seconds = serializers.IntegerField()


class PollSerializer(serializers.Serializer):
    device_code = serializers.CharField(max_length=100)


class NewTokenSerializer(serializers.Serializer):
    token = serializers.CharField(help_text="Shown once; only its digest is kept.")


class RolesSerializer(serializers.Serializer):
    slug = serializers.SlugField()
    name = serializers.CharField()
    roles = serializers.ListField(child=serializers.CharField())


class MeSerializer(serializers.Serializer):
    email = serializers.EmailField()
    name = serializers.CharField(allow_blank=True)
    institutions = RolesSerializer(many=True)


GROUP = "You and your tokens"


@operation(
    "POST",
    "begin_device_login",
    "Ask for a code that a person approves in the browser.",
    group=GROUP,
    takes=BeginSerializer,
    answers=DeviceLoginSerializer,
    status=201,
    description="The first step of signing in from a program (RFC 8628): show the code and the address, then poll.",
)
@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
@throttle_classes([BeginThrottle])
def begin_device_login(request: Request) -> Response:
    """Give a kit a code to show and a secret to poll with."""
    body = BeginSerializer(data=request.data)
    body.is_valid(raise_exception=True)
    login, device_code = services.begin_device_login(client_name=body.validated_data["client_name"], now=timezone.now())
    query = urlencode({"user_code": login.user_code})
    answer = {
        "device_code": device_code,
        "user_code": login.user_code,
        "verification_url": f"{settings.PORTAL_URL}{reverse('accounts:device')}?{query}",
        "interval_seconds": services.POLL_SECONDS,
        "expires_in_seconds": services.DEVICE_MINUTES * 60,
    }
    return Response(answer, status=201, headers={"Cache-Control": "no-store"})


@operation(
    "POST",
    "redeem_device_login",
    "Ask for the token, once the person has said yes.",
    group=GROUP,
    takes=PollSerializer,
    answers=NewTokenSerializer,
    description="400 with the code authorization_pending: not yet, ask again; denied and expired: begin anew.",
)
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


@operation("GET", "me", "Say whose token this is, and what the person is where.", group=GROUP, answers=MeSerializer)
@api_view(["GET"])
def me(request: Request) -> Response:
    """Say whose token this is, and what the person is where."""
    user = person_of(request)
    institutions: dict[str, dict[str, Any]] = {}
    for row in user.memberships.current().select_related("institution").order_by("institution__name", "pk"):
        entry = {"slug": row.institution.slug, "name": row.institution.name, "roles": []}
        institutions.setdefault(row.institution.slug, entry)["roles"].append(row.role)
    return Response({"email": user.email, "name": user.name, "institutions": list(institutions.values())})


class TokenSerializer(serializers.ModelSerializer):
    """A personal token; the token itself is not kept."""

    available_actions = serializers.SerializerMethodField()

    class Meta:
        model = ApiToken
        fields = ["id", "name", "created_at", "expires_at", "last_used_at", "revoked_at", "available_actions"]

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, token: ApiToken) -> Any:
        reason = "It has ended." if token.revoked_at is not None else ""
        url = reverse("api:revoke_token", args=[token.pk])
        return ActionSerializer([Action("revoke", "Revoke", not reason, reason, url)], many=True).data


@operation(
    "GET",
    "list_tokens",
    "List your tokens, newest first.",
    group=GROUP,
    answers=page_of(TokenSerializer),
    query=[BEFORE],
    description="A token is made on the page, where you prove who you are again, or by signing in from the kit.",
)
@api_view(["GET"])
def tokens(request: Request) -> Response:
    """List one's own tokens."""
    return page(request, person_of(request).api_tokens.all(), TokenSerializer)


@operation("POST", "revoke_token", "End a token of yours.", group=GROUP, answers=TokenSerializer)
@api_view(["POST"])
def revoke_token(request: Request, token_id: int) -> Response:
    """End a token. One that has ended is answered as it is."""
    token = get_object_or_404(person_of(request).api_tokens, pk=token_id)
    services.revoke_token(token, by=person_of(request), now=timezone.now())
    token.refresh_from_db()
    return Response(TokenSerializer(token).data)


urlpatterns = [
    path("device", begin_device_login, name="device"),
    path("device/token", redeem_device_login, name="device_token"),
    path("me", me, name="me"),
    path("tokens", tokens, name="tokens"),
    path("tokens/<int:token_id>/revoke", revoke_token, name="revoke_token"),
]
