"""API: inbox, how to hear of each kind, and webhooks. A webhook is added on its page, which shows its secret."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from portal.actions import Action
from portal.notifications import services, webhooks
from portal.notifications.models import Notification, Webhook
from portal.notifications.types import MANDATORY, Delivery, Type
from portal.openapi import ActionSerializer, operation, page_of, valid
from portal.paging import BEFORE, page

GROUP = "Notifications"


class NamedListSerializer(serializers.ListSerializer):
    """Gives people in the texts their names, for a whole page in one query."""

    def to_representation(self, data: Any) -> list[Any]:
        return super().to_representation(services.with_names(list(data)))


class NotificationSerializer(serializers.ModelSerializer):
    """One entry of your inbox."""

    url = serializers.SerializerMethodField(help_text="The page where you can act.")
    available_actions = serializers.SerializerMethodField()

    class Meta:
        model = Notification
        list_serializer_class = NamedListSerializer
        fields = [
            "id", "type", "subject", "text", "url", "created_at", "deadline_at", "read_at", "available_actions"
        ]  # fmt: skip

    def get_url(self, row: Notification) -> str:
        return self.context["request"].build_absolute_uri(row.path)

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, row: Notification) -> Any:
        name, label = ("read", "Mark as read") if row.read_at is None else ("unread", "Mark as unread")
        return ActionSerializer([Action(name, label, True, url=_to(f"notification_{name}", row.pk))], many=True).data


class NotificationFilterSerializer(serializers.Serializer):
    unread = serializers.BooleanField(default=False, help_text="Only what is unread.")
    type = serializers.ChoiceField(choices=Type.choices, required=False)


class TypeSerializer(serializers.Serializer):
    type = serializers.ChoiceField(choices=Type.choices, required=False, help_text="Left out: of every kind.")


class UnreadSerializer(serializers.Serializer):
    count = serializers.IntegerField(help_text="Counted up to 100.")


class MarkedSerializer(serializers.Serializer):
    count = serializers.IntegerField(help_text="How many were unread.")


class PreferencesSerializer(serializers.Serializer):
    """One choice per kind; what binds or protects you cannot be off."""

    def get_fields(self) -> dict[str, serializers.Field]:
        optional = [row for row in Delivery.choices if row[0] != Delivery.OFF]
        return {
            type.value: serializers.ChoiceField(
                choices=optional if type in MANDATORY else Delivery.choices, help_text=type.label
            )
            for type in Type
        }


class WebhookSerializer(serializers.ModelSerializer):
    """An endpoint of yours. Its secret is shown once, on the page, and nowhere else."""

    available_actions = serializers.SerializerMethodField()

    class Meta:
        model = Webhook
        fields = [
            "id", "url", "created_at", "disabled_at", "disabled_because", "last_success_at", "failing_since",
            "failures", "last_error", "available_actions",
        ]  # fmt: skip

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, row: Webhook) -> Any:
        reason = "It is disabled." if row.disabled_at is not None else ""
        url = _to("disable_webhook", row.pk)
        return ActionSerializer([Action("disable", "Disable", not reason, reason, url)], many=True).data


def _to(name: str, pk: int) -> str:
    return reverse(f"api:{name}", args=[pk])


def _reader(request: Request) -> AbstractBaseUser:
    """Return who asks: IsAuthenticated has let the request in."""
    assert isinstance(request.user, AbstractBaseUser)
    return request.user


def _own(request: Request) -> QuerySet[Notification]:
    """Return the entries of who asks: nobody obtains another's."""
    return Notification.objects.filter(recipient_id=_reader(request).pk)


def _entry(request: Request, row: Notification) -> Response:
    row.refresh_from_db()
    shown = services.with_names([row])[0]
    return Response(NotificationSerializer(shown, context={"request": request}).data)


@operation(
    "GET",
    "list_notifications",
    "List what you were told, newest first.",
    group=GROUP,
    answers=page_of(NotificationSerializer),
    query=[NotificationFilterSerializer, BEFORE],
)
@api_view(["GET"])
def notifications(request: Request) -> Response:
    """List the inbox."""
    given = valid(NotificationFilterSerializer(data=request.query_params))
    rows = _own(request)
    if given["unread"]:
        rows = rows.filter(read_at__isnull=True)
    if "type" in given:
        rows = rows.filter(type=given["type"])
    return page(request, rows, NotificationSerializer, filters=NotificationFilterSerializer)


@operation("GET", "count_unread", "Count what is unread.", group=GROUP, answers=UnreadSerializer)
@api_view(["GET"])
def unread_count(request: Request) -> Response:
    """Count what is unread."""
    return Response({"count": services.unread_count(_reader(request))})


@operation(
    "POST",
    "mark_all_read",
    "Mark everything, or everything of one kind, as read.",
    group=GROUP,
    takes=TypeSerializer,
    answers=MarkedSerializer,
)
@api_view(["POST"])
def mark_all(request: Request) -> Response:
    """Mark everything as read."""
    type = valid(TypeSerializer(data=request.data)).get("type", "")
    return Response({"count": services.mark_all_read(_reader(request), type=type, now=timezone.now())})


@operation("GET", "show_notification", "Show one entry. It stays unread.", group=GROUP, answers=NotificationSerializer)
@api_view(["GET"])
def notification(request: Request, notification_id: int) -> Response:
    """Show one entry; looking changes nothing."""
    return _entry(request, get_object_or_404(_own(request), pk=notification_id))


@operation("POST", "mark_read", "Mark an entry as read.", group=GROUP, answers=NotificationSerializer)
@api_view(["POST"])
def mark_read(request: Request, notification_id: int) -> Response:
    """Mark an entry as read; the time of the first reading stays."""
    row = get_object_or_404(_own(request), pk=notification_id)
    services.mark_read(row, now=timezone.now())
    return _entry(request, row)


@operation("POST", "mark_unread", "Mark an entry as unread.", group=GROUP, answers=NotificationSerializer)
@api_view(["POST"])
def mark_unread(request: Request, notification_id: int) -> Response:
    """Mark an entry as unread."""
    row = get_object_or_404(_own(request), pk=notification_id)
    services.mark_unread(row)
    return _entry(request, row)


@operation(
    "GET", "show_preferences", "Show how you hear of each kind.", group=GROUP, answers=PreferencesSerializer
)  # fmt: skip
@operation(
    "PUT",
    "choose_preferences",
    "Choose how you hear of each kind: by mail at once, in one mail a day, or only in the inbox.",
    group=GROUP,
    takes=PreferencesSerializer,
    answers=PreferencesSerializer,
)
@api_view(["GET", "PUT"])
def preferences(request: Request) -> Response:
    """Show or change how one hears of each kind."""
    if request.method == "PUT":
        services.prefer(_reader(request), valid(PreferencesSerializer(data=request.data)))
    return Response(services.preferences(_reader(request)))


@operation(
    "GET",
    "list_webhooks",
    "List your endpoints, newest first, without their secrets.",
    group=GROUP,
    answers=page_of(WebhookSerializer),
    query=[BEFORE],
    description="An endpoint is added on its page, where you prove who you are again and read its secret once.",
)
@api_view(["GET"])
def own_webhooks(request: Request) -> Response:
    """List one's endpoints."""
    return page(request, Webhook.objects.filter(owner_id=_reader(request).pk), WebhookSerializer)


@operation(
    "POST",
    "disable_webhook",
    "Disable an endpoint of yours: its secret signs nothing any more.",
    group=GROUP,
    answers=WebhookSerializer,
)
@api_view(["POST"])
def disable_webhook(request: Request, webhook_id: int) -> Response:
    """Disable an endpoint. One that is disabled is answered as it is."""
    by = _reader(request)
    row = get_object_or_404(Webhook, owner_id=by.pk, pk=webhook_id)
    webhooks.disable(row, by=by, because="You disabled it.", now=timezone.now())
    row.refresh_from_db()
    return Response(WebhookSerializer(row).data)


urlpatterns = [
    path("notifications", notifications, name="notifications"),
    path("notifications/unread-count", unread_count, name="unread_count"),
    path("notifications/read", mark_all, name="mark_all_read"),
    path("notifications/preferences", preferences, name="preferences"),
    path("notifications/<int:notification_id>", notification, name="notification"),
    path("notifications/<int:notification_id>/read", mark_read, name="notification_read"),
    path("notifications/<int:notification_id>/unread", mark_unread, name="notification_unread"),
    path("webhooks", own_webhooks, name="webhooks"),
    path("webhooks/<int:webhook_id>/disable", disable_webhook, name="disable_webhook"),
]
