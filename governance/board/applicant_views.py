"""
The side of institutions that a motion concerns: where it stands, notes of the board, conditions, what they say of a
release. Nothing of who votes how.
"""

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from governance.board import conditions as tasks
from governance.board import discussion, meetings, services
from governance.board.forms import NoteForm
from governance.board.models import Comment, Condition, Motion
from governance.releases import answers
from governance.releases import views as release_views
from governance.releases.forms import SiteAnswerForm
from governance.releases.models import Release
from portal.accounts.requests import SignedInRequest
from portal.institutions import services as institutions
from portal.institutions.models import Institution


def _case(request: SignedInRequest, pk: int) -> tuple[Motion, Institution]:
    """Return a motion and whose people answer it, for one of them or for who sees the motion as the board does."""
    rows = Motion.objects.concerning(request.user) | Motion.objects.visible_to(request.user).filter(
        institution__isnull=False
    )
    related = rows.select_related("institution", "contribution", "decision").distinct()
    motion = get_object_or_404(related, pk=pk)
    assert motion.institution is not None  # both sets are of motions that concern one
    return motion, institutions.acting_for(motion.institution)


@require_GET
def show(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show where a motion stands, to the institution that it concerns."""
    motion, institution = _case(request, pk)
    return _page(request, motion, institution)


def _page(
    request: SignedInRequest, motion: Motion, institution: Institution, form: NoteForm | None = None
) -> HttpResponse:
    manages = institutions.manages(request.user, institution)
    context = {
        "motion": motion,
        "notes": motion.comments.filter(audience=Comment.Audience.APPLICANT).select_related("author"),
        "conditions": motion.conditions.all(),
        "may_reply": manages and motion.closed_at is None,
        "may_report": manages,
        "form": form or NoteForm(),
    }
    return render(request, "board/applicant.html", context, status=422 if form else 200)


@require_POST
def reply(request: SignedInRequest, pk: int) -> HttpResponse:
    """Write to the board, for the institution."""
    motion, institution = _case(request, pk)
    institutions.require_manager(request.user, institution)
    form = NoteForm(request.POST)
    if not form.is_valid():
        return _page(request, motion, institution, form)
    services.reply(motion, text=form.cleaned_data["text"], by=request.user, now=timezone.now())
    messages.success(request, "The board reads your note.")
    return redirect(discussion.applicant_path(motion))


@require_POST
def answer_release(request: SignedInRequest, slug: str, institution_slug: str) -> HttpResponse:
    """Say, for an institution that a proposed model learnt from, whether it approves of the release."""
    release = get_object_or_404(Release.objects.visible_to(request.user), slug=slug)
    institution = get_object_or_404(Institution.objects.visible_to(request.user), slug=institution_slug)
    answers.require_may_answer(release, institution, by=request.user)
    form = SiteAnswerForm(request.POST, auto_id=release_views.field_ids(institution))
    if not form.is_valid():
        return release_views.page(request, release, answered=(institution, form))
    services.answer_release(release, institution, **form.cleaned_data, by=request.user, now=timezone.now())
    messages.success(request, f"The board reads the answer of {institution}. You can change it until it has decided.")
    return redirect(f"{release.get_absolute_url()}#answer")


# Conditions


@require_GET
def conditions(request: SignedInRequest) -> HttpResponse:
    """List the conditions that concern the person: what is open first."""
    rows = _conditions(request).select_related("motion", "institution").order_by("settled_at", "due_on")
    context = {"conditions": rows, "today": timezone.now().date(), "on_board": meetings.may_read(request.user)}
    return render(request, "board/condition_list.html", context)


def _conditions(request: SignedInRequest) -> QuerySet[Condition]:
    return tasks.visible_to(request.user).distinct()


@require_POST
def report(request: SignedInRequest, pk: int) -> HttpResponse:
    """Say how a condition was met."""
    row = get_object_or_404(_conditions(request), pk=pk)
    institutions.require_manager(request.user, institutions.acting_for(row.institution))
    form = NoteForm(request.POST)
    if not form.is_valid():
        raise services.VoteRefused("Say in a sentence what was done.", next_url=discussion.applicant_path(row.motion))
    tasks.report(row, text=form.cleaned_data["text"], by=request.user, now=timezone.now())
    messages.success(request, "The board looks at it.")
    return redirect(discussion.applicant_path(row.motion))


@require_POST
def settle(request: SignedInRequest, pk: int) -> HttpResponse:
    """Say that a condition is met, waived, or open again."""
    row = get_object_or_404(_conditions(request), pk=pk)
    status = request.POST.get("status", "")
    tasks.settle(row, status=status, note=request.POST.get("text", ""), by=request.user, now=timezone.now())
    messages.success(request, f"The condition is {Condition.Status(status).label.lower()}.")
    return redirect(row.motion)
