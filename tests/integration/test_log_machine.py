"""The log as a machine: events come, commit late, fail, enter the tree and are signed in any order; it only grows."""

import uuid
from datetime import timedelta

import hypothesis
import pytest
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs.kit import merkle
from portal.audit import sequencer, services, tree
from portal.audit.models import AuditEvent, AuditLeaf, AuditPending, Checkpoint
from tests import factories
from tests.rfc6962 import mth
from tests.trees import exported

pytestmark = pytest.mark.django_db
EXAMPLES = 60


class Log(RuleBasedStateMachine):
    """Beside the real log, a list of leaves in the order in which they entered."""

    played: list[int] = []

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.savepoint()
        settings.AUDIT_ORIGIN = f"{uuid.uuid4().hex}.example.org/log"  # a checkpoint in the bucket stays for ever
        self.person = factories.user("Ada")
        self.now = timezone.now()
        self.entered: list[int] = list(AuditLeaf.objects.order_by("index").values_list("event_id", flat=True))
        self.signed: list[tuple[int, bytes]] = []

    def teardown(self) -> None:
        self.played.append(len(self.entered))
        transaction.savepoint_rollback(self.savepoint)

    def _waiting(self) -> list[int]:
        return list(AuditPending.objects.order_by("pk").values_list("pk", flat=True))

    @rule(count=st.integers(1, 7))
    def events_happen(self, count: int) -> None:
        for number in range(count):
            with transaction.atomic():
                services.record("token.created", self.person, by=self.person, number=number)

    @rule()
    def a_change_fails(self) -> None:
        with transaction.atomic():
            services.record("token.created", self.person, by=self.person)
            transaction.set_rollback(True)

    @rule()
    def the_sequencer_runs(self) -> None:
        self.entered += self._waiting()
        sequencer.sequence()

    @precondition(lambda self: self.entered)
    @rule(seconds=st.sampled_from([1, 61]))
    def a_checkpoint_may_be_due(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        before = Checkpoint.objects.first()
        made = sequencer.publish(now=self.now)
        size = len(self.entered)
        is_due = before is None or size - before.size >= 100 or (size > before.size and made is not None)
        assert (made is None) or (is_due and made.size == size)
        if made is not None:
            self.signed.append((made.size, bytes(made.root)))

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert sorted(self.entered + self._waiting()) == sorted(AuditEvent.objects.values_list("pk", flat=True))

    @invariant()
    def the_tree_is_that_of_the_events_in_their_order(self) -> None:
        rows = list(AuditLeaf.objects.order_by("index").values_list("event_id", "hash"))
        assert [event for event, _ in rows] == self.entered
        hashes = [merkle.leaf_hash(line) for line in exported(len(rows)).split(b"\n")[:-1]]
        assert hashes == [bytes(value) for _, value in rows]
        assert tree.root(len(rows)) == mth(hashes)

    @invariant()
    def every_checkpoint_is_consistent_with_the_tree_of_now(self) -> None:
        size = tree.size()
        for earlier, root in self.signed:
            proof = tree.consistency(earlier, size) if earlier < size else []
            assert merkle.is_consistent((earlier, root), (size, tree.root(size)), proof)

    @invariant()
    def the_last_event_is_proved_to_be_in_it(self) -> None:
        size = tree.size()
        if size:
            leaf = bytes(AuditLeaf.objects.latest("index").hash)
            assert merkle.includes(tree.root(size), size, size - 1, leaf, tree.inclusion(size - 1, size))


@pytest.mark.usefixtures("log_origin")  # which gives the setting back
def test_the_log_only_grows():
    run_state_machine_as_test(
        Log,
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    assert len(Log.played) >= EXAMPLES  # what each must show, its rules and invariants assert
