"""Pages: isolate a contribution that may hold what must not be sent, lift that, delete the files after the incident."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from contributions import deletion, holds, incidents, isolation, versions
from contributions.forms import IsolateForm, LiftForm
from contributions.models import Contribution
from portal.accounts.requests import SignedInRequest


def _contribution(request: SignedInRequest, pk: int) -> Contribution:
    rows = Contribution.objects.visible_to(request.user).select_related("institution", "programme")
    return get_object_or_404(rows, pk=pk)


def isolate(request: SignedInRequest, pk: int) -> HttpResponse:
    """Isolate it: what was found, and in which files."""
    contribution = _contribution(request, pk)
    incidents.require_may_act(request.user, contribution)
    incidents.require_isolatable(contribution)
    form = IsolateForm(request.POST or None, contribution=contribution)
    if form.is_valid():
        reason, files = form.cleaned_data["reason"], form.cleaned_data["concerned"]
        incidents.isolate(contribution, reason=reason, files=files, by=request.user, now=timezone.now())
        messages.success(request, "The contribution is isolated. The institution is told.")
        return redirect(contribution)
    context = {"contribution": contribution, "form": form, **versions.use_of(contribution, request.user)}
    return render(request, "contributions/contribution_isolate.html", context)


def lift(request: SignedInRequest, pk: int, isolation_pk: int) -> HttpResponse:
    """Say that it was a mistake."""
    contribution = _contribution(request, pk)
    incidents.require_may_act(request.user, contribution)
    row = get_object_or_404(contribution.isolations, pk=isolation_pk)
    incidents.require_standing(row)
    form = LiftForm(request.POST or None)
    if form.is_valid():
        incidents.lift(row, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, "The isolation is lifted. The institution is told.")
        return redirect(contribution)
    context = {"contribution": contribution, "form": form, "isolation": row}
    return render(request, "contributions/contribution_lift.html", context)


def delete_files(request: SignedInRequest, pk: int, isolation_pk: int) -> HttpResponse:
    """Have the files deleted after the incident, after a look at what that touches."""
    contribution = _contribution(request, pk)
    incidents.require_may_delete(request.user, contribution)
    row = get_object_or_404(contribution.isolations, pk=isolation_pk)
    incidents.require_deletable(row)
    if request.method == "POST":
        incidents.delete_files(row, by=request.user, now=timezone.now())
        messages.success(request, "The files are being deleted. The institution is told when they are gone.")
        return redirect(contribution)
    context = {
        "contribution": contribution,
        "isolation": row,
        "files": deletion.present(contribution),
        **versions.use_of(contribution, request.user),
    }
    return render(request, "contributions/contribution_incident_delete.html", context)


def of_page(request: SignedInRequest, contribution: Contribution) -> dict[str, Any]:
    """Return what the reader may do about an isolation (`may_read_hold` says whether to read of it), and past ones."""
    may_act, row = holds.may_act(request.user, contribution), isolation.current(contribution)
    is_open = row is not None and row.deletion_ordered_at is None and deletion.holds_files(contribution)
    is_past = holds.may_read(request.user, contribution)
    return {
        "may_isolate": may_act and incidents.may_isolate(contribution),
        "may_lift": may_act and is_open,
        "may_delete_after_incident": is_open and incidents.may_delete(request.user, contribution),
        "past_isolations": contribution.isolations.exclude(lifted_at=None) if is_past else [],
    }
