"""The history of roles, for auditors, operators and the chair."""

from datetime import date, datetime
from typing import Any

from django import forms
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET

from portal import spreadsheet
from portal.accounts.requests import SignedInRequest
from portal.audit import people
from portal.audit.views import require_auditor
from portal.institutions import role_history

PAGE_SIZE = 50


class RoleForm(forms.Form):
    """Filters of the history."""

    person = forms.CharField(
        required=False, max_length=200, label="Person", help_text="Part of a name or e-mail, or an account’s number."
    )
    role = forms.ChoiceField(
        required=False,
        choices=[
            ("", "Every role"),
            *(
                (
                    f"In {'the consortium' if kind == 'consortium' else 'an institution'}",
                    [(f"{kind}:{name}", label) for name, label in labels.items()],
                )
                for kind, labels in role_history.LABELS.items()
            ),
        ],
    )
    day = forms.DateField(required=False, label="Held on", widget=forms.DateInput(attrs={"type": "date"}))

    def chosen(self) -> dict[str, Any]:
        """Return the filters in use as the log may keep them: people by number."""
        used = {name: value for name, value in self.cleaned_data.items() if value}
        if "person" in used:
            used["person"] = people.numbers(used["person"])
        return {name: value.isoformat() if isinstance(value, date) else value for name, value in used.items()}


def _cursor(text: str) -> role_history.Cursor | None:
    """Return what `?before=` names: the start, kind and number of the last role of the page before."""
    parts = text.split("_")
    if len(parts) != 3 or parts[1] not in role_history.LABELS or not parts[2].isdecimal():
        return None
    started_at = _moment(parts[0])
    return (started_at, parts[1], int(parts[2][:18])) if started_at else None


def _moment(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return found if found and found.tzinfo else None


@require_GET
def history(request: SignedInRequest) -> HttpResponse:
    """Show who held which role when, the latest begun first, by keyset."""
    require_auditor(request)
    form = RoleForm(request.GET)
    query = request.GET.copy()
    query.pop("before", None)
    rows: list[dict[str, Any]] = []
    if form.is_valid():
        found = role_history.find(**form.cleaned_data)
        before = _cursor(request.GET.get("before", ""))
        rows = list(role_history.ordered(found, before=before)[: PAGE_SIZE + 1])
    context = {
        "form": form,
        "roles": list(role_history.described(rows[:PAGE_SIZE])),
        "before": _name(rows[PAGE_SIZE - 1]) if len(rows) > PAGE_SIZE else "",
        "query": query.urlencode(),
        "filtered": any(query.values()),
    }
    return render(request, "institutions/role_history.html", context, status=422 if form.errors else 200)


def _name(row: dict[str, Any]) -> str:
    return f"{row['started_at']:%Y-%m-%dT%H:%M:%S.%fZ}_{row['kind']}_{row['id']}"


@require_GET
def csv_(request: SignedInRequest) -> HttpResponseBase:
    """Send what matches the filters as a table."""
    require_auditor(request)
    form = RoleForm(request.GET)
    if not form.is_valid():
        return HttpResponse("A filter is malformed.", status=422, content_type="text/plain")
    found = role_history.find(**form.cleaned_data)
    rows = role_history.export(found, by=request.user, filters=form.chosen())
    return spreadsheet.answer("roles", role_history.COLUMNS, (row.cells() for row in rows))
