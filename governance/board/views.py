"""The board's docket, motions and decisions."""

from collections.abc import Iterable

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from contributions import cards as training_cards
from contributions.corpora.models import CorpusPart
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution
from contributions.reports import report_of
from governance.benchmarks import services as benchmarks
from governance.board import services
from governance.board.forms import ProposalForm, RecusalForm, VoteForm
from governance.board.lifecycle import Status
from governance.board.models import Motion, Vote
from governance.releases import cards
from governance.releases.models import Candidate
from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.audit import services as audit
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions.countries import countries
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution

SUBJECTS = ["institution", "contribution__programme", "release__candidate__programme"]


def _require_reader(request: SignedInRequest) -> None:
    if not (accounts.has_role(request.user, "operator", "auditor") or accounts.programmes_seated(request.user)):
        raise NotAllowed("The docket is for the board, operators and auditors.")


@require_GET
def docket(request: SignedInRequest) -> HttpResponse:
    """Show the open motions, oldest first, and which of them wait for this member's vote."""
    _require_reader(request)
    now, seats = timezone.now(), accounts.programmes_seated(request.user)
    motions = Motion.objects.visible_to(request.user).filter(status=Status.OPEN)
    rows = [
        {
            "motion": motion,
            "tally": services.count(motion, now=now),
            "days_open": (now - motion.opened_at).days,
            "my_vote": next((vote for vote in motion.votes.all() if vote.voter_id == request.user.pk), None),
            "recused": services.recused(motion).get(request.user.pk, ""),
            "seated": None in seats or motion.programme is not None and motion.programme.pk in seats,
        }
        for motion in motions.select_related(*SUBJECTS).prefetch_related("votes", "recusals")
    ]
    decided = Motion.objects.visible_to(request.user).exclude(status=Status.OPEN).order_by("-closed_at")[:5]
    waiting = [row for row in rows if row["seated"] and not row["my_vote"] and not row["recused"]]
    return render(
        request,
        "board/docket.html",
        {"rows": rows, "waiting": len(waiting), "seated": bool(seats), "decided": decided},
    )


@require_GET
def decisions(request: SignedInRequest) -> HttpResponse:
    """List what the board decided, newest first, 50 a page by keyset."""
    _require_reader(request)
    counts = {choice: Count("votes", filter=Q(votes__choice=choice)) for choice in Vote.Choice.values}
    closed = Motion.objects.visible_to(request.user).exclude(status=Status.OPEN)
    closed = closed.annotate(**{f"votes_{choice}": counted for choice, counted in counts.items()})
    before = request.GET.get("before", "")
    if before.isdecimal():
        closed = closed.filter(pk__lt=int(before))
    page = list(closed.order_by("-pk")[:51])
    return render(
        request, "board/decision_list.html", {"motions": page[:50], "more": page[49].pk if len(page) > 50 else None}
    )


def _motion(request: SignedInRequest, pk: int) -> Motion:
    rows = Motion.objects.visible_to(request.user).select_related(
        "institution",
        "contribution__institution",
        "contribution__base_model",
        "contribution__programme",
        "release__candidate__corpus",
        "release__candidate__programme",
        "release__license",
    )
    return get_object_or_404(rows, pk=pk)


def _recusal_form(data: QueryDict | None = None) -> RecusalForm:
    """Return the form with ids of its own: the ballot on the same page has a reason too."""
    return RecusalForm(data, auto_id="recusal_%s")


@require_GET
def motion(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show a motion with its evidence, its arithmetic and, for who may vote, the ballot."""
    return _render_motion(request, _motion(request, pk), VoteForm(), _recusal_form())


def _render_motion(
    request: SignedInRequest, motion: Motion, vote_form: VoteForm, recusal_form: RecusalForm, status: int = 200
) -> HttpResponse:
    """Answer the page of a motion. How others voted is shown when the ballot is closed; who has voted, always."""
    votes = list(motion.votes.select_related("voter", "voter_institution"))
    reasons = services.recused(motion)
    is_open = motion.status == Status.OPEN
    mine = next((vote for vote in votes if vote.voter_id == request.user.pk), None)
    context = {
        "motion": motion,
        "is_open": is_open,
        "tally": services.arithmetic(motion, now=timezone.now()),
        "votes": [] if is_open else votes,
        "my_vote": mine,
        "may_vote": is_open and mine is None and services.can_vote(request.user, motion),
        "recused_because": reasons.get(request.user.pk, ""),
        "recusals": [
            (member, reasons[member.pk]) for member in services.board(motion.programme) if member.pk in reasons
        ],
        "vote_form": vote_form,
        "recusal_form": recusal_form,
        "timeline": _history(motion),
        **_evidence(motion),
    }
    return render(request, "board/motion.html", context, status=status)


def _history(motion: Motion) -> list[AuditEvent]:
    """Return what happened to the motion, newest first; on its own page its number is name enough."""
    events = list(audit.of(motion))
    for event in events:
        event.subject = f"M-{motion.pk}"
    return audit.with_sentences(events)


def _evidence(motion: Motion) -> dict[str, object]:
    """Return what the board looks at: an applicant's facts, a contribution's checks, a release's evaluations."""
    match motion.kind:
        case Motion.Kind.ADMIT_INSTITUTION:
            return _of_applicant(motion.institution)  # type: ignore[arg-type]  # a database constraint
        case Motion.Kind.APPROVE_CONTRIBUTION:
            return _of_contribution(motion.contribution)  # type: ignore[arg-type]
        case _:
            return _of_candidate(motion.release.candidate)  # type: ignore[union-attr]


def _of_applicant(institution: Institution) -> dict[str, object]:
    same = Institution.objects.filter(status=InstitutionStatus.MEMBER, subregion=institution.subregion)
    return {
        "place": countries().get(institution.country),
        "from_region": same.exclude(pk=institution.pk).count(),
        "people": institution.memberships.current().select_related("user"),
    }


def _of_contribution(contribution: Contribution) -> dict[str, object]:
    same = Contribution.objects.filter(
        status=ContributionStatus.APPROVED, institution__subregion=contribution.institution.subregion
    )
    return {
        "place": countries().get(contribution.institution.country),
        "from_region": same.exclude(pk=contribution.pk).count(),
        "report": report_of(contribution),
        "card": training_cards.read_back(contribution.training_card),
        "files": contribution.files.all(),
    }


def _of_candidate(candidate: Candidate) -> dict[str, object]:
    evaluations = benchmarks.latest(candidate)
    return {
        "evaluations": evaluations,
        "cells": [row.cell for row in evaluations if row.auroc is not None],
        "parts": _parts(candidate),
    }


def _parts(candidate: Candidate) -> Iterable[CorpusPart]:
    return candidate.corpus.parts.select_related("dataset", "contribution__institution") if candidate.corpus else []


@require_POST
def vote(request: SignedInRequest, pk: int) -> HttpResponse:
    """Cast a vote."""
    motion = _motion(request, pk)
    form = VoteForm(request.POST)
    if not form.is_valid():
        return _render_motion(request, motion, form, _recusal_form(), status=422)
    services.cast_vote(motion, **form.cleaned_data, by=request.user, now=timezone.now())
    messages.success(request, "Your vote is on record.")
    return redirect(motion)


@require_POST
def recuse(request: SignedInRequest, pk: int) -> HttpResponse:
    """Step aside from a motion."""
    motion = _motion(request, pk)
    form = _recusal_form(request.POST)
    if not form.is_valid():
        return _render_motion(request, motion, VoteForm(), form, status=422)
    services.recuse(motion, **form.cleaned_data, by=request.user, now=timezone.now())
    messages.success(request, "You have stepped aside from this motion.")
    return redirect(motion)


def propose(request: SignedInRequest, slug: str) -> HttpResponse:
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
    context = {"candidate": candidate, "form": form, **_of_candidate(candidate)}
    return render(request, "board/release_propose.html", context, status=422 if form.errors else 200)
