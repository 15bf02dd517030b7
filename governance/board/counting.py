"""Who votes on a motion, and how it stands: the database's side of `tally`."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from governance.board.models import Motion, Vote
from governance.board.tally import Ballot, Member, Result, Rule, Tally, Threshold, tally
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User
from portal.institutions.models import Institution, Membership

FAR = datetime.max.replace(tzinfo=timezone.get_fixed_timezone(0))  # a ballot that is not open does not close


def electorate(motion: Motion) -> QuerySet[User]:
    """Return who has a seat for the question, recused or not. A superuser has none."""
    programme = motion.programme if motion.electorate == Motion.Electorate.PROGRAMME else None
    return accounts.seated(programme).filter(is_superuser=False)


def unrecused(motion: Motion) -> QuerySet[User]:
    """Return who has a seat for the question and has not stepped aside."""
    return electorate(motion).exclude(pk__in=motion.recusals.values("member"))


def chairs(motion: Motion) -> QuerySet[User]:
    """
    Return who breaks a tie: the chair of the programme's board where it votes and has one, else the consortium's.

    Who chairs the board of another programme is here a member like any other.
    """
    seats, chairing = electorate(motion), ConsortiumRole.objects.current().filter(role=ConsortiumRole.Role.CHAIR)
    if motion.electorate == Motion.Electorate.PROGRAMME:
        own = seats.filter(consortium_roles__in=chairing.filter(programme=motion.programme_id))
        if own.exists():
            return own
    return seats.filter(consortium_roles__in=chairing.everywhere())


def is_secretary(user: User, motion: Motion) -> bool:
    """Test if the person runs the board's business on a motion: the chair or an operator, unless recused from it."""
    if motion.recusals.filter(member=user.pk).exists():
        return False
    return accounts.has_role(user, "operator") or chairs(motion).filter(pk=user.pk).exists()


def rule_of(motion: Motion) -> Rule:
    """Return the frozen rule of a motion, for `tally`."""
    return Rule(
        quorum_floor=motion.quorum_floor,
        quorum_percent=motion.quorum_percent,
        threshold=Threshold(motion.threshold),
        per_institution=motion.per_institution,
        closes_at=motion.closes_at or FAR,
    )


def _places(user: Any) -> QuerySet[Membership]:
    """Return a person's memberships of today, first the one by which the person votes."""
    return Membership.objects.current().filter(user=user).order_by("started_at", "pk")


def institution_of(user: User) -> int | None:
    """Return the id of the institution that a member's ballot counts for where the rule is one vote for each."""
    return _places(user).values_list("institution", flat=True).first()


def members(motion: Motion) -> list[Member]:
    """Return the seats, each with the institution of its holder."""
    current = _places(OuterRef("pk"))
    rows = electorate(motion).annotate(at=Subquery(current.values("institution")[:1])).order_by("pk")
    return [Member(pk, institution) for pk, institution in rows.values_list("pk", "at")]


def counts(motions: Iterable[Motion], *, now: datetime) -> dict[int, Tally]:
    """
    Return the arithmetic of each motion as it stands, by id; a constant number of queries per board.

    Prefetch `votes` and `recusals`. Who voted and lost the seat afterwards still counts. What was merged since a vote
    and what it was merged into have one vote together.
    """
    seats: dict[Any, list[Member]] = {}
    motions = list(motions)
    together = any(motion.per_institution for motion in motions)
    aliases = Institution.objects.exclude(merged_into=None) if together else Institution.objects.none()
    merged = dict(aliases.values_list("pk", "merged_into"))
    found = {}
    for motion in motions:
        key = (motion.electorate, motion.programme_id)
        if key not in seats:
            seats[key] = members(motion)
        found[motion.pk] = _count(motion, seats[key], merged, now)
    return found


def _count(motion: Motion, seats: list[Member], merged: Mapping[int, int | None], now: datetime) -> Tally:
    votes = list(motion.votes.all())
    places = {vote.voter_id: vote.voter_institution_id for vote in votes}
    voted = {voter: Member(voter, merged.get(place or 0, place)) for voter, place in places.items()}
    base = {member.id: member for member in seats} | voted
    recused = {row.member_id for row in motion.recusals.all()}
    ballots = [Ballot(vote.voter_id, vote.choice, vote.number) for vote in votes]
    return tally(rule_of(motion), base.values(), recused, ballots, now)


def count(motion: Motion, *, now: datetime) -> Tally:
    """Return the arithmetic of a motion as it stands."""
    return counts([motion], now=now)[motion.pk]


def arithmetic(motion: Motion, *, now: datetime) -> Tally:
    """Return the count of an undecided motion, and of a decided one what was counted then."""
    if motion.arithmetic is None:
        return count(motion, now=now)
    kept = motion.arithmetic
    numbers = {name: kept[name] for name in ("votes_for", "votes_against", "abstentions", "eligible", "quorum")}
    return Tally(Result(kept["result"]), **numbers)


def described(motion: Motion, result: Tally) -> dict[str, Any]:
    """Return the arithmetic for the record: every number that the outcome follows from."""
    return {
        "result": result.result.value,
        "votes_for": result.votes_for,
        "votes_against": result.votes_against,
        "abstentions": result.abstentions,
        "eligible": result.eligible,
        "recused": motion.recusals.count(),
        "quorum": result.quorum,
        "threshold": motion.threshold,
        "per_institution": motion.per_institution,
    }


def last_votes(motion: Motion) -> list[Vote]:
    """Return the ballot of each member that counts, in the order in which they were first cast."""
    recused = {row.member_id for row in motion.recusals.all()}
    rows = motion.votes.select_related("voter", "voter_institution").order_by("number", "pk")
    last = {vote.voter_id: vote for vote in rows if vote.voter_id not in recused}
    return list(last.values())
