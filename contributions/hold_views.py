"""Pages for operators: hold the files of a contribution back from deletion, and release them."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from contributions import deletion, holds
from contributions.forms import HoldForm, ReleaseForm
from contributions.models import Contribution
from portal.accounts.requests import SignedInRequest


def _contribution(request: SignedInRequest, pk: int) -> Contribution:
    """Return a contribution that the person may see and whose files they may hold."""
    rows = Contribution.objects.visible_to(request.user).select_related("institution", "programme")
    contribution = get_object_or_404(rows, pk=pk)
    holds.require_may_act(request.user, contribution)
    return contribution


def place(request: SignedInRequest, pk: int) -> HttpResponse:
    """Hold the files back, with a reason."""
    contribution = _contribution(request, pk)
    holds.require_placeable(contribution)
    form = HoldForm(request.POST or None)
    if form.is_valid():
        holds.place(contribution, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, "The files are held back from deletion. The institution is told.")
        return redirect(contribution)
    context = {"contribution": contribution, "form": form, "due_at": deletion.due_at(contribution)}
    return render(request, "contributions/contribution_hold.html", context)


def release(request: SignedInRequest, pk: int, hold_pk: int) -> HttpResponse:
    """Release the files from a hold, after a look at what becomes of them then."""
    contribution = _contribution(request, pk)
    hold = get_object_or_404(contribution.holds, pk=hold_pk)
    holds.require_held(hold)
    form = ReleaseForm(request.POST or None)
    if form.is_valid():
        holds.release(hold, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, "The hold is released. The institution is told.")
        return redirect(contribution)
    due_at = deletion.due_at(contribution)
    context = {
        "contribution": contribution,
        "form": form,
        "hold": hold,
        "due_at": due_at,
        "is_due": due_at is not None and due_at <= timezone.now(),
    }
    return render(request, "contributions/contribution_release.html", context)


def of_page(request: SignedInRequest, contribution: Contribution) -> dict[str, Any]:
    """Return what holds the files back, what did before, and what the reader may do and read of it."""
    may_act, hold = holds.may_act(request.user, contribution), deletion.current_hold(contribution)
    may_read = holds.may_read(request.user, contribution)
    return {
        "hold": hold,
        "may_read_hold": may_read,
        "may_hold": may_act and holds.may_place(contribution),
        "may_release": may_act and hold is not None,
        "past_holds": contribution.holds.exclude(released_at=None) if may_read else [],
    }
