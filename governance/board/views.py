"""The board's docket, motions and decisions."""

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from contributions.lifecycle import Status as ContributionStatus
from governance.benchmarks import services as benchmarks
from governance.board import services
from governance.board.forms import ProposalForm, RecusalForm, VoteForm
from governance.board.lifecycle import Status
from governance.board.models import Motion
from governance.releases import cards
from governance.releases.models import Candidate
from portal.accounts import services as accounts
from portal.audit import services as audit
from portal.errors import NotAllowed


def _require_reader(request: HttpRequest) -> None:
    if not accounts.has_role(request.user, "board_member", "chair", "operator", "auditor"):
        raise NotAllowed("The docket is for the board, operators and auditors.")


@require_GET
def docket(request: HttpRequest) -> HttpResponse:
    """Show the open motions, oldest first, and which of them wait for this member's vote."""
    _require_reader(request)
    now = timezone.now()
    motions = Motion.objects.visible_to(request.user).filter(status=Status.OPEN)
    rows = [
        {
            "motion": motion,
            "tally": services.count(motion, now=now),
            "days_open": (now - motion.opened_at).days,
            "my_vote": next((vote for vote in motion.votes.all() if vote.voter_id == request.user.pk), None),
            "recused": services.recused(motion).get(request.user.pk, ""),
        }
        for motion in motions.select_related("institution", "contribution", "release").prefetch_related(
            "votes", "recusals"
        )
    ]
    decided = Motion.objects.visible_to(request.user).exclude(status=Status.OPEN).order_by("-closed_at")[:5]
    seated = services.board().filter(pk=request.user.pk).exists()
    waiting = [row for row in rows if seated and not row["my_vote"] and not row["recused"]]
    return render(
        request,
        "board/docket.html",
        {"rows": rows, "waiting": len(waiting), "seated": seated, "decided": decided, "now": now},
    )


@require_GET
def decisions(request: HttpRequest) -> HttpResponse:
    """List what the board decided, newest first, 50 a page by keyset."""
    _require_reader(request)
    closed = Motion.objects.visible_to(request.user).exclude(status=Status.OPEN).prefetch_related("votes")
    before = request.GET.get("before", "")
    if before.isdecimal():
        closed = closed.filter(pk__lt=int(before))
    page = list(closed.order_by("-pk")[:51])
    return render(
        request, "board/decision_list.html", {"motions": page[:50], "more": page[49].pk if len(page) > 50 else None}
    )


def _motion(request: HttpRequest, pk: int) -> Motion:
    rows = Motion.objects.visible_to(request.user).select_related(
        "institution", "contribution__institution", "contribution__base_model", "release__candidate", "release__license"
    )
    return get_object_or_404(rows, pk=pk)


@require_GET
def motion(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a motion with its evidence, its arithmetic and, for who may vote, the ballot."""
    return _render_motion(request, _motion(request, pk), VoteForm(), RecusalForm())


def _render_motion(
    request: HttpRequest, motion: Motion, vote_form: VoteForm, recusal_form: RecusalForm, status: int = 200
) -> HttpResponse:
    votes = list(motion.votes.select_related("voter", "voter_institution"))
    reasons = services.recused(motion)
    open_now = motion.status == Status.OPEN
    mine = next((vote for vote in votes if vote.voter_id == request.user.pk), None)
    context = {
        "motion": motion,
        "tally": services.count(motion, now=timezone.now()),
        "votes": votes,
        "my_vote": mine,
        "may_vote": open_now and mine is None and services.can_vote(request.user, motion),
        "recused_because": reasons.get(request.user.pk, ""),
        "recusals": [(member, reasons[member.pk]) for member in services.board() if member.pk in reasons],
        "vote_form": vote_form,
        "recusal_form": recusal_form,
        "timeline": audit.of(motion),
        **_evidence(motion),
    }
    return render(request, "board/motion.html", context, status=status)


def _evidence(motion: Motion) -> dict[str, object]:
    """Return what the board looks at: checks and samples of a contribution, evaluations of a release."""
    if motion.contribution is not None:
        attempt = motion.contribution.check_results.order_by("-run_id", "-attempt").first()
        shown = Q(run_id=attempt.run_id, attempt=attempt.attempt) if attempt else Q(pk=None)
        return {
            "checks": motion.contribution.check_results.filter(shown),
            "samples": motion.contribution.evidence_files.filter(shown),
            "approved_from_region": _approved_from_region(motion),
        }
    if motion.release is not None:
        return {"evaluations": benchmarks.latest(motion.release.candidate)}
    return {}


def _approved_from_region(motion: Motion) -> int:
    """Return how many approved contributions the sub-region of this one has: what it adds to the map."""
    assert motion.institution is not None
    same = motion.institution.contributions.model.objects.filter(
        status=ContributionStatus.APPROVED, institution__subregion=motion.institution.subregion
    )
    return same.exclude(pk=motion.contribution_id).count()


@require_POST
def vote(request: HttpRequest, pk: int) -> HttpResponse:
    """Cast a vote."""
    motion = _motion(request, pk)
    form = VoteForm(request.POST)
    if not form.is_valid():
        return _render_motion(request, motion, form, RecusalForm(), status=422)
    services.cast_vote(motion, **form.cleaned_data, by=request.user, now=timezone.now())
    messages.success(request, "Your vote is on record.")
    return redirect(motion)


@require_POST
def recuse(request: HttpRequest, pk: int) -> HttpResponse:
    """Step aside from a motion."""
    motion = _motion(request, pk)
    form = RecusalForm(request.POST)
    if not form.is_valid():
        return _render_motion(request, motion, VoteForm(), form, status=422)
    services.recuse(motion, **form.cleaned_data, by=request.user, now=timezone.now())
    messages.success(request, "You have stepped aside from this motion.")
    return redirect(motion)


def propose(request: HttpRequest, slug: str) -> HttpResponse:
    """Propose the release of a candidate to the board."""
    if not accounts.has_role(request.user, "operator", "chair"):
        raise NotAllowed("Only an operator or the chair proposes a release.")
    candidate = get_object_or_404(Candidate, slug=slug, kind=Candidate.Kind.TRAINED, release__isnull=True)
    initial = {"name": candidate.name, "version": "1.0", "card": cards.draft(candidate, benchmarks.latest(candidate))}
    form = ProposalForm(request.POST or None, initial=initial)
    if form.is_valid():
        release = services.propose_release(candidate, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, f"{release} is before the board.")
        return redirect("board:docket")
    return render(request, "board/release_propose.html", {"candidate": candidate, "form": form})
