"""The page of a motion: the question about interests, evidence, review, ballot, discussion, the secretary's tools."""

from http import HTTPStatus
from typing import Any, TypeVar

from django.contrib import messages
from django.forms import Form
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from governance.board import evidence, presence, resting, reviews, services
from governance.board.forms import (
    CommentForm,
    DeclarationForm,
    NoteForm,
    RecusalForm,
    ReviewForm,
    TieForm,
    VoteForm,
)
from governance.board.lifecycle import Status
from governance.board.models import Comment, Motion, Review
from governance.releases import answers
from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.audit import services as audit
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.notifications import calendar

RELATED = [
    "programme",
    "institution",
    "contribution__institution",
    "contribution__base_model",
    "contribution__programme",
    "release__candidate__corpus",
    "release__candidate__programme",
    "release__license",
    "agreement__programme",
    "task__dataset",
    "person",
    "decision",
    "casting_vote__chair",
]
AnyForm = TypeVar("AnyForm", bound=Form)


def _motion(request: SignedInRequest, pk: int) -> Motion:
    return get_object_or_404(Motion.objects.visible_to(request.user).select_related(*RELATED), pk=pk)


def _owes_declaration(user: User, motion: Motion) -> bool:
    """Test if the case stays shut until this member has answered. A decided motion is open to the whole board."""
    if motion.closed_at is not None or not services.can_vote(user, motion):
        return False
    return not services.has_declared(user, motion)


@require_GET
def show(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show a motion with its evidence, its arithmetic and, for who may vote, the ballot."""
    return _page(request, _motion(request, pk))


def declare(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask, before the case opens, whether there is an interest in its outcome."""
    motion = _motion(request, pk)
    if not _owes_declaration(request.user, motion):
        if request.method == "POST":
            services.require_voter(motion, request.user)
        return redirect(motion)
    form = DeclarationForm(request.POST or None)
    if form.is_valid():
        _answer(motion, form, by=request.user)
        return redirect(motion)
    hits = services.hits_for(request.user, motion)
    context = {"motion": motion, "form": form, "hits": hits}
    return render(request, "board/declare.html", context, status=422 if form.errors else 200)


def _answer(motion: Motion, form: DeclarationForm, *, by: User) -> None:
    answer, note = form.cleaned_data["answer"], form.cleaned_data["note"]
    if answer == DeclarationForm.RECUSE:
        services.recuse(motion, reason=note, by=by, now=timezone.now())
    else:
        services.declare(motion, answer=answer, note=note, by=by, now=timezone.now())


# The page


def _own(prefix: str, form: type[AnyForm], data: QueryDict | None = None, **kwargs: Any) -> AnyForm:
    """Return a form with ids of its own: several on the page have a reason."""
    return form(data, auto_id=f"{prefix}_%s", **kwargs)


def _page(request: SignedInRequest, motion: Motion, status: int = 200, **filled: Form) -> HttpResponse:
    """
    Answer the page; who has not declared yet is asked first, whatever was sent.

    How others voted is shown when the ballot is closed; who has voted, always.
    """
    if _owes_declaration(request.user, motion):
        return redirect("board:declare", motion.pk)
    now = timezone.now()
    if motion.closed_at is None:
        presence.arrive(motion, request.user)
    user, reasons, state = request.user, services.recused(motion), _state(request, motion)
    context = {
        "motion": motion,
        "is_recused": user.pk in reasons,
        "recused_because": reasons.get(user.pk, ""),
        "is_secretary": services.is_secretary(user, motion),
        "timeline": _history(motion),
        **state,
        **_forms(request, motion, rests=bool(state["waits_for"])),
        **_said(motion, user),
        **evidence.of(motion, now=now),
        **filled,
    }
    return render(request, "board/motion.html", context, status=status)


def _state(request: SignedInRequest, motion: Motion) -> dict[str, Any]:
    """Return what changes while the page is open."""
    now = timezone.now()
    recusals = motion.recusals.select_related("member")
    asked = answers.lines(motion.release) if motion.release and motion.kind == Motion.Kind.RELEASE_MODEL else []
    return {
        "motion": motion,
        "is_undecided": motion.closed_at is None,
        "tally": services.arithmetic(motion, now=now),
        "seats": services.electorate(motion).count(),
        "recusals": recusals,
        "reviews": motion.reviews.current().select_related("reviewer"),
        "missing_reviewers": reviews.missing(motion) if motion.status == Status.REVIEWING else 0,
        "present": presence.present(motion) if motion.closed_at is None else [],
        "chair_until": services.chair_until(motion) if motion.status == Status.TIED else None,
        "site_answers": asked,
        "site_counts": answers.count(asked),
        "waits_for": list(resting.isolated(motion)) if motion.closed_at is None else [],
        "may_see_votes": not recusals.filter(member=request.user).exists(),
    }


def _forms(request: SignedInRequest, motion: Motion, *, rests: bool) -> dict[str, Any]:
    """Return the forms that the person may fill in now."""
    user = request.user
    votes_here = services.can_vote(user, motion)
    goes_on = votes_here and not rests
    mine = motion.votes.filter(voter=user).order_by("-number")
    review = motion.reviews.waiting().filter(reviewer=user).first() if goes_on else None
    is_chair = motion.status == Status.TIED and services.chairs(motion).filter(pk=user.pk).exists()
    return {
        "my_vote": mine.first(),
        "my_older_votes": mine[1:],
        "may_vote": motion.status == Status.OPEN and goes_on,
        "may_step_aside": motion.status in {Status.REVIEWING, Status.OPEN} and votes_here,
        "my_review": review,
        "may_decide_tie": is_chair and goes_on,
        "may_assign": motion.status == Status.REVIEWING and services.is_secretary(user, motion),
        "may_return": not rests and _may_return(user, motion),
        "may_take_back": services.may_take_back(user, motion),
        "may_put_again": services.is_secretary(user, motion) and services.may_put_again(motion),
        "vote_form": _own("vote", VoteForm, request=request, motion=motion),
        "tie_form": _own("tie", TieForm, request=request),
        "recusal_form": _own("recusal", RecusalForm),
        "review_form": _own("review", ReviewForm),
        "comment_form": _own("comment", CommentForm, initial={"audience": "board"}),
        "candidates": reviews.candidates(motion) if motion.status == Status.REVIEWING else [],
    }


def _may_return(user: User, motion: Motion) -> bool:
    if motion.kind != Motion.Kind.APPROVE_CONTRIBUTION or motion.status not in {Status.REVIEWING, Status.OPEN}:
        return False
    return services.is_secretary(user, motion) and not motion.votes.exists()


def _said(motion: Motion, user: User) -> dict[str, Any]:
    """Return ballots (of a closed motion), declarations and notes, for those who are not recused."""
    if motion.recusals.filter(member=user).exists():
        return {"votes": [], "notes": [], "is_shut": True}
    is_open = motion.status in {Status.REVIEWING, Status.OPEN}
    notes = motion.comments.select_related("author")
    return {
        "votes": [] if is_open else services.last_votes(motion),
        "declarations": motion.declarations.filter(answer="stay").select_related("member"),
        "notes": [row for row in notes if row.audience == Comment.Audience.BOARD],
        "applicant_notes": [row for row in notes if row.audience == Comment.Audience.APPLICANT],
        "conditions": motion.conditions.all(),
        "questions": reviews.QUESTIONS,
    }


def _history(motion: Motion) -> list[AuditEvent]:
    """Return what happened to the motion, newest first; on its own page its number is name enough."""
    events = list(audit.of(motion))
    for event in events:
        event.subject = f"M-{motion.pk}"
    return audit.with_sentences(events)


@require_GET
def live(request: SignedInRequest, pk: int) -> HttpResponse:
    """Answer the part of the page that changes while it is open, and note who has it open."""
    motion = _motion(request, pk)
    if _owes_declaration(request.user, motion):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)  # the case is shut; a page that is open has an answer
    if motion.closed_at is None:
        presence.arrive(motion, request.user)
    return render(request, "board/_state.html", _state(request, motion))


@require_GET
def ballot_ics(request: SignedInRequest, pk: int) -> HttpResponse:
    """Answer the end of the ballot as a calendar file."""
    motion = _motion(request, pk)
    if motion.closes_at is None:
        raise services.NotPossibleNow(
            "The ballot is not open yet, so it has no end.", next_url=motion.get_absolute_url()
        )
    return HttpResponse(
        calendar.file(
            uid=f"ballot-{motion.pk}",
            at=motion.closes_at,
            stamp=motion.opened_at,
            summary=f"Ballot closes: {motion}",
            text="The ballot on this motion closes.",
            path=motion.get_absolute_url(),
            before=[services.REMIND_BEFORE[0], services.REMIND_BEFORE[1]],
        ),
        content_type="text/calendar; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="ballot-{motion.pk}.ics"'},
    )


# What members do


@require_POST
def vote(request: SignedInRequest, pk: int) -> HttpResponse:
    """Cast a ballot, or a changed one."""
    motion = _motion(request, pk)
    services.require_voter(motion, request.user)
    services.require_declared(motion, request.user)
    form = _own("vote", VoteForm, request.POST, request=request, motion=motion)
    if not form.is_valid():
        return _page(request, motion, 422, vote_form=form)
    services.cast_vote(motion, **form.said(), by=request.user, now=timezone.now())
    messages.success(request, "Your vote is on record. You can change it until the ballot closes.")
    return redirect(motion)


@require_POST
def decide_tie(request: SignedInRequest, pk: int) -> HttpResponse:
    """Decide a tie."""
    motion = _motion(request, pk)
    if not services.chairs(motion).filter(pk=request.user.pk).exists():
        raise NotAllowed("A tie is decided by the chair.")
    form = _own("tie", TieForm, request.POST, request=request)
    if not form.is_valid():
        return _page(request, motion, 422, tie_form=form)
    choice, reason = form.cleaned_data["choice"], form.cleaned_data["reason"]
    services.decide_tie(motion, choice=choice, reason=reason, by=request.user, now=timezone.now())
    messages.success(request, "The tie is decided.")
    return redirect(motion)


@require_POST
def recuse(request: SignedInRequest, pk: int) -> HttpResponse:
    """Step aside from a motion."""
    motion = _motion(request, pk)
    services.require_voter(motion, request.user)
    form = _own("recusal", RecusalForm, request.POST)
    if not form.is_valid():
        return _page(request, motion, 422, recusal_form=form)
    services.recuse(motion, **form.cleaned_data, by=request.user, now=timezone.now())
    messages.success(request, "You have stepped aside from this motion.")
    return redirect(motion)


@require_POST
def review(request: SignedInRequest, pk: int) -> HttpResponse:
    """Send a review."""
    motion = _motion(request, pk)
    services.require_voter(motion, request.user)
    services.require_declared(motion, request.user)
    form = _own("review", ReviewForm, request.POST)
    if not form.is_valid():
        return _page(request, motion, 422, review_form=form)
    services.submit_review(
        motion,
        answers=form.answers(),
        recommendation=form.cleaned_data["recommendation"],
        note=form.cleaned_data["note"],
        by=request.user,
        now=timezone.now(),
    )
    messages.success(request, "Your review is sent.")
    return redirect(motion)


@require_POST
def comment(request: SignedInRequest, pk: int) -> HttpResponse:
    """Write a note to the board, or to the applicant too."""
    motion = _motion(request, pk)
    form = _own("comment", CommentForm, request.POST)
    if not form.is_valid():
        services.require_reader_of_discussion(motion, request.user)
        return _page(request, motion, 422, comment_form=form)
    services.comment(motion, **form.cleaned_data, by=request.user, now=timezone.now())
    return redirect(f"{motion.get_absolute_url()}#discussion")


# What the secretary does


def _secretary(request: SignedInRequest, pk: int) -> Motion:
    motion = _motion(request, pk)
    if not services.is_secretary(request.user, motion):
        raise NotAllowed("Only the chair or an operator does this.")
    return motion


def _note(request: SignedInRequest) -> str:
    form = NoteForm(request.POST)
    if not form.is_valid():
        raise services.VoteRefused("Say why in a sentence: it goes on record.")
    return form.cleaned_data["text"]


@require_POST
def assign(request: SignedInRequest, pk: int) -> HttpResponse:
    """Give a review to a member, in the place of another or where one is missing."""
    motion = _secretary(request, pk)
    chosen = request.POST.get("reviewer", "")
    reviewer = services.electorate(motion).filter(pk=int(chosen) if chosen.isdecimal() else 0).first()
    if reviewer is None:
        raise services.VoteRefused("Choose a member of the board.", next_url=motion.get_absolute_url())
    instead = request.POST.get("instead_of", "")
    before = get_object_or_404(Review, pk=int(instead), motion=motion) if instead.isdecimal() else None
    services.assign_reviewer(motion, reviewer, instead_of=before, by=request.user, now=timezone.now())
    messages.success(request, f"{reviewer} reviews it.")
    return redirect(motion)


@require_POST
def return_(request: SignedInRequest, pk: int) -> HttpResponse:
    """Return a contribution for changes."""
    motion = _secretary(request, pk)
    services.return_for_changes(motion, note=_note(request), by=request.user, now=timezone.now())
    messages.success(request, "It is returned; the institution reads what to change.")
    return redirect(motion)


@require_POST
def take_back(request: SignedInRequest, pk: int) -> HttpResponse:
    """Take a proposal back."""
    motion = _motion(request, pk)
    if not (services.is_secretary(request.user, motion) or motion.opened_by_id == request.user.pk):
        raise NotAllowed("Only who proposed it, the chair or an operator takes a motion back.")
    services.take_back(motion, reason=_note(request), by=request.user, now=timezone.now())
    messages.success(request, "The motion is taken back.")
    return redirect(motion)


@require_POST
def put_again(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask the question of a lapsed motion again."""
    again = services.put_again(_secretary(request, pk), by=request.user, now=timezone.now())
    messages.success(request, "The question is before the board again.")
    return redirect(again)


@require_POST
def nudge(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask those whose vote is missing."""
    motion = _secretary(request, pk)
    if motion.status != Status.OPEN:
        raise services.NotPossibleNow("The ballot is not open.", next_url=motion.get_absolute_url())
    count = services.nudge(motion, by=request.user, now=timezone.now())
    messages.success(request, f"{count} members are asked for their vote.")
    return redirect(motion)
