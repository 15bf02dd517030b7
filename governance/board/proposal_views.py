"""Putting a question before the board that does not come by itself."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from governance.board import opening, proposal_forms
from governance.board.models import Kind, Motion
from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError, NotAllowed

# kind: (its form, the service that asks the board)
PROPOSALS: dict[str, tuple[type[proposal_forms.Proposal], Callable[..., Motion]]] = {
    Kind.RETRACT_RELEASE: (proposal_forms.RetractionForm, opening.propose_retraction),
    Kind.SETTLE_WITHDRAWAL: (proposal_forms.SettlementForm, opening.propose_settlement),
    Kind.PUBLISH_AGREEMENT: (proposal_forms.VersionForm, opening.propose_version),
    Kind.ADOPT_TASK: (proposal_forms.TaskForm, opening.propose_task),
    Kind.GIVE_SEAT: (proposal_forms.SeatForm, opening.propose_seat),
}
EXPLAINED = {
    Kind.RETRACT_RELEASE: "Downloads stop and its page becomes a tombstone; who accepted its licence is told.",
    Kind.SETTLE_WITHDRAWAL: "Models learnt from what was taken back, or removed after an incident: what follows?",
    Kind.PUBLISH_AGREEMENT: "A new text; with a material change, those who signed before must sign again.",
    Kind.ADOPT_TASK: "A registered disease question becomes part of the benchmark.",
    Kind.GIVE_SEAT: "For a term; a new chair takes over from the one before.",
}


def _require_proposer(user: User) -> None:
    if not (opening.may_propose(user, None) or opening.proposable_programmes(user)):
        raise NotAllowed("Only members of the board and operators propose a motion.")


@require_GET
def choose(request: SignedInRequest) -> HttpResponse:
    """Choose what to propose."""
    _require_proposer(request.user)
    kinds = [(kind.value, kind.label, EXPLAINED[kind]) for kind in Kind if kind in PROPOSALS]
    return render(request, "board/proposal_choose.html", {"kinds": kinds})


def propose(request: SignedInRequest, kind: str) -> HttpResponse:
    """Propose a motion of a kind."""
    _require_proposer(request.user)
    if kind not in PROPOSALS:
        raise Http404
    form_class, service = PROPOSALS[kind]
    form = form_class(request.POST or None, initial=request.GET.dict())
    if form.is_valid() and (motion := _asked(service, form, by=request.user)) is not None:
        messages.success(request, "The motion is before the board.")
        return redirect(motion)
    context: dict[str, Any] = {"form": form, "kind": Kind(kind), "explained": EXPLAINED[Kind(kind)]}
    return render(request, "board/proposal.html", context, status=422 if form.errors else 200)


def _asked(service: Callable[..., Motion], form: proposal_forms.Proposal, *, by: User) -> Motion | None:
    """Return the motion; what the rules refuse becomes an error of the form."""
    subject, given = form.asked()
    try:
        return service(subject, **given, by=by, now=timezone.now())
    except NotAllowed:
        raise
    except DomainError as error:
        form.add_error(None, str(error))
        return None
