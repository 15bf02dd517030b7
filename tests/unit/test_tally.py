"""The tally: every sentence of its rules, against a brute-force model of all completions."""

import itertools
import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.board.tally import Ballot, Member, Result, Rule, Tally, Threshold, tally

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CHOICES = ["for", "against", "abstain"]


def rule(
    threshold: Threshold = Threshold.MAJORITY,
    *,
    floor: int = 3,
    percent: int = 0,
    together: bool = False,
    days: int = 1,
) -> Rule:
    return Rule(floor, percent, threshold, together, NOW + timedelta(days=days))


def counted(choices: list[str], size: int, the_rule: Rule | None = None) -> Tally:
    """Return the tally where the first of `size` members, all of other institutions, said `choices`."""
    members = [Member(pk, institution_id=pk) for pk in range(size)]
    return tally(the_rule or rule(), members, set(), [Ballot(*row) for row in enumerate(choices)], NOW)


@pytest.mark.parametrize(
    ("choices", "size", "expected"),
    [
        ([], 5, Result.OPEN),
        (["for", "for"], 5, Result.OPEN),
        (["for", "for", "for"], 5, Result.CARRIED),  # two more against cannot change it
        (["against", "against", "against"], 5, Result.LOST),
        (["for", "against"], 2, Result.OPEN),  # no quorum can come of it: that is said at its time, not before
        (["for", "against", "abstain"], 3, Result.TIE),
        (["for", "for", "against", "against"], 5, Result.OPEN),
        (["for", "abstain", "abstain"], 3, Result.CARRIED),  # abstentions count for the quorum only
        (["abstain", "abstain", "abstain"], 3, Result.LOST),
    ],
)
def test_result_while_the_ballot_is_open(choices, size, expected):
    assert counted(choices, size).result is expected


@pytest.mark.parametrize(
    ("threshold", "choices", "expected"),
    [
        (Threshold.MAJORITY, ["for", "for", "against"], Result.CARRIED),
        (Threshold.MAJORITY, ["for", "against", "against"], Result.LOST),
        (Threshold.TWO_THIRDS, ["for", "for", "against"], Result.CARRIED),  # exactly two thirds
        (Threshold.TWO_THIRDS, ["for", "for", "for", "against", "against"], Result.LOST),
        (Threshold.TWO_THIRDS, ["for", "for", "against", "against"], Result.LOST),  # no tie: it is not two thirds
        (Threshold.UNANIMOUS, ["for", "abstain", "abstain"], Result.CARRIED),
        (Threshold.UNANIMOUS, ["for", "for", "against"], Result.LOST),
        (Threshold.UNANIMOUS, ["abstain", "abstain", "abstain"], Result.LOST),
    ],
)
def test_thresholds(threshold, choices, expected):
    assert counted(choices, len(choices), rule(threshold)).result is expected


def test_closing_time_decides_with_what_was_cast():
    closed = rule(days=0)
    assert counted(["for", "for", "for"], 9, closed).result is Result.CARRIED
    assert counted(["for", "for"], 9, closed).result is Result.NO_QUORUM


@pytest.mark.parametrize(("percent", "size", "quorum"), [(0, 9, 3), (50, 9, 5), (50, 10, 5), (51, 10, 6), (50, 4, 3)])
def test_the_quorum_is_the_larger_of_share_and_floor(percent, size, quorum):
    assert counted([], size, rule(percent=percent)).quorum == quorum


def test_the_arithmetic_of_the_example_of_the_statutes():
    """Eleven members, two recused: nine may vote. Two thirds; six for, three against; one of a recused member."""
    members = [Member(pk, institution_id=pk) for pk in range(11)]
    ballots = [Ballot(pk, "for" if pk < 6 else "against") for pk in range(10)]
    found = tally(rule(Threshold.TWO_THIRDS, floor=5), members, {9, 10}, ballots, NOW)
    assert found == Tally(Result.CARRIED, votes_for=6, votes_against=3, abstentions=0, eligible=9, quorum=5)
    assert (found.cast, found.waiting, found.share_percent) == (9, 0, 66)


# Random elections


@st.composite
def elections(draw, size: int = 6):
    """Return (rule, members, recusals, ballots): small boards, some members of one institution, changed ballots."""
    institutions = st.sampled_from([None, 1, 2, 3])
    members = [Member(pk, draw(institutions)) for pk in range(draw(st.integers(1, size)))]
    who = st.sampled_from([*(member.id for member in members), 99])  # 99 is no member
    ballots = [
        Ballot(pk, draw(st.sampled_from(CHOICES)), number)
        for number, pk in enumerate(draw(st.lists(who, max_size=8)), start=1)
    ]
    the_rule = Rule(
        draw(st.integers(1, 4)),
        draw(st.sampled_from([0, 34, 50, 100])),
        draw(st.sampled_from(list(Threshold))),
        draw(st.booleans()),
        NOW + timedelta(days=draw(st.sampled_from([0, 1]))),
    )
    return the_rule, members, draw(st.frozensets(who, max_size=2)), ballots


def model(the_rule: Rule, members, recusals, ballots, now) -> tuple[Result, int, int, int, int]:
    """Return (result, for, against, abstain, base), in the plainest way: every completion is counted."""
    eligible = [member for member in members if member.id not in recusals]
    last = {}
    for ballot in sorted(ballots, key=lambda row: row.number):
        last[ballot.member_id] = ballot.choice
    now_said = {member.id: last[member.id] for member in eligible if member.id in last}
    groups: dict[object, list[int]] = {}
    for member in eligible:
        alone = not the_rule.per_institution or member.institution_id is None
        groups.setdefault(("m", member.id) if alone else ("i", member.institution_id), []).append(member.id)
    outcome, *counts = closed(the_rule, groups, now_said)
    if now < the_rule.closes_at:
        missing = [member.id for member in eligible if member.id not in now_said]
        ends = set()
        for choices in itertools.product([*CHOICES, None], repeat=len(missing)):
            more = {pk: choice for pk, choice in zip(missing, choices, strict=True) if choice}
            ends.add(closed(the_rule, groups, {**now_said, **more})[0])
        outcome = ends.pop() if len(ends) == 1 and Result.NO_QUORUM not in ends else Result.OPEN
    return (outcome, *counts, len(groups))


def closed(the_rule: Rule, groups, said) -> tuple[Result, int, int, int]:
    votes = []
    for ids in groups.values():
        own = [said[pk] for pk in ids if pk in said]
        if own:
            lead = sum({"for": 1, "against": -1, "abstain": 0}[choice] for choice in own)
            votes.append("for" if lead > 0 else "against" if lead < 0 else "abstain")
    yes, no, none = (votes.count(choice) for choice in CHOICES)
    needed = Fraction(the_rule.quorum_percent * len(groups), 100)
    if len(votes) < the_rule.quorum_floor or len(votes) < needed:
        return Result.NO_QUORUM, yes, no, none
    if the_rule.threshold == Threshold.MAJORITY and yes == no and yes:
        return Result.TIE, yes, no, none
    share = Fraction(yes, yes + no) if yes + no else Fraction(0)
    carried = {
        Threshold.MAJORITY: share > Fraction(1, 2),
        Threshold.TWO_THIRDS: share >= Fraction(2, 3),
        Threshold.UNANIMOUS: share == 1,
    }[the_rule.threshold]
    return (Result.CARRIED if carried else Result.LOST), yes, no, none


def figures(found: Tally) -> tuple[Result, int, int, int, int]:
    return found.result, found.votes_for, found.votes_against, found.abstentions, found.eligible


@given(elections())
def test_it_equals_the_model(election):
    assert figures(tally(*election, NOW)) == model(*election, NOW)


def test_ten_thousand_random_elections_equal_the_model():
    rng = random.Random(20261124)
    for _ in range(10_000):
        members = [Member(pk, rng.choice([None, 1, 2, 3])) for pk in range(rng.randint(1, 5))]
        who = [*(member.id for member in members), 99]
        ballots = [Ballot(rng.choice(who), rng.choice(CHOICES), number) for number in range(rng.randint(0, 8))]
        recusals = set(rng.sample(who, rng.randint(0, min(2, len(who)))))
        the_rule = Rule(
            rng.randint(1, 4), rng.choice([0, 34, 50, 100]), rng.choice(list(Threshold)), rng.random() < 0.5,
            NOW + timedelta(days=rng.choice([0, 1])),
        )  # fmt: skip
        election = (the_rule, members, recusals, ballots)
        assert figures(tally(*election, NOW)) == model(*election, NOW), election


@given(elections(), st.randoms())
def test_the_order_of_ballots_and_members_does_not_matter(election, rng):
    the_rule, members, recusals, ballots = election
    mixed_members, mixed_ballots = list(members), list(ballots)
    rng.shuffle(mixed_members)
    rng.shuffle(mixed_ballots)
    mixed = tally(the_rule, mixed_members, recusals, mixed_ballots, NOW)
    assert mixed == tally(*election, NOW)


@given(elections())
def test_ballots_of_the_recused_and_of_strangers_never_count(election):
    the_rule, members, recusals, ballots = election
    known = {member.id for member in members} - recusals
    without = [ballot for ballot in ballots if ballot.member_id in known]
    assert tally(*election, NOW) == tally(the_rule, members, recusals, without, NOW)


@given(elections())
def test_it_never_carries_below_the_floor(election):
    found = tally(*election, NOW)
    assert found.result is not Result.CARRIED or found.cast >= election[0].quorum_floor


@given(elections(), st.sampled_from(CHOICES))
def test_one_institution_moves_the_result_by_at_most_one_vote(election, choice):
    the_rule, members, recusals, ballots = election
    together = Rule(the_rule.quorum_floor, 0, the_rule.threshold, True, the_rule.closes_at)
    own = [member.id for member in members if member.institution_id == 1]
    without = [ballot for ballot in ballots if ballot.member_id not in own]
    block = [*without, *(Ballot(pk, choice) for pk in own)]
    before, after = (tally(together, members, recusals, rows, NOW) for rows in (without, block))
    moved = [after.votes_for - before.votes_for, after.votes_against - before.votes_against]
    assert (sum(moved) + after.abstentions - before.abstentions) in {0, 1}


@given(elections())
def test_an_abstention_never_changes_for_and_against(election):
    the_rule, members, recusals, ballots = election
    one = [*members, Member(50)]
    before, after = (tally(the_rule, one, recusals, rows, NOW) for rows in (ballots, [*ballots, Ballot(50, "abstain")]))
    assert (after.votes_for, after.votes_against) == (before.votes_for, before.votes_against)
    assert after.abstentions == before.abstentions + 1


@given(elections())
def test_an_early_result_stays_whatever_is_cast_later(election):
    the_rule, members, recusals, ballots = election
    early = tally(*election, NOW)
    if early.result is Result.OPEN:
        return
    voted = {ballot.member_id for ballot in ballots}
    for choice in CHOICES:
        more = [Ballot(member.id, choice, 99) for member in members if member.id not in voted]
        late = tally(the_rule, members, recusals, [*ballots, *more], the_rule.closes_at)
        assert late.result is early.result or the_rule.closes_at <= NOW
