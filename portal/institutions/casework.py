"""Pages of the case: its checklist, its rounds of review, what a reviewer and what the applicants can do about it."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.accounts.services import has_role
from portal.institutions import actions, advice, merging, onboarding, pathways, profile, reviews, services
from portal.institutions.applying import read_back
from portal.institutions.forms import DeclineForm, MergeForm, ReasonForm
from portal.institutions.models import Institution, Review
from portal.institutions.rules import serves_consortium
from portal.institutions.views import described, managed, visible
from portal.institutions.vocabulary import Pathway

PAGE_SIZE = 100


def _with_file(request: SignedInRequest, slug: str) -> Institution:
    """Return the institution for its people and the consortium's officers; a stranger gets 404 or 403."""
    institution = visible(request, slug)
    if not request.user.has_perm("institutions.view_file", institution):
        raise PermissionDenied(f"Only people of {institution} and the consortium's officers see this.")
    return institution


def _reviewed(request: SignedInRequest, slug: str) -> Institution:
    """Return the application for somebody who may judge it."""
    institution = _with_file(request, slug)
    reviews.require_reviewer(request.user, institution)
    return institution


def _too_late(request: SignedInRequest, institution: Institution, name: str) -> HttpResponse | None:
    """Send on who opens the form of a step that is not possible now; None where it is."""
    can = actions.named(actions.available(institution, request.user, now=timezone.now())).get(name)
    if request.method != "GET" or (can and can.allowed):
        return None
    label = institution.get_status_display().lower()
    messages.error(request, can.reason if can else f"{institution} is {label}, so this is not possible now.")
    return redirect("institutions:onboarding", institution.slug)


def _head(request: SignedInRequest, institution: Institution) -> dict[str, Any]:
    can = actions.available(institution, request.user, now=timezone.now())
    return described(institution) | {"standing": onboarding.standing(institution), "can": actions.named(can)}


@require_GET
def checklist(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the way to the first contribution: what is done, who must act, until when."""
    institution = _with_file(request, slug)
    held = set(institution.memberships.current().filter(user=request.user).values_list("role", flat=True))
    steps = onboarding.checklist(institution)
    context = _head(request, institution) | {
        "steps": [(step, step.who(held), onboarding.YOU) for step in steps],
        "belongs": bool(held),
        "done": sum(step.done for step in steps),
        "total": len(steps),
        "missing": onboarding.missing(institution),
        "review": reviews.latest(institution),
        "comment_count": sum(map(len, reviews.comments_on(institution).values())),
        "serves": serves_consortium(request.user),
        "unreachable": onboarding.unreachable(institution),
    }
    return render(request, "institutions/institution_onboarding.html", context)


# Review


@require_GET
def review_list(request: SignedInRequest) -> HttpResponse:
    """Show the applications that wait, oldest first: since when, until when, who has each."""
    if not serves_consortium(request.user):
        raise PermissionDenied("Only reviewers, operators and auditors see which applications wait.")
    now = timezone.now()
    mine = request.GET.get("show") == "mine"
    waiting = reviews.waiting()
    rows = waiting.filter(reviewer=request.user) if mine else waiting
    context = {
        "rows": [(row, (now - row.sent_at).days, row.target_on < now.date()) for row in rows[:PAGE_SIZE]],
        "mine": mine,
        "count_mine": waiting.filter(reviewer=request.user).count(),
        "count_all": waiting.count(),
    }
    return render(request, "institutions/review_list.html", context)


@require_GET
def case(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the application as it was sent, what changed since the round before, and what was said in every round."""
    if not serves_consortium(request.user):
        raise PermissionDenied("Only the consortium's officers see the case of an application.")
    return _case_page(request, _with_file(request, slug))


def _case_page(
    request: SignedInRequest, institution: Institution, *, data: QueryDict | None = None, error: str = ""
) -> HttpResponse:
    review = reviews.latest(institution)
    is_operator = has_role(request.user, "operator")
    context = _head(request, institution) | {
        "review": review,
        "changes": reviews.changes(review) if review else [],
        "sections": _sections(institution, data),
        "rounds": _rounds(institution),
        "documents": institution.documents.filter(state="stored"),
        "candidates": reviews.candidates(institution) if is_operator and review and review.outcome == "open" else [],
        "note": data.get("note", "") if data else "",
        "error": error,
    }
    return render(request, "institutions/institution_case.html", context, status=422 if error else 200)


def _sections(institution: Institution, data: QueryDict | None) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """Return each heading with (field, label, answer, comment typed so far) below it."""
    names = [names for *_, names in profile.SECTIONS]
    return [
        (
            heading,
            [
                (f, text, answer, data.get(f"comment-{f}", "") if data else "")
                for f, (text, answer) in zip(fields, rows, strict=True)
            ],
        )
        for fields, (_, heading, rows) in zip(names, read_back(institution), strict=True)
    ]


def _rounds(institution: Institution) -> QuerySet[Review]:
    rows = institution.reviews.select_related("reviewer", "appeal_of").prefetch_related("comments")
    return rows.order_by("-number")


@require_POST
def return_(request: SignedInRequest, slug: str) -> HttpResponse:
    """Return the application with comments on single fields."""
    institution = _reviewed(request, slug)
    comments = {name: request.POST.get(f"comment-{name}", "")[:2000] for name in profile.FIELDS}
    note = request.POST.get("note", "")[:2000]
    try:
        services.return_for_changes(institution, comments=comments, note=note, by=request.user, now=timezone.now())
    except reviews.CommentsMissing as error:
        return _case_page(request, institution, data=request.POST, error=str(error))
    messages.success(request, f"{institution} has the application again. The open ballot is moot.")
    return redirect("institutions:case", slug)


@require_POST
def reassign(request: SignedInRequest, slug: str) -> HttpResponse:
    """Give the review to somebody else."""
    institution = _with_file(request, slug)
    review = get_object_or_404(Review, institution=institution, outcome="open")
    reviewer = get_object_or_404(
        User, pk=request.POST.get("reviewer") if request.POST.get("reviewer", "").isdecimal() else 0
    )
    reviews.reassign(review, reviewer, by=request.user, now=timezone.now())
    messages.success(request, f"{reviewer} reviews {institution} now.")
    return redirect("institutions:case", slug)


def decline(request: SignedInRequest, slug: str) -> HttpResponse:
    """Decline on formal grounds, with a reason that the applicants read."""
    institution = _reviewed(request, slug)
    if late := _too_late(request, institution, "decline"):
        return late
    form = DeclineForm(
        request.POST if request.method == "POST" else None,
        label="Reason in your own words",
        help_text="The applicants read it. They can fix it and ask again, or appeal to the board.",
    )
    if request.method == "POST" and form.is_valid():
        services.decline_formally(institution, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, f"{institution} is declined and was told why.")
        return redirect("institutions:case", slug)
    return _ask(request, institution, form, "institutions/institution_decline.html")


def _ask(request: SignedInRequest, institution: Institution, form: Any, template: str) -> HttpResponse:
    context = _head(request, institution) | {"form": form, "review": reviews.latest(institution)}
    return render(request, template, context, status=422 if form.errors else 200)


def merge(request: SignedInRequest, slug: str) -> HttpResponse:
    """Merge a member into another one."""
    institution = _with_file(request, slug)
    if not has_role(request.user, "operator"):
        raise PermissionDenied("Only an operator merges institutions.")
    if late := _too_late(request, institution, "merge"):
        return late
    form = MergeForm(request.POST if request.method == "POST" else None, institution=institution)
    if request.method == "POST" and form.is_valid():
        into = form.cleaned_data["into"]
        merging.merge(institution, into, by=request.user, now=timezone.now())
        messages.success(request, f"{institution} is now part of {into}.")
        return redirect(into)
    return _ask(request, institution, form, "institutions/institution_merge.html")


# What the applicants do after a decision


def reopen(request: SignedInRequest, slug: str) -> HttpResponse:
    """Fix it and ask again, after asking."""
    institution = managed(request, slug)
    if late := _too_late(request, institution, "reopen"):
        return late
    if request.method == "POST":
        services.reopen(institution, by=request.user, now=timezone.now())
        messages.success(request, "The application is a draft again. Fix what the reason names, then send it.")
        return redirect("institutions:edit", slug)
    return render(request, "institutions/institution_reopen.html", _head(request, institution))


def appeal(request: SignedInRequest, slug: str) -> HttpResponse:
    """Appeal against a decision, with grounds."""
    institution = managed(request, slug)
    if late := _too_late(request, institution, "appeal"):
        return late
    form = ReasonForm(
        request.POST if request.method == "POST" else None,
        label="Grounds",
        help_text="What the decision overlooked or got wrong. The board reads it beside its first decision.",
    )
    if request.method == "POST" and form.is_valid():
        services.appeal(institution, grounds=form.cleaned_data["reason"], by=request.user, now=timezone.now())
        messages.success(request, "The appeal is with the board. You get a mail with the result.")
        return redirect("institutions:onboarding", slug)
    return _ask(request, institution, form, "institutions/institution_appeal.html")


# What it contributes


def pathway(request: SignedInRequest, slug: str) -> HttpResponse:
    """Choose what the institution contributes: advice for every kind, then a confirmation, then the choice."""
    institution = _with_file(request, slug)
    chosen = institution.chosen_kinds()
    wanted = [kind for kind in Pathway if kind in request.POST.getlist("kinds")]
    if request.method == "POST":
        managed(request, slug)
        if "confirm" in request.POST:
            pathways.choose(institution, wanted, by=request.user, now=timezone.now())
            messages.success(request, "Your choice is kept. You can change it at any time.")
            return redirect("institutions:pathway", slug)
    context = _head(request, institution) | {
        "kinds": advice.ranked(institution),
        "chosen": chosen,
        "wanted": wanted,
        "asks": request.method == "POST",
        "starts": [kind.label for kind in wanted if kind not in chosen],
        "ends": [Pathway(kind).label for kind in sorted(chosen - set(wanted))],
        "history": institution.pathway_choices.exclude(ended_at=None).order_by("-ended_at")[:20],
        "manages": request.user.has_perm("institutions.change_institution", institution),
    }
    return render(request, "institutions/institution_pathway.html", context)
