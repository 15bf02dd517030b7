"""The list of who did what: a steward names, each person confirms."""

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from contributions import credits
from contributions.credit_models import Contributor
from contributions.forms import ContributorForm, OwnLineForm
from contributions.lifecycle import CLOSED
from contributions.models import Contribution
from contributions.rules import is_steward, require_steward
from portal.accounts import orcid
from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError, tell
from portal.institutions import services as institutions


def _visible(request: SignedInRequest, pk: int) -> Contribution:
    rows = Contribution.objects.visible_to(request.user).select_related("institution")
    return get_object_or_404(rows, pk=pk)


def of_page(request: SignedInRequest, contribution: Contribution) -> dict[str, Any]:
    """Return who is named, with the iDs that they proved, and whom the reader may name."""
    rows = list(credits.shown(contribution, request.user))
    proved = orcid.orcids_of([row.person for row in rows])
    manages = is_steward(request.user, contribution)
    is_history = contribution.status in CLOSED
    may_name = manages and not is_history
    return {
        "contributors": [(row, *_orcid(proved.get(row.person_id, ""))) for row in rows],
        "own_line": credits.line_of(contribution, request.user),
        "credit_is_history": is_history,
        "contributor_form": ContributorForm(contribution=contribution) if may_name else None,
        "contributor_institution": institutions.acting_for(contribution.institution),
    }


def _orcid(proved: str) -> tuple[str, str]:
    """Return an iD and its address; both empty where none is proved."""
    return proved, orcid.url_of(proved) if proved else ""


@require_POST
def add(request: SignedInRequest, pk: int) -> HttpResponse:
    """Name a person of the institution."""
    contribution = _visible(request, pk)
    require_steward(request.user, contribution.institution)
    form = ContributorForm(request.POST, contribution=contribution)
    if not form.is_valid():
        messages.error(request, "Choose somebody of your institution who is not on the list yet.")
        return redirect(contribution)
    try:
        row = credits.add(contribution, form.cleaned_data["person"], by=request.user, now=timezone.now())
        messages.success(request, f"{row.person} is named and asked to confirm.")
    except DomainError as error:
        tell(request, error)
    return redirect(contribution)


def _lines() -> QuerySet[Contributor]:
    return Contributor.objects.select_related("person", "contribution__institution__merged_into")


def _page(request: SignedInRequest, contribution: Contribution) -> str:
    """Return the contribution's address, or nothing for a person who left its institution and sees only the line."""
    may_see = Contribution.objects.visible_to(request.user).filter(pk=contribution.pk).exists()
    return contribution.get_absolute_url() if may_see else ""


@require_POST
def remove(request: SignedInRequest, pk: int, contributor_pk: int) -> HttpResponse:
    """Take a name off the list: one's own, or as a steward."""
    row = _lines().filter(contribution=pk, pk=contributor_pk).first()
    if row is None:
        contribution = _visible(request, pk)
        require_steward(request.user, contribution.institution)
        messages.info(request, "That name is not on the list: it may have been taken off a moment ago.")
        return redirect(contribution)
    if row.person_id != request.user.pk:
        require_steward(request.user, _visible(request, pk).institution)
    try:
        credits.remove(row, by=request.user)
        messages.success(request, f"{row.person} is not on the list any more.")
    except DomainError as error:
        tell(request, error)
    return redirect(_page(request, row.contribution) or "home")


def own_line(request: SignedInRequest, pk: int) -> HttpResponse:
    """Confirm one's own line, with one's roles. It is reached by being its person, not through the contribution."""
    row = get_object_or_404(_lines(), contribution=pk, person=request.user)
    contribution = row.contribution
    page = _page(request, contribution)
    form = OwnLineForm(request.POST if request.method == "POST" else None, initial={"roles": row.roles})
    if form.is_valid() and _confirmed(request, row, form):
        return redirect(page or request.path)
    proved = orcid.orcid_of(request.user)
    context = {
        "contribution": contribution,
        "contributor": row,
        "page": page,
        "is_history": contribution.status in CLOSED,
        "form": form,
        "orcid": proved,
        "orcid_url": orcid.url_of(proved) if proved else "",
    }
    return render(request, "contributions/own_line.html", context, status=422 if form.errors else 200)


def _confirmed(request: SignedInRequest, row: Contributor, form: OwnLineForm) -> bool:
    try:
        credits.confirm(row, roles=form.cleaned_data["roles"], by=request.user, now=timezone.now())
    except DomainError as error:
        form.add_error(None, str(error))
        return False
    messages.success(request, "Your line is confirmed. You can change it here later.")
    return True
