"""Which motions a person sees, and which of them wait for this person."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from governance.board.counting import counts
from governance.board.lifecycle import Status
from governance.board.models import Kind, Motion, Vote
from governance.board.tally import Tally
from portal.accounts import services as accounts
from portal.accounts.models import User

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
    seated: bool
    my_review: bool
    declared: bool

    @property
    def waits_for_me(self) -> bool:
        if not self.seated or self.recused:
            return False
        return (
            self.my_review
            if self.motion.status == Status.REVIEWING
            else self.motion.status == "open" and not self.my_vote
        )


def seat_in(seats: set[int | None]) -> Q:
    """Return the condition for motions on which the holder of these seats votes."""
    own = Q(electorate="programme", programme__in=seats - {None})
    return Q() if None in seats else own


def waiting_for(user: User) -> QuerySet[Motion]:
    """Return the motions that wait for this person: for a vote, or for a review."""
    seats = accounts.programmes_seated(user)
    if not seats or user.is_superuser:
        return Motion.objects.none()
    vote = Q(status=Status.OPEN) & seat_in(seats) & ~Q(pk__in=user.votes.values("motion"))
    review = Q(status=Status.REVIEWING, pk__in=_reviews_of(user))
    return Motion.objects.filter(vote | review).exclude(pk__in=user.recusals.values("motion"))


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
    related = rows.select_related("programme", "institution", "person")
    found = list(related.prefetch_related("votes", "recusals", "declarations", "reviews")[:PAGE_SIZE])
    tallies = counts(found, now=now)
    seats = set() if user.is_superuser else accounts.programmes_seated(user)
    return [_row(motion, tallies[motion.pk], user, seats, now) for motion in found]


def _row(motion: Motion, tally: Tally, user: User, seats: set[int | None], now: datetime) -> Row:
    mine = [vote for vote in motion.votes.all() if vote.voter_id == user.pk]
    own_seat = motion.electorate == "programme" and motion.programme_id in seats
    return Row(
        motion=motion,
        tally=tally,
        days_open=(now - motion.opened_at).days,
        my_vote=max(mine, key=lambda vote: vote.number, default=None),
        recused=any(row.member_id == user.pk for row in motion.recusals.all()),
        seated=None in seats or own_seat,
        my_review=any(
            row.reviewer_id == user.pk and row.ended_at is None and row.submitted_at is None
            for row in motion.reviews.all()
        ),
        declared=any(row.member_id == user.pk for row in motion.declarations.all()),
    )
