"""The board: motions, votes, recusal, and what a carried motion does."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from governance.board import services as boards
from governance.board.models import Motion, Recusal, Vote
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.institutions.models import Membership
from tests import factories


@pytest.fixture
def motion(programme, board) -> Motion:
    institution = factories.applied_institution("Lake Hospital")
    found = boards.refer_institution(institution.pk, now=timezone.now())
    assert found is not None
    return found


def cast(motion: Motion, voter: User, choice: str = "for", reason: str = "") -> Motion:
    return boards.cast_vote(motion, choice=choice, reason=reason, by=voter, now=timezone.now())


def test_the_vote_that_settles_it_admits_the_applicant(motion):
    factories.vote_all(motion)
    motion.institution.refresh_from_db()
    assert (motion.status, motion.institution.status) == ("carried", "member")


def test_a_lost_motion_declines_with_the_reasons(motion):
    factories.vote_all(motion, "against", "No ethics approval.")
    motion.institution.refresh_from_db()
    assert motion.institution.status == "declined"
    assert motion.institution.decision_reason.startswith("The board voted against it. No ethics approval.")


def test_an_application_is_referred_once(motion):
    assert boards.refer_institution(motion.institution_id, now=timezone.now()) is None


def test_a_member_votes_once(motion, chair):
    cast(motion, chair)
    with pytest.raises(boards.VoteRefused):
        cast(motion, chair, "against", "Changed my mind.")


def test_a_vote_against_needs_a_reason(motion, chair):
    with pytest.raises(boards.VoteRefused):
        cast(motion, chair, "against", "  ")


def test_a_superuser_cannot_vote(motion):
    root = User.objects.create_superuser("root@example.org", name="Root")
    with pytest.raises(NotAllowed):
        cast(motion, root)


def test_a_member_of_the_applicant_is_recused(motion, board_member):
    Membership.objects.create(user=board_member, institution=motion.institution, role=Membership.Role.MEMBER)
    with pytest.raises(NotAllowed, match="recused"):
        cast(motion, board_member)
    assert boards.count(motion, now=timezone.now()).eligible == 2


def test_who_steps_aside_cannot_vote(motion, board_member):
    boards.recuse(motion, reason="We wrote a paper together.", by=board_member, now=timezone.now())
    with pytest.raises(NotAllowed, match="recused"):
        cast(motion, board_member)


def test_the_log_says_who_voted_and_not_how(motion, chair):
    cast(motion, chair, "abstain", "I do not know them.")
    event = AuditEvent.objects.get(verb="vote.cast")
    assert (event.actor_id, event.subject_id, event.facts) == (chair.pk, motion.pk, {})


def test_a_motion_on_a_withdrawn_application_is_taken_back(motion):
    institutions.withdraw(motion.institution, by=factories.person_of(motion.institution), now=timezone.now())
    assert boards.close_moot(now=timezone.now()) == 1
    motion.refresh_from_db()
    assert motion.status == "withdrawn"


def test_a_motion_without_a_quorum_lapses_at_its_time(motion, chair):
    cast(motion, chair)
    assert boards.due(now=motion.closes_at) == [motion.pk]
    boards.close_due(motion.pk, now=motion.closes_at)
    asked = list(Motion.objects.order_by("pk").values_list("title", "status"))
    assert asked == [("Admit Lake Hospital", "lapsed"), ("Admit Lake Hospital", "open")]


# The database repeats the rules


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"status": "decided", "closed_at": timezone.now()}, "motion_status_known"),
        ({"status": "carried"}, "motion_closed_at_iff_closed"),
        ({"kind": "release_model"}, "motion_has_its_subject"),
        ({"threshold_percent": 40}, "motion_rule_in_range"),
        ({"quorum": 0}, "motion_rule_in_range"),
    ],
)
def test_motion_constraints(motion, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Motion.objects.filter(pk=motion.pk).update(**changes)


def test_one_open_motion_per_applicant(motion):
    twin = Motion.objects.get(pk=motion.pk)
    twin.pk = None
    with pytest.raises(IntegrityError, match="one_open_motion_per_applicant"), transaction.atomic():
        twin.save()


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"choice": "maybe", "reason": "?"}, "vote_choice_known"),
        ({"choice": "against"}, "vote_reason_unless_for"),
    ],
)
def test_vote_constraints(motion, chair, facts, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Vote.objects.create(motion=motion, voter=chair, cast_at=timezone.now(), **facts)


def test_the_database_refuses_a_vote_on_ones_own_institution(motion, chair):
    own = {"voter_institution": motion.institution, "subject_institution": motion.institution}
    with pytest.raises(IntegrityError, match="vote_not_on_own_institution"), transaction.atomic():
        Vote.objects.create(motion=motion, voter=chair, choice="for", cast_at=timezone.now(), **own)


def test_one_vote_and_one_recusal_per_member(motion, chair):
    cast(motion, chair)
    with pytest.raises(IntegrityError, match="one_vote_per_member"), transaction.atomic():
        Vote.objects.create(motion=motion, voter=chair, choice="for", cast_at=timezone.now())
    Recusal.objects.create(motion=motion, member=chair, reason="?", declared_at=timezone.now())
    with pytest.raises(IntegrityError, match="one_recusal_per_member"), transaction.atomic():
        Recusal.objects.create(motion=motion, member=chair, reason="?", declared_at=timezone.now())


@pytest.mark.parametrize("statement", ["UPDATE board_vote SET choice = 'for'", "DELETE FROM board_vote"])
def test_votes_are_append_only(motion, chair, statement):
    cast(motion, chair, "abstain", "Not sure.")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert list(Vote.objects.values_list("choice", flat=True)) == ["abstain"]


# Pages


def test_the_docket_is_closed_to_others(motion, researcher, sign_in):
    assert sign_in(researcher).get("/board/").status_code == 403


def test_a_motion_is_not_found_by_others(motion, researcher, sign_in):
    assert sign_in(researcher).get(f"/board/motions/{motion.pk}/").status_code == 404
