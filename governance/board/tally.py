"""Counting votes: a pure function."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import ceil


class Result(StrEnum):
    OPEN = "open"
    CARRIED = "carried"
    LOST = "lost"
    NO_QUORUM = "no_quorum"
    TIE = "tie"


class Threshold(StrEnum):
    MAJORITY = "majority"  # more votes for than against
    TWO_THIRDS = "two_thirds"  # at least two thirds of the votes for and against
    UNANIMOUS = "unanimous"  # nobody against


@dataclass(frozen=True)
class Rule:
    """Frozen when the first ballot is cast."""

    quorum_floor: int  # votes needed, abstentions included, however many are recused; at least 1
    quorum_percent: int  # of the votes that could be cast, 0 to 100; the larger of the two counts
    threshold: Threshold
    per_institution: bool  # the members of one institution have one vote together
    closes_at: datetime


@dataclass(frozen=True)
class Member:
    id: int
    institution_id: int | None = None


@dataclass(frozen=True)
class Ballot:
    """One ballot. Of several by one member, the one with the highest number counts."""

    member_id: int
    choice: str  # for, against, abstain
    number: int = 1


@dataclass(frozen=True)
class Tally:
    """The arithmetic, for the record: in votes, which are those of institutions where the rule says so."""

    result: Result
    votes_for: int
    votes_against: int
    abstentions: int
    eligible: int
    quorum: int

    @property
    def cast(self) -> int:
        return self.votes_for + self.votes_against + self.abstentions

    @property
    def waiting(self) -> int:
        return self.eligible - self.cast

    @property
    def share_percent(self) -> int | None:
        """Votes for, in percent of for + against, rounded down; None without either."""
        decisive = self.votes_for + self.votes_against
        return 100 * self.votes_for // decisive if decisive else None


Vote = list[str | None]  # what each member with a part in one vote said; None: nothing yet


def tally(
    rule: Rule, members: Iterable[Member], recusals: Collection[int], ballots: Sequence[Ballot], now: datetime
) -> Tally:
    """
    Return the result of a motion.

    Ballots of the recused and of who is no member do not count, nor do the recused count to the base of the quorum.
    Before `closes_at` it closes only when no completion of the missing ballots could change the outcome; then it
    closes with what was cast. Below the quorum it never carries. A tie is as many for as against under MAJORITY.
    """
    votes = _votes(rule, [member for member in members if member.id not in recusals], ballots)
    quorum = max(rule.quorum_floor, ceil(rule.quorum_percent * len(votes) / 100))
    counts = _counts(votes)
    return Tally(_result(rule, votes, quorum, now), *counts, len(votes), quorum)


def _votes(rule: Rule, eligible: list[Member], ballots: Sequence[Ballot]) -> list[Vote]:
    """Return the votes that there are, each with what its members said."""
    said = {ballot.member_id: ballot.choice for ballot in sorted(ballots, key=lambda ballot: ballot.number)}
    votes: dict[tuple[str, int], Vote] = defaultdict(list)
    for member in {member.id: member for member in eligible}.values():
        together = rule.per_institution and member.institution_id is not None
        key = ("institution", member.institution_id or 0) if together else ("member", member.id)
        votes[key].append(said.get(member.id))
    return list(votes.values())


def _said(vote: Vote) -> str | None:
    """Return how a vote counts: as most of its members who are for or against; without a majority, as an abstention."""
    if not any(vote):
        return None
    lead = vote.count("for") - vote.count("against")
    return "for" if lead > 0 else "against" if lead < 0 else "abstain"


def _counts(votes: list[Vote]) -> tuple[int, int, int]:
    said = [_said(vote) for vote in votes]
    return said.count("for"), said.count("against"), said.count("abstain")


def _result(rule: Rule, votes: list[Vote], quorum: int, now: datetime) -> Result:
    if now >= rule.closes_at:
        return _outcome(rule, quorum, _counts(votes))
    # More votes for never hurt a motion and more against never help it, and fewer votes only endanger the quorum: so
    # what comes of all missing ballots alike is the same for every mixture of them, where these agree.
    possible = {_outcome(rule, quorum, _counts(_completed(votes, missing))) for missing in ("for", "against", None)}
    return possible.pop() if len(possible) == 1 and Result.NO_QUORUM not in possible else Result.OPEN


def _completed(votes: list[Vote], missing: str | None) -> list[Vote]:
    return [[choice or missing for choice in vote] for vote in votes]


def _outcome(rule: Rule, quorum: int, counts: tuple[int, int, int]) -> Result:
    votes_for, votes_against, _ = counts
    if sum(counts) < quorum:
        return Result.NO_QUORUM
    if rule.threshold == Threshold.MAJORITY and votes_for == votes_against > 0:
        return Result.TIE
    return Result.CARRIED if _reaches(rule.threshold, votes_for, votes_against) else Result.LOST


def _reaches(threshold: str, votes_for: int, votes_against: int) -> bool:
    match threshold:
        case Threshold.MAJORITY:
            return votes_for > votes_against
        case Threshold.TWO_THIRDS:
            return votes_for > 0 and 3 * votes_for >= 2 * (votes_for + votes_against)
        case _:
            return votes_for > 0 and votes_against == 0
