from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from governance.board import models
from governance.board.lifecycle import UNDECIDED
from portal.admin import ReadOnlyAdmin


@admin.register(models.Motion)
class MotionAdmin(ReadOnlyAdmin):
    list_display = ["title", "kind", "status", "opened_at", "closes_at", "closed_at"]
    list_filter = ["status", "kind"]


class HiddenUntilDecided(ReadOnlyAdmin):
    """What the board keeps to itself while nothing is decided, here as little shown as on the page."""

    list_select_related = ["motion"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).exclude(motion__status__in=UNDECIDED)


@admin.register(models.Vote)
class VoteAdmin(HiddenUntilDecided):
    list_display = ["motion", "voter", "cast_at"]


@admin.register(models.Review)
class ReviewAdmin(HiddenUntilDecided):
    list_display = ["motion", "reviewer", "submitted_at"]


@admin.register(models.Comment)
class CommentAdmin(HiddenUntilDecided):
    list_display = ["motion", "audience", "written_at"]


@admin.register(models.Recusal)
class RecusalAdmin(ReadOnlyAdmin):
    list_display = ["motion", "member", "basis", "declared_at"]
    list_select_related = ["motion", "member"]


@admin.register(
    models.BallotRule,
    models.CastingVote,
    models.Condition,
    models.Decision,
    models.Declaration,
    models.Interest,
    models.MinorityOpinion,
    models.Meeting,
    models.AgendaItem,
    models.Attendance,
)
class RecordAdmin(ReadOnlyAdmin):
    """The rest of the record, by its own words."""
