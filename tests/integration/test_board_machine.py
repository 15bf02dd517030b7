"""The board as a machine: declarations, ballots, recusals, time and the chair in any order, against a model."""

from datetime import timedelta

import hypothesis
import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from governance.board import services as boards
from governance.board.models import Decision, Motion
from portal.errors import DomainError
from tests import factories

pytestmark = pytest.mark.django_db
EXAMPLES = 15
CHOICES = ["for", "against", "abstain"]
DAY = timedelta(days=1)
MEMBERS = 5
members = st.integers(0, MEMBERS - 1)


class Ballot(RuleBasedStateMachine):
    """One motion of five members, the first of whom is the chair; majority, a quorum of three."""

    played: list[str] = []

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.savepoint()
        factories.programme()
        self.people = factories.board(MEMBERS)
        self.now = timezone.now()
        found = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=self.now)
        assert found is not None
        self.motion: Motion = found
        self.declared: set[int] = set()
        self.recused: set[int] = set()
        self.said: dict[int, str] = {}
        self.ballots = 0
        self.status = "open"
        self.extended = False
        self.end = self.motion.closes_at

    def teardown(self) -> None:
        self.played.append(self.status)
        transaction.savepoint_rollback(self.savepoint)

    def _try(self, step) -> bool:
        """Run a service as a request does; tell whether it was refused."""
        try:
            with transaction.atomic():
                step()
        except DomainError:
            return False
        return True

    # The model

    def _counts(self) -> tuple[int, int, int, int]:
        said = [choice for member, choice in self.said.items() if member not in self.recused]
        return said.count("for"), said.count("against"), len(said), MEMBERS - len(self.recused)

    def _quorum(self) -> int:
        return max(3, -(-self._counts()[3] // 2))

    def _outcome(self, yes: int, no: int, cast: int) -> str:
        if cast < self._quorum():
            return "no_quorum"
        if yes == no > 0:
            return "tied"
        return "carried" if yes > no else "lost"

    def _settle(self) -> None:
        """Close the model when no completion could change the outcome, or the time has come."""
        if self.status != "open":
            return
        yes, no, cast, eligible = self._counts()
        if self.now < self.end:
            missing = eligible - cast
            ends = {
                self._outcome(yes + more_yes, no + more_no, cast + more_yes + more_no + more_abstain)
                for more_yes in range(missing + 1)
                for more_no in range(missing + 1 - more_yes)
                for more_abstain in range(missing + 1 - more_yes - more_no)
            }
            if len(ends) == 1 and "no_quorum" not in ends:
                self.status = ends.pop()
            return
        outcome = self._outcome(yes, no, cast)
        if outcome != "no_quorum":
            self.status = outcome
        elif self.extended:
            self.status = "lapsed"
        else:
            self.extended, self.end = True, self.now + 7 * DAY

    # What people and the clock do

    @rule(member=members)
    def declares(self, member: int) -> None:
        if self._try(lambda: boards.declare(self.motion, answer="none", by=self.people[member], now=self.now)):
            assert member not in self.recused | self.declared
            self.declared.add(member)

    @rule(member=members, choice=st.sampled_from(CHOICES))
    def votes(self, member: int, choice: str) -> None:
        may = self.status == "open" and self.now < self.end and member in self.declared - self.recused
        before = self.said.get(member)
        done = self._try(
            lambda: boards.cast_vote(self.motion, choice=choice, reason="Why.", by=self.people[member], now=self.now)
        )
        assert done == may
        if done:
            self.said[member] = choice
            self.ballots += before != choice
            self._settle()

    @rule(member=members)
    def steps_aside(self, member: int) -> None:
        may = self.status == "open" and member not in self.recused
        done = self._try(lambda: boards.recuse(self.motion, reason="Why.", by=self.people[member], now=self.now))
        assert done == may
        if done:
            self.recused.add(member)
            self._settle()

    @rule(floor=st.integers(1, 5))
    def the_rule_changes(self, floor: int) -> None:
        boards.set_rule("admit_institution", None, quorum_floor=floor, by=self.people[0], now=self.now)
        self.motion.refresh_from_db()
        assert self.motion.quorum_floor == 3 or not self.ballots
        boards.set_rule("admit_institution", None, quorum_floor=3, by=self.people[0], now=self.now)

    @rule(days=st.sampled_from([1, 5, 8]))
    def time_passes(self, days: int) -> None:
        self.now += days * DAY
        if self.status == "tied" and self.now >= self.end + 7 * DAY:
            self.status = "lost"
        boards.sweep(now=self.now)
        if self.now >= self.end:
            self._settle()

    @rule(member=members, choice=st.sampled_from(["for", "against"]))
    def the_chair_decides(self, member: int, choice: str) -> None:
        may = self.status == "tied" and member == 0 and 0 not in self.recused
        done = self._try(
            lambda: boards.decide_tie(self.motion, choice=choice, reason="Why.", by=self.people[member], now=self.now)
        )
        assert done == may
        if done:
            self.status = {"for": "carried", "against": "lost"}[choice]

    # What always holds

    @invariant()
    def it_stands_as_the_model_says(self) -> None:
        before = Motion.objects.get(pk=self.motion.pk)
        assert before.status == self.status
        assert (before.closed_at is None) == (self.status in {"open", "tied"})
        self.motion = before

    @invariant()
    def the_last_ballot_of_each_counts_and_all_are_kept(self) -> None:
        last = {vote.voter_id: vote.choice for vote in boards.last_votes(self.motion)}
        assert last == {self.people[m].pk: choice for m, choice in self.said.items() if m not in self.recused}
        assert self.motion.votes.count() == self.ballots

    @invariant()
    def what_is_decided_has_one_number(self) -> None:
        numbers = list(Decision.objects.filter(motion=self.motion).values_list("number", flat=True))
        assert len(numbers) == (self.status in {"carried", "lost", "lapsed"})

    @invariant()
    def it_never_passes_below_the_quorum(self) -> None:
        motion = Motion.objects.get(pk=self.motion.pk)
        if motion.status == "carried" and not hasattr(motion, "casting_vote"):
            counted = motion.arithmetic
            assert counted is not None
            assert counted["votes_for"] + counted["votes_against"] + counted["abstentions"] >= 3


def test_a_ballot_goes_as_the_model():
    run_state_machine_as_test(
        Ballot,
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    assert len(Ballot.played) >= EXAMPLES  # what each must show, its rules and invariants assert
