"""The tally: a pure function, against a brute-force model."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.board.tally import Result, Rule, tally

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CHOICES = ["for", "against", "abstain"]


def rule(quorum: int = 3, threshold_percent: int = 50, closes_in_days: int = 1) -> Rule:
    return Rule(quorum, threshold_percent, NOW + timedelta(days=closes_in_days))


@pytest.mark.parametrize(
    ("choices", "eligible", "expected"),
    [
        ([], 5, Result.OPEN),
        (["for", "for"], 5, Result.OPEN),
        (["for", "for", "for"], 5, Result.CARRIED),  # two more against cannot change it
        (["against", "against", "against"], 5, Result.LOST),
        (["for", "against"], 2, Result.NO_QUORUM),
        (["for", "against", "abstain"], 3, Result.LOST),  # a tie does not carry
        (["for", "abstain", "abstain"], 3, Result.CARRIED),  # abstentions count for the quorum only
        (["abstain", "abstain", "abstain"], 3, Result.LOST),
    ],
)
def test_result_while_the_ballot_is_open(choices, eligible, expected):
    assert tally(rule(), choices, eligible=eligible, now=NOW).result is expected


def test_two_thirds_carries_at_exactly_two_thirds_of_a_hundredth():
    assert tally(rule(threshold_percent=66), ["for", "for", "against"], eligible=3, now=NOW).result is Result.CARRIED


def test_closing_time_decides_with_what_was_cast():
    closed = rule(closes_in_days=0)
    assert tally(closed, ["for", "for", "for"], eligible=9, now=NOW).result is Result.CARRIED
    assert tally(closed, ["for", "for"], eligible=9, now=NOW).result is Result.NO_QUORUM


@given(st.permutations(["for", "for", "against", "abstain", "for"]))
def test_order_of_votes_does_not_matter(choices):
    assert tally(rule(), choices, eligible=5, now=NOW).result is Result.CARRIED


@given(
    st.lists(st.sampled_from(CHOICES), max_size=7), st.integers(0, 4), st.integers(1, 5), st.sampled_from([50, 66, 100])
)
def test_an_early_result_is_the_result_of_every_completion(choices, missing, quorum, threshold_percent):
    eligible = len(choices) + missing
    early = tally(rule(quorum, threshold_percent), choices, eligible=eligible, now=NOW).result
    completions = [choices]
    for _ in range(missing):
        completions = [*completions, *([*votes, choice] for votes in completions for choice in CHOICES)]
    outcomes = {
        tally(rule(quorum, threshold_percent, closes_in_days=0), votes, eligible=eligible, now=NOW).result
        for votes in completions
    }
    assert early is (outcomes.pop() if len(outcomes) == 1 else Result.OPEN)


@given(st.lists(st.sampled_from(CHOICES), max_size=9), st.integers(1, 9))
def test_never_carried_below_the_quorum(choices, quorum):
    result = tally(rule(quorum, closes_in_days=0), choices, eligible=9, now=NOW).result
    assert result is not Result.CARRIED or len(choices) >= quorum
