"""Counting votes: a pure function."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Result(StrEnum):
    OPEN = "open"
    CARRIED = "carried"
    LOST = "lost"
    NO_QUORUM = "no_quorum"


@dataclass(frozen=True)
class Rule:
    """Frozen when the motion opens."""

    quorum: int  # votes needed, abstentions included; an absolute floor, recusals do not lower it
    threshold_percent: int  # of for + against; 50 asks for strictly more than half, others for at least that share
    closes_at: datetime


@dataclass(frozen=True)
class Tally:
    """The arithmetic, for the record."""

    result: Result
    votes_for: int
    votes_against: int
    abstentions: int
    eligible: int
    quorum: int
    threshold_percent: int

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


def tally(rule: Rule, choices: Sequence[str], *, eligible: int, now: datetime) -> Tally:
    """
    Return the result of a motion.

    Args:
        choices: "for", "against" or "abstain", one per vote cast.
        eligible: members who may vote: seats less recusals.
    It closes early only when no completion of the missing votes could change the outcome; after `closes_at` it closes
    with what was cast. Below the quorum it never carries.
    """
    counts = choices.count("for"), choices.count("against"), choices.count("abstain")
    result = _result(rule, *counts, eligible=eligible, now=now)
    return Tally(result, *counts, eligible, rule.quorum, rule.threshold_percent)


def _result(
    rule: Rule, votes_for: int, votes_against: int, abstentions: int, *, eligible: int, now: datetime
) -> Result:
    missing = max(0, eligible - votes_for - votes_against - abstentions)
    if now >= rule.closes_at or missing == 0:
        return _outcome(rule, votes_for, votes_against, abstentions)
    possible = {
        _outcome(rule, votes_for + yes, votes_against + no, abstentions + missing - yes - no - absent)
        for yes in range(missing + 1)
        for no in range(missing + 1 - yes)
        for absent in range(missing + 1 - yes - no)
    }
    return possible.pop() if len(possible) == 1 else Result.OPEN


def _outcome(rule: Rule, votes_for: int, votes_against: int, abstentions: int) -> Result:
    if votes_for + votes_against + abstentions < rule.quorum:
        return Result.NO_QUORUM
    return Result.CARRIED if _reaches(rule.threshold_percent, votes_for, votes_against) else Result.LOST


def _reaches(threshold_percent: int, votes_for: int, votes_against: int) -> bool:
    share, needed = 100 * votes_for, threshold_percent * (votes_for + votes_against)
    return share > needed if threshold_percent == 50 else share >= needed and votes_for > 0
