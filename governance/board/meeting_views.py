"""Meetings of the board."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from governance.board import meetings
from governance.board.meeting_forms import AgendaForm, MeetingForm, MinutesForm
from governance.board.models import Attendance, Meeting
from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.errors import NotAllowed

PAST = 20


def _meeting(request: SignedInRequest, pk: int, *, keeps: bool = False) -> Meeting:
    """Return a meeting that the person reads; with `keeps`, as who calls meetings and keeps their minutes."""
    if not meetings.may_read(request.user):
        raise NotAllowed("Meetings are for the board, operators and auditors.")
    if keeps and not meetings.may_call(request.user):
        raise NotAllowed("Only the chair or an operator calls meetings and keeps their minutes.")
    return get_object_or_404(Meeting.objects.select_related("called_by"), pk=pk)


@require_GET
def list_(request: SignedInRequest) -> HttpResponse:
    """List the meetings that come, and the last ones."""
    if not meetings.may_read(request.user):
        raise NotAllowed("Meetings are for the board, operators and auditors.")
    now = timezone.now()
    context = {
        "ahead": Meeting.objects.filter(starts_at__gte=now).order_by("starts_at"),
        "past": Meeting.objects.filter(starts_at__lt=now)[:PAST],
        "may_call": meetings.may_call(request.user),
    }
    return render(request, "board/meeting_list.html", context)


def call(request: SignedInRequest) -> HttpResponse:
    """Call a meeting."""
    if not meetings.may_call(request.user):
        raise NotAllowed("Only the chair or an operator calls meetings and keeps their minutes.")
    form = MeetingForm(request.POST or None)
    if form.is_valid():
        meeting = meetings.call(**form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, "The board is invited.")
        return redirect(meeting)
    return render(request, "board/meeting_call.html", {"form": form}, status=422 if form.errors else 200)


@require_GET
def show(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show a meeting: agenda, who comes, what can be decided, the minutes."""
    meeting, now = _meeting(request, pk), timezone.now()
    answers = meeting.attendances.select_related("member")
    is_ahead = meeting.cancelled_at is None and now < meeting.starts_at
    items = meetings.agenda(meeting, reader=request.user)
    seen = {item.motion_id for item in items}
    context: dict[str, Any] = {
        "meeting": meeting,
        "agenda": items,
        "coming": [row.member for row in answers if row.answer == Attendance.Answer.YES],
        "absent": [row.member for row in answers if row.answer == Attendance.Answer.NO],
        "mine": next((row for row in answers if row.member_id == request.user.pk), None),
        "may_answer": is_ahead and bool(accounts.programmes_seated(request.user)),
        "is_ahead": is_ahead,
        "may_keep": meetings.may_call(request.user),
        "forecasts": [row for row in meetings.forecast(meeting, now=now) if row.motion.pk in seen] if is_ahead else [],
    }
    return render(request, "board/meeting.html", context)


@require_GET
def ics(request: SignedInRequest, pk: int) -> HttpResponse:
    """Send the meeting as a calendar file."""
    meeting = _meeting(request, pk)
    return HttpResponse(
        meetings.ics(meeting, reader=request.user),
        content_type="text/calendar; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="meeting-{meeting.pk}.ics"'},
    )


@require_POST
def answer(request: SignedInRequest, pk: int) -> HttpResponse:
    """Say whether one comes."""
    meeting = _meeting(request, pk)
    said = Attendance.Answer.YES if request.POST.get("answer") == "yes" else Attendance.Answer.NO
    meetings.answer(meeting, answer=said, by=request.user, now=timezone.now())
    messages.success(request, "Your answer is noted.")
    return redirect(meeting)


def agenda(request: SignedInRequest, pk: int) -> HttpResponse:
    """Change the agenda."""
    meeting = _meeting(request, pk, keeps=True)
    items = meeting.agenda.all()
    initial = {
        "motions": [item.motion_id for item in items if item.motion_id],
        "points": "\n".join(item.text for item in items if item.text),
    }
    form = AgendaForm(request.POST or None, initial=initial, meeting=meeting)
    if form.is_valid():
        meetings.change_agenda(meeting, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, "The agenda is changed.")
        return redirect(meeting)
    context = {"form": form, "meeting": meeting}
    return render(request, "board/meeting_agenda.html", context, status=422 if form.errors else 200)


def minutes(request: SignedInRequest, pk: int) -> HttpResponse:
    """Keep the minutes, once."""
    meeting = _meeting(request, pk, keeps=True)
    form = MinutesForm(request.POST or None, initial={"text": meetings.draft_minutes(meeting)})
    if form.is_valid():
        meetings.keep_minutes(meeting, text=form.cleaned_data["text"], by=request.user, now=timezone.now())
        messages.success(request, "The minutes are kept.")
        return redirect(meeting)
    context = {"form": form, "meeting": meeting}
    return render(request, "board/meeting_minutes.html", context, status=422 if form.errors else 200)


def cancel(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask whether to cancel, and cancel."""
    meeting = _meeting(request, pk, keeps=True)
    if request.method != "POST":
        return render(request, "board/meeting_cancel.html", {"meeting": meeting})
    meetings.cancel(meeting, by=request.user, now=timezone.now())
    messages.success(request, "The meeting is cancelled; those invited are told.")
    return redirect(meeting)
