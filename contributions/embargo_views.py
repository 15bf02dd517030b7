"""Pages of an embargo: make it earlier, or lift it."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from contributions import embargo
from contributions.forms import EmbargoForm
from contributions.lifecycle import CLOSED
from contributions.models import Contribution
from contributions.rules import is_steward, require_steward
from portal.accounts.requests import SignedInRequest
from portal.errors import note


def change(request: SignedInRequest, pk: int) -> HttpResponse:
    """Make an embargo earlier or lift it, after a look at what that means."""
    rows = Contribution.objects.visible_to(request.user).select_related("institution", "programme")
    contribution = get_object_or_404(rows, pk=pk)
    require_steward(request.user, contribution.institution)
    embargo.require_changeable(contribution, now=timezone.now())
    form = EmbargoForm(request.POST or None)
    if form.is_valid():
        try:
            changed = embargo.change(contribution, day=form.chosen(), by=request.user, now=timezone.now())
        except embargo.EmbargoRefused as exc:
            note(request, exc)
            form.add_error("day", str(exc))
        else:
            word = "ends earlier" if changed.embargo_until else "is lifted"
            messages.success(request, f"The embargo {word}.")
            return redirect(contribution)
    context = {"contribution": contribution, "form": form}
    return render(request, "contributions/contribution_embargo.html", context, status=422 if form.errors else 200)


def of_page(request: SignedInRequest, contribution: Contribution) -> dict[str, Any]:
    """Return until when nothing uses it, where something might, and whether the reader may change that."""
    now = timezone.now()
    may_change = embargo.may_change(contribution, now=now) and is_steward(request.user, contribution)
    return {
        "kept_until": None if contribution.status in CLOSED else embargo.until(contribution, now=now),
        "may_change_embargo": may_change,
    }
