"""The public register: decisions with their arithmetic, opinions, declared interests; not how members voted."""

from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_POST

from contributions import embargo
from contributions.models import Contribution
from governance.board import services
from governance.board.forms import NoteForm
from governance.board.lifecycle import DECIDED, Status
from governance.board.models import Decision, Interest, Kind, Motion
from portal import spreadsheet
from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.programmes.models import Programme

PAGE_SIZE = 50
COLUMNS = [
    "number", "decided_at", "kind", "title", "programme", "outcome", "votes_for", "votes_against", "abstentions",
    "eligible", "recused", "quorum", "threshold", "per_institution",
]  # fmt: skip
# What the public reads instead of the title where an applicant was not taken, or a person not given a seat.
WITHHELD = {
    Kind.ADMIT_INSTITUTION: _("An application"),
    Kind.APPROVE_CONTRIBUTION: _("A contribution"),
    Kind.GIVE_SEAT: _("A seat on the board"),
}


def title_for(motion: Motion, *, insider: bool) -> str:
    """
    Return what a motion is called in the register; only what was carried names who asked, outside the board.

    Whose contribution it was is not told either where the institution asked that releases do not name it: they say of
    which contributions a model learnt, so the two together would.
    """
    if not insider and motion.kind in WITHHELD and (motion.status != Status.CARRIED or _is_unnamed(motion)):
        return str(WITHHELD[Kind(motion.kind)])
    return f"{motion.title}: {motion.person}" if motion.person else motion.title


def _is_unnamed(motion: Motion) -> bool:
    institution = motion.institution if motion.kind == Kind.APPROVE_CONTRIBUTION else None
    return institution is not None and not institution.is_named


def _insiders(request: HttpRequest) -> QuerySet[Motion]:
    """Return the motions that the reader sees in full."""
    user = request.user
    return Motion.objects.visible_to(user) if isinstance(user, User) else Motion.objects.none()


def _chosen(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET.get(name, "") for name in ("kind", "programme", "outcome", "year")}


def _decisions(chosen: dict[str, str]) -> QuerySet[Decision]:
    """Return the decisions that match; unknown words narrow nothing."""
    related = ("motion__programme", "motion__person", "motion__institution__merged_into")
    rows = Decision.objects.select_related(*related).order_by("-pk")
    if chosen["kind"] in Kind.values:
        rows = rows.filter(motion__kind=chosen["kind"])
    if chosen["outcome"] in {status.value for status in DECIDED}:
        rows = rows.filter(motion__status=chosen["outcome"])
    if chosen["year"].isdecimal() and len(chosen["year"]) == 4:
        rows = rows.filter(year=int(chosen["year"]))
    return rows.filter(motion__programme__slug=chosen["programme"]) if chosen["programme"] else rows


def _titled(rows: list[Decision], request: HttpRequest) -> list[tuple[str, Decision]]:
    """Return each decision with what the reader may know as its title."""
    insider = set(_insiders(request).filter(pk__in=[row.motion_id for row in rows]).values_list("pk", flat=True))
    return [(title_for(row.motion, insider=row.motion_id in insider), row) for row in rows]


@login_not_required
@require_GET
def list_(request: HttpRequest) -> HttpResponse:
    """List what the board decided, newest first, by keyset."""
    chosen, before = _chosen(request), request.GET.get("before", "")
    rows = _decisions(chosen)
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    page = list(rows[: PAGE_SIZE + 1])
    context = {
        "decisions": _titled(page[:PAGE_SIZE], request),
        "more": page[PAGE_SIZE - 1].pk if len(page) > PAGE_SIZE else None,
        "query": urlencode({name: value for name, value in chosen.items() if value}),
        "chosen": chosen,
        "is_narrowed": any(chosen.values()),
        "kinds": Kind.choices,
        "outcomes": [(status.value, status.label) for status in DECIDED],
        "programmes": Programme.objects.order_by("name"),
        "years": Decision.objects.order_by("-year").values_list("year", flat=True).distinct(),
    }
    return render(request, "board/decision_list.html", context)


@login_not_required
@require_GET
def csv_(request: HttpRequest) -> HttpResponseBase:
    """Send the register as a table."""
    return spreadsheet.answer("decisions", COLUMNS, _cells(request))


def _cells(request: HttpRequest) -> Iterator[list[Any]]:
    for title, row in _titled(list(_decisions(_chosen(request))), request):
        counted = row.motion.arithmetic or {}
        told = [counted.get(name) for name in COLUMNS[6:]]
        yield [str(row), row.decided_at, row.motion.kind, title, row.motion.programme, row.motion.status, *told]


def _decision(year: int, number: int) -> Decision:
    related = ("motion__programme", "motion__person", "motion__institution__merged_into", "motion__contribution")
    rows = Decision.objects.select_related(*related)
    return get_object_or_404(rows, year=year, number=number)


@login_not_required
@require_GET
def show(request: HttpRequest, year: int, number: int) -> HttpResponse:
    """Show one decision: the rule, the arithmetic, the opinions of who was outvoted."""
    return _page(request, _decision(year, number), NoteForm())


def _reads(request: HttpRequest, contribution: Contribution) -> bool:
    """Test if the reader sees what the contribution is, also under embargo: its institution's people do."""
    user = request.user
    return isinstance(user, User) and Contribution.objects.visible_to(user).filter(pk=contribution.pk).exists()


def _page(request: HttpRequest, decision: Decision, form: NoteForm, status: int = 200) -> HttpResponse:
    motion, now = decision.motion, timezone.now()
    is_insider = _insiders(request).filter(pk=motion.pk).exists()
    user, contribution = request.user, motion.contribution
    kept_until = None if contribution is None or _reads(request, contribution) else embargo.until(contribution, now=now)
    context = {
        "decision": decision,
        "motion": motion,
        "title": title_for(motion, insider=is_insider),
        "is_insider": is_insider,
        "tally": services.arithmetic(motion, now=now),
        "recusals": motion.recusals.values("basis").annotate(n=Count("pk")).order_by("basis"),
        "bases": dict(motion.recusals.model.Basis.choices),
        "kept_until": kept_until,
        "opinions": decision.opinions.none() if kept_until else decision.opinions.select_related("author"),
        "may_dissent": isinstance(user, User) and services.may_dissent(user, decision, now=now),
        "form": form,
    }
    return render(request, "board/decision.html", context, status=status)


@require_POST
def opinion(request: SignedInRequest, year: int, number: int) -> HttpResponse:
    """File a minority opinion."""
    decision = _decision(year, number)
    form = NoteForm(request.POST)
    if services.may_dissent(request.user, decision, now=timezone.now()) and not form.is_valid():
        return _page(request, decision, form, 422)
    services.dissent(decision, text=request.POST.get("text", ""), by=request.user, now=timezone.now())
    messages.success(request, "Your opinion is published beside the decision.")
    return redirect(decision)


@login_not_required
@require_GET
def interests(request: HttpRequest) -> HttpResponse:
    """Show the declared interests of the members of the boards."""
    rows = Interest.objects.select_related("member", "institution").filter(member__erased_at=None)
    return render(request, "board/interest_register.html", {"interests": rows.order_by("member__name", "-pk")})
