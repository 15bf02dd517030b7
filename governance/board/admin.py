from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from governance.board.lifecycle import Status
from governance.board.models import Motion, Recusal, Vote
from portal.admin import ReadOnlyAdmin


@admin.register(Motion)
class MotionAdmin(ReadOnlyAdmin):
    list_display = ["title", "kind", "status", "opened_at", "closes_at", "closed_at"]
    list_filter = ["status", "kind"]


@admin.register(Vote)
class VoteAdmin(ReadOnlyAdmin):
    """How somebody votes is not shown while the ballot is open, here as little as on the page."""

    list_display = ["motion", "voter", "cast_at"]
    list_select_related = ["motion", "voter"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Vote]:
        return super().get_queryset(request).exclude(motion__status=Status.OPEN)


@admin.register(Recusal)
class RecusalAdmin(ReadOnlyAdmin):
    list_display = ["motion", "member", "declared_at"]
    list_select_related = ["motion", "member"]
