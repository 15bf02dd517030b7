"""The rules of motions and ballots as the database holds them, for whoever writes past the services."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from governance.board import services as boards
from governance.board.models import CastingVote, Declaration, Motion, Recusal, Vote
from portal.accounts.models import User
from tests import factories
from tests.factories import cast


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"status": "decided", "closed_at": timezone.now()}, "motion_status_known"),
        ({"status": "carried", "arithmetic": {}}, "motion_closed_at_iff_closed"),
        ({"status": "carried", "closed_at": timezone.now()}, "motion_decided_with_its_arithmetic"),
        ({"closes_at": None}, "motion_closes_at_once_its_ballot_is_open"),
        ({"electorate": "programme"}, "motion_names_the_programme_that_votes"),
        ({"threshold": "half"}, "motion_rule_in_range"),
        ({"quorum_floor": 0}, "motion_rule_in_range"),
        ({"quorum_percent": 101}, "motion_rule_in_range"),
        ({"kind": "release_model"}, "question_is_fixed"),
        ({"round": 7}, "question_is_fixed"),
    ],
)
def test_motion_constraints(motion, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Motion.objects.filter(pk=motion.pk).update(**changes)


def test_a_motion_names_what_its_kind_is_about(motion):
    twin = Motion.objects.get(pk=motion.pk)
    twin.pk, twin.kind = None, "release_model"
    with pytest.raises(IntegrityError, match="motion_has_its_subject"), transaction.atomic():
        twin.save()


def test_one_undecided_motion_per_applicant(motion):
    twin = Motion.objects.get(pk=motion.pk)
    twin.pk = None
    with pytest.raises(IntegrityError, match="one_undecided_motion_per_applicant"), transaction.atomic():
        twin.save()


def test_motions_are_kept_and_closed_ones_are_final(motion):
    with pytest.raises(IntegrityError, match="motions_are_kept"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM board_motion")
    factories.vote_all(motion)
    with pytest.raises(IntegrityError, match="closed_motion_is_final"), transaction.atomic():
        Motion.objects.filter(pk=motion.pk).update(status="lost")


@pytest.mark.parametrize("changes", [{"quorum_floor": 1}, {"closes_at": timezone.now()}, {"per_institution": True}])
def test_the_database_freezes_the_rule_with_the_first_ballot(motion, chair, changes):
    cast(motion, chair)
    with pytest.raises(IntegrityError, match="rule_is_frozen_by_the_first_ballot"), transaction.atomic():
        Motion.objects.filter(pk=motion.pk).update(**changes)


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"choice": "maybe", "reason": "?"}, "vote_choice_known"),
        ({"choice": "against"}, "vote_reason_unless_for"),
        ({"choice": "abstain", "reason": "?", "conditions": ["?"]}, "vote_conditions_only_with_for"),
        ({"choice": "for", "number": 2}, "ballots_are_numbered_without_gaps"),
    ],
)
def test_vote_constraints(motion, chair, facts, constraint):
    factories.declare(motion, chair)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Vote.objects.create(motion=motion, voter=chair, cast_at=timezone.now(), **facts)


def test_the_database_refuses_a_vote_on_ones_own_institution(motion, chair):
    factories.declare(motion, chair)
    own = {"voter_institution": motion.institution, "subject_institution": motion.institution}
    with pytest.raises(IntegrityError, match="vote_not_on_own_institution"), transaction.atomic():
        Vote.objects.create(motion=motion, voter=chair, choice="for", cast_at=timezone.now(), **own)


def test_the_database_refuses_the_ballots_of_who_may_not_vote(motion, board):
    def ballot(voter: User) -> None:
        with transaction.atomic():
            Vote.objects.create(motion=motion, voter=voter, choice="for", cast_at=timezone.now())

    with pytest.raises(IntegrityError, match="voter_has_declared"):
        ballot(board[0])
    factories.declare(motion)
    Recusal.objects.create(motion=motion, member=board[1], reason="?", declared_at=timezone.now())
    with pytest.raises(IntegrityError, match="voter_is_not_recused"):
        ballot(board[1])
    User.objects.filter(pk=board[2].pk).update(is_superuser=True)
    with pytest.raises(IntegrityError, match="voter_is_no_superuser"):
        ballot(board[2])
    Motion.objects.filter(pk=motion.pk).update(status="withdrawn", closed_at=timezone.now())
    with pytest.raises(IntegrityError, match="ballot_is_open"):
        ballot(board[0])
    assert Vote.objects.count() == 0


def test_one_recusal_and_one_declaration_per_member(motion, chair):
    factories.declare(motion, chair)
    with pytest.raises(IntegrityError, match="one_declaration_per_member"), transaction.atomic():
        Declaration.objects.create(motion=motion, member=chair, answer="none", declared_at=timezone.now())
    with pytest.raises(IntegrityError, match="recusal_basis_known"), transaction.atomic():
        Recusal.objects.create(motion=motion, member=chair, basis="mood", reason="?", declared_at=timezone.now())
    Recusal.objects.create(motion=motion, member=chair, reason="?", declared_at=timezone.now())
    with pytest.raises(IntegrityError, match="one_recusal_per_member"), transaction.atomic():
        Recusal.objects.create(motion=motion, member=chair, reason="?", declared_at=timezone.now())


@pytest.mark.parametrize(
    ("facts", "constraint"), [({"choice": "abstain", "reason": "?"}, "decides"), ({"choice": "for"}, "has_a_reason")]
)
def test_casting_vote_constraints(tied, four, facts, constraint):
    with pytest.raises(IntegrityError, match=f"casting_vote_{constraint}"), transaction.atomic():
        CastingVote.objects.create(motion=tied, chair=four[0], cast_at=timezone.now(), **facts)


@pytest.mark.parametrize("table", ["vote", "declaration", "recusal", "comment", "decision", "castingvote"])
def test_what_is_on_record_is_append_only(tied, four, table):
    boards.comment(tied, audience="board", text="Hm.", by=four[1], now=timezone.now())
    boards.recuse(
        boards.refer_institution(factories.applied_institution("Other").pk, now=timezone.now()),
        reason="I know them.",
        by=four[1],
        now=timezone.now(),
    )
    boards.decide_tie(tied, choice="for", reason="Yes.", by=four[0], now=timezone.now())
    for statement in (f"UPDATE board_{table} SET id = id + 1000", f"DELETE FROM board_{table}"):
        with (
            pytest.raises(IntegrityError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
