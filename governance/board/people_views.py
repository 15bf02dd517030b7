"""Who sits on the boards, what each has to review, and the member's own entries in the register of interests."""

from datetime import timedelta

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from governance.board import meetings, reviews, services
from governance.board.models import Interest
from governance.board.people_forms import EndForm, InterestForm
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole
from portal.accounts.requests import SignedInRequest
from portal.errors import NotAllowed

SOON = timedelta(days=90)


@require_GET
def members(request: SignedInRequest) -> HttpResponse:
    """Show the seats of today and of before, whose term ends soon, and what each member has to review."""
    if not meetings.may_read(request.user):
        raise NotAllowed("This page is for the board, operators and auditors.")
    now = timezone.now()
    seats = ConsortiumRole.objects.filter(role__in=accounts.SEATED).select_related("user", "programme")
    current = list(seats.current().order_by("programme__name", "-role", "user__name"))
    people = list({seat.user_id: seat.user for seat in current}.values())
    context = {
        "seats": current,
        "former": seats.filter(ended_at__isnull=False).order_by("-ended_at")[:50],
        "soon": (now + SOON).date(),
        "loads": reviews.workload(people, now=now),
    }
    return render(request, "board/members.html", context)


def _require_member(request: SignedInRequest) -> None:
    if not accounts.programmes_seated(request.user):
        raise NotAllowed("Interests are declared by members of a board.")


def interests(request: SignedInRequest) -> HttpResponse:
    """Show one's own entries in the register, and add one."""
    _require_member(request)
    form = InterestForm(request.POST or None)
    if form.is_valid():
        services.register_interest(**form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, "It is in the register. Motions about the institution are now without you.")
        return redirect("board:interests")
    context = {"form": form, "interests": request.user.interests.select_related("institution"), "end": EndForm()}
    return render(request, "board/interests.html", context, status=422 if form.errors else 200)


@require_POST
def end_interest(request: SignedInRequest, pk: int) -> HttpResponse:
    """Say since when an own interest has ended."""
    _require_member(request)
    interest = get_object_or_404(Interest, pk=pk, member=request.user)
    form = EndForm(request.POST)
    if not form.is_valid():
        raise services.VoteRefused("Give the day on which it ended.", next_url="/board/interests/")
    services.end_interest(interest, ended_on=form.cleaned_data["ended_on"], by=request.user, now=timezone.now())
    messages.success(request, "It has ended. It recuses you for 36 months more.")
    return redirect("board:interests")
