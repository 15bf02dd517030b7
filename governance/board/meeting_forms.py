"""Calling a meeting, its agenda, its minutes."""

from datetime import UTC
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from governance.board.models import Meeting, Motion


def _motions(rows: QuerySet[Motion]) -> forms.ModelMultipleChoiceField:
    return forms.ModelMultipleChoiceField(rows, required=False, widget=forms.CheckboxSelectMultiple, label=_("Motions"))


def _points() -> forms.CharField:
    widget = forms.Textarea(attrs={"rows": 4})
    help_text = _("One a line, after the motions.")
    return forms.CharField(required=False, widget=widget, label=_("Further points"), help_text=help_text)


def _moment(label: Any) -> forms.DateTimeField:
    """A moment in UTC; the page says so beside the field."""
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, widget=widget, help_text=_("In UTC."))


class MeetingForm(forms.Form):
    title = forms.CharField(max_length=200, label=_("Title"))
    starts_at = _moment(_("Begins"))
    ends_at = _moment(_("Ends"))
    place = forms.CharField(max_length=300, label=_("Place"), help_text=_("A room, or the address of the call."))
    motions = _motions(Motion.objects.undecided())
    points = _points()

    def clean_points(self) -> list[str]:
        return self.cleaned_data["points"].splitlines()

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for name in ("starts_at", "ends_at"):
            if given.get(name):
                given[name] = given[name].astimezone(UTC)
        if given.get("starts_at") and given.get("ends_at") and given["ends_at"] <= given["starts_at"]:
            self.add_error("ends_at", _("It ends after it begins."))
        return given


class AgendaForm(forms.Form):
    points = _points()

    def __init__(self, *args: Any, meeting: Meeting, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = Motion.objects.filter(agenda_items__meeting=meeting)
        self.fields["motions"] = _motions((Motion.objects.undecided() | own).distinct())
        self.order_fields(["motions", "points"])

    def clean_points(self) -> list[str]:
        return self.cleaned_data["points"].splitlines()


class MinutesForm(forms.Form):
    text = forms.CharField(
        label=_("Minutes"),
        widget=forms.Textarea(attrs={"rows": 20, "class": "code"}),
        help_text=_("Markdown. The board reads them; they are kept once and never changed."),
    )
