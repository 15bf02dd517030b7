"""Pages of an institution's room in the store: what takes it, asking for more, answering that."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from contributions import room
from contributions.models import RoomRequest
from contributions.room_forms import AnswerForm, AskForm
from contributions.rules import require_steward
from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError, note
from portal.institutions import services as institutions
from portal.institutions.models import Institution


def _institution(request: SignedInRequest, slug: str) -> Institution:
    """Return an institution whose room the person may see."""
    institution = get_object_or_404(Institution.objects.select_related("merged_into"), slug=slug)
    if not room.may_read(request.user, institution):
        raise Http404
    return institution


def show(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show what takes the room and what came of requests for more; a steward asks for more."""
    institution = _institution(request, slug)
    if request.method == "POST":
        room.require_may_ask(request.user, institution)
    used = room.of(institution)
    form = AskForm(request.POST or None, room=used)
    if form.is_valid() and _asked(request, institution, form):
        return redirect("contributions:room", slug)
    rows = list(institution.room_requests.select_related("asked_by", "decided_by"))
    context = {
        "institution": institution,
        "room": used,
        "shares": room.shares(institution),
        "form": form,
        "belongs": room.belongs(request.user, institution),
        "obstacle": _obstacle(request, institution),
        "open_request": next((row for row in rows if row.decided_at is None), None),
        "past_requests": [row for row in rows if row.decided_at is not None],
        "may_withdraw": institutions.manages(request.user, institutions.acting_for(institution)),
        "may_decide": room.may_decide(request.user, institution),
    }
    return render(request, "contributions/room.html", context, status=422 if form.errors else 200)


def _obstacle(request: SignedInRequest, institution: Institution) -> DomainError | None:
    """Return why the person cannot ask now, if so."""
    try:
        room.require_may_ask(request.user, institution)
    except DomainError as exc:
        return exc
    return None


def _asked(request: SignedInRequest, institution: Institution, form: AskForm) -> bool:
    """Ask for what the form holds; what is wrong with it stands at its field."""
    size_bytes, reason = form.cleaned_data["size"] * room.GIB, form.cleaned_data["reason"]
    try:
        room.ask(institution, size_bytes=size_bytes, reason=reason, by=request.user, now=timezone.now())
    except room.SizeRefused as exc:
        note(request, exc)
        form.add_error("size", str(exc))
        return False
    messages.success(request, _("The operators are asked. You are told their answer."))
    return True


def _waiting(institution: Institution, pk: int) -> RoomRequest:
    asked = get_object_or_404(institution.room_requests.select_related("asked_by"), pk=pk)
    room.require_waiting(asked)
    return asked


def withdraw(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Take a request back, after asking whether it is meant."""
    institution = _institution(request, slug)
    require_steward(request.user, institution)
    asked = _waiting(institution, pk)
    if request.method == "POST":
        room.withdraw(asked, by=request.user, now=timezone.now())
        messages.success(request, _("The request is taken back."))
        return redirect("contributions:room", slug)
    return render(request, "contributions/room_withdraw.html", {"institution": institution, "asked": asked})


def decide(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Grant a request, in this size or another, or decline it."""
    institution = _institution(request, slug)
    room.require_may_decide(request.user, institution)
    asked = _waiting(institution, pk)
    form = AnswerForm(request.POST or None, initial={"size": -(-asked.asked_bytes // room.GIB)})
    if form.is_valid() and _answered(request, asked, form.cleaned_data, form):
        return redirect("ops:storage")
    context = {
        "institution": institution,
        "asked": asked,
        "room": room.of(institution),
        "shares": room.shares(institution),
        "form": form,
    }
    return render(request, "contributions/room_decide.html", context, status=422 if form.errors else 200)


def _answered(request: SignedInRequest, asked: RoomRequest, given: dict[str, Any], form: AnswerForm) -> bool:
    """Do what the button says; what is wrong stands at its field."""
    by, now, reply = request.user, timezone.now(), given["reply"]
    try:
        if given["answer"] == AnswerForm.GRANT:
            room.grant(asked, size_bytes=given["size"] * room.GIB, reply=reply, by=by, now=now)
            messages.success(request, _("The room is granted. The institution is told."))
        else:
            room.decline(asked, reply=reply, by=by, now=now)
            messages.success(request, _("The request is declined. The institution is told."))
    except (room.SizeRefused, room.ReasonMissing) as exc:
        note(request, exc)
        form.add_error("size" if isinstance(exc, room.SizeRefused) else "reply", str(exc))
        return False
    return True
