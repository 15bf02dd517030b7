"""The docket, and putting a release before the board."""

from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from contributions.uses import TermsExclude
from governance.benchmarks import services as benchmarks
from governance.board import docket as dockets
from governance.board import evidence, services
from governance.board.forms import ProposalForm
from governance.board.models import Decision, Kind, Review
from governance.releases import cards
from governance.releases.models import Candidate
from governance.releases.services import AlreadyProposed
from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.errors import NotAllowed
from portal.programmes.models import Programme

DECIDED = 5  # on the docket


def _require_reader(request: SignedInRequest) -> None:
    if not (accounts.has_role(request.user, "operator", "auditor") or accounts.programmes_seated(request.user)):
        raise NotAllowed("The docket is for the board, operators and auditors.")


@require_GET
def docket(request: SignedInRequest) -> HttpResponse:
    """Show the undecided motions, oldest first, 50 a page, and which of them wait for this member."""
    _require_reader(request)
    now = timezone.now()
    chosen = {name: request.GET.get(name, "") for name in ("state", "kind", "programme")}
    rows = dockets.filtered(request.user, **chosen)
    page = dockets.page(dockets.after(rows, request.GET.get("after", "")), request.user, now=now)
    decided = Decision.objects.filter(motion__in=rows.model.objects.visible_to(request.user))
    context = {
        "rows": page,
        "more": page[-1].motion.pk if len(page) == dockets.PAGE_SIZE else None,
        "query": urlencode({name: value for name, value in chosen.items() if value}),
        "chosen": chosen,
        "is_narrowed": any(chosen.values()),
        "states": dockets.STATES.items(),
        "kinds": Kind.choices,
        "programmes": Programme.objects.order_by("name"),
        "waiting": dockets.waiting_for(request.user).count(),
        "seated": bool(accounts.programmes_seated(request.user)),
        "late_reviews": Review.objects.waiting().filter(due_on__lt=now.date(), motion__in=rows).count(),
        "decided": decided.select_related("motion", "motion__person")[:DECIDED],
    }
    return render(request, "board/docket.html", context)


def propose(request: SignedInRequest, slug: str) -> HttpResponse:
    """Propose the release of a candidate to the board."""
    if not accounts.has_role(request.user, "operator", "chair"):
        raise NotAllowed("Only an operator or the chair proposes a release.")
    candidate = get_object_or_404(Candidate.objects.prefetch_related("releases"), slug=slug)
    if not candidate.may_be_proposed:
        raise Http404
    initial = {
        "name": candidate.name,
        "version": f"1.{candidate.releases.count()}",  # an address is taken for ever, also by what was declined
        "card": cards.draft(candidate, benchmarks.latest(candidate)),
    }
    form = ProposalForm(request.POST or None, initial=initial)
    if form.is_valid():
        try:
            release = services.propose_release(candidate, **form.cleaned_data, by=request.user, now=timezone.now())
        except TermsExclude as error:  # beside the licence, with the card that was typed
            form.add_error("license", str(error))
        except AlreadyProposed as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{release} is before the board.")
            return redirect("board:docket")
    context = {"candidate": candidate, "form": form, **evidence.of_candidate(candidate)}
    return render(request, "board/release_propose.html", context, status=422 if form.errors else 200)
