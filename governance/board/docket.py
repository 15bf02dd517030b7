"""Which motions a person sees, and which of them wait for this person."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from governance.board.counting import counts
from governance.board.lifecycle import Status
from governance.board.models import Kind, Motion, Vote
from governance.board.tally import Tally
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User

PAGE_SIZE = 50
# What a reader can narrow the docket to.
STATES = {"mine": "Waiting for me", "reviewing": "Being reviewed", "open": "Ballot open", "tied": "Tied"}


@dataclass(frozen=True)
class Row:
    """One motion of the docket as its reader sees it."""

    motion: Motion
    tally: Tally
    days_open: int
    my_vote: Vote | None
    recused: bool
    waits_for_me: bool


def seat_in(seats: set[int | None]) -> Q:
    """Return the condition for motions on which the holder of these seats votes."""
    own = Q(electorate="programme", programme__in=seats - {None})
    return Q() if None in seats else own


def waiting_for(user: User) -> QuerySet[Motion]:
    """Return the motions that wait for this person: for a vote, for a review, or for the chair's word on a tie."""
    seats = accounts.programmes_seated(user)
    if not seats or user.is_superuser:
        return Motion.objects.none()
    vote = Q(status=Status.OPEN) & seat_in(seats) & ~Q(pk__in=user.votes.values("motion"))
    review = Q(status=Status.REVIEWING, pk__in=_reviews_of(user))
    return Motion.objects.filter(vote | review | _ties_of(user)).exclude(pk__in=user.recusals.values("motion"))


def _ties_of(user: User) -> Q:
    """Return the condition for ties that the person breaks; it says what `counting.chairs` says of one motion."""
    chairs = ConsortiumRole.objects.current().filter(role=ConsortiumRole.Role.CHAIR)
    chaired = set(chairs.filter(user=user).values_list("programme", flat=True))
    found = Q(electorate="programme", programme__in=chaired - {None})
    if None in chaired:
        found |= ~Q(electorate="programme", programme__in=chairs.exclude(programme=None).values("programme"))
    return Q(status=Status.TIED) & found


def _reviews_of(user: User) -> QuerySet:
    return user.board_reviews.filter(ended_at__isnull=True, submitted_at__isnull=True).values("motion")


def filtered(user: User, *, state: str = "", kind: str = "", programme: str = "") -> QuerySet[Motion]:
    """Return the undecided motions that the person sees, narrowed; unknown words narrow nothing."""
    rows = Motion.objects.visible_to(user).undecided()
    if state == "mine":
        rows = rows.filter(pk__in=waiting_for(user).values("pk"))
    elif state in STATES:
        rows = rows.filter(status=state)
    if kind in Kind.values:
        rows = rows.filter(kind=kind)
    return rows.filter(programme__slug=programme) if programme else rows


def after(rows: QuerySet[Motion], pk: str) -> QuerySet[Motion]:
    """Return the rows behind the motion with this id, in the docket's order."""
    mark = Motion.objects.filter(pk=int(pk)).first() if pk.isdecimal() and len(pk) < 19 else None
    if mark is None:
        return rows
    return rows.filter(Q(opened_at__gt=mark.opened_at) | Q(opened_at=mark.opened_at, pk__gt=mark.pk))


def page(rows: QuerySet[Motion], user: User, *, now: datetime) -> list[Row]:
    """Return one page of rows, oldest first, with a constant number of queries."""
    found = list(
        rows.select_related("programme", "institution", "person").prefetch_related("votes", "recusals")[:PAGE_SIZE]
    )
    tallies = counts(found, now=now)
    waiting = set(waiting_for(user).filter(pk__in=[row.pk for row in found]).values_list("pk", flat=True))
    return [
        Row(
            motion=motion,
            tally=tallies[motion.pk],
            days_open=(now - motion.opened_at).days,
            my_vote=max(_votes_of(user, motion), key=lambda vote: vote.number, default=None),
            recused=any(row.member_id == user.pk for row in motion.recusals.all()),
            waits_for_me=motion.pk in waiting,
        )
        for motion in found
    ]


def _votes_of(user: User, motion: Motion) -> list[Vote]:
    return [vote for vote in motion.votes.all() if vote.voter_id == user.pk]
