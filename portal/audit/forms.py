"""What the audit log can be narrowed by; lives in the address."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet

from portal.audit import people
from portal.audit.models import AuditEvent
from portal.audit.verbs import SENTENCES


def _institutions() -> list[tuple[str, str]]:
    """Return the institutions that the log knows, by the name of their first event: the log needs no other table."""
    rows = AuditEvent.objects.filter(verb="institution.drafted").order_by("subject")
    return [("", "All institutions"), *((str(pk), name) for pk, name in rows.values_list("subject_id", "subject"))]


class LogForm(forms.Form):
    """Filters of the log."""

    verb = forms.ChoiceField(
        required=False, label="Event", choices=[("", "All events"), *((verb, verb) for verb in SENTENCES)]
    )
    actor = forms.CharField(
        required=False,
        max_length=200,
        label="Who",
        help_text="Part of a name or e-mail, an account’s number, or “system”.",
    )
    institution = forms.ChoiceField(required=False)
    subject_type = forms.CharField(required=False, max_length=40, label="Subject")
    subject_id = forms.IntegerField(required=False, min_value=1, label="Number")
    date_from = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}))
    date_to = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["institution"].choices = _institutions()  # type: ignore[attr-defined]

    def matching(self) -> QuerySet[AuditEvent]:
        """Return the events that match, newest first; none while a filter is malformed."""
        if not self.is_valid():
            return AuditEvent.objects.none()
        who = self.cleaned_data["actor"]
        rows = AuditEvent.objects.order_by("-pk").filter(**self._conditions())
        return rows.filter(people.found(who)) if who else rows

    def chosen(self) -> dict[str, object]:
        """Return the filters in use as the log may keep them: no name, and days as in ISO 8601."""
        used = {name: value for name, value in self.cleaned_data.items() if value not in {None, ""}}
        if who := used.pop("actor", ""):
            used["actor"] = people.numbers(who)
        return {name: value.isoformat() if isinstance(value, date) else value for name, value in used.items()}

    def _conditions(self) -> dict[str, object]:
        given = self.cleaned_data
        conditions = {
            "verb": given["verb"],
            "institution_id": given["institution"],
            "subject_type": given["subject_type"].lower(),
            "subject_id": given["subject_id"],
            "at__gte": _midnight(given["date_from"]),
            "at__lt": _midnight(given["date_to"], days=1),
        }
        return {lookup: value for lookup, value in conditions.items() if value not in {None, ""}}


def _midnight(day: date | None, *, days: int = 0) -> datetime | None:
    """Return the moment at which a day, or the one `days` later, begins (UTC)."""
    return datetime.combine(day + timedelta(days=days), time.min, UTC) if day else None
