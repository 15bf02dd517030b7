"""Each rule of the tables around a motion, broken once."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions.models import Contribution
from governance.board import meetings
from governance.board import services as boards
from governance.board.models import (
    AgendaItem,
    Attendance,
    BallotRule,
    Comment,
    Condition,
    Decision,
    Declaration,
    Interest,
    Meeting,
    MinorityOpinion,
    Motion,
    Review,
)
from tests import factories, publishing

NOW = timezone.now()


@pytest.fixture
def motion(institution, board) -> Motion:
    return factories.reviewed_contribution(institution).motions.get()


@pytest.fixture
def meeting(motion, chair) -> Meeting:
    later = timezone.now() + timedelta(days=1)
    return meetings.call(
        title="M", starts_at=later, ends_at=later + timedelta(hours=1), place="R", motions=[motion],
        points=["One"], by=chair, now=timezone.now(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"kind": "coup"}, "rule_kind_known"),
        ({"kind": "give_seat", "quorum_floor": 0}, "rule_in_range"),
        ({"kind": "give_seat", "quorum_percent": 101}, "rule_in_range"),
        ({"kind": "give_seat", "days": 0}, "rule_in_range"),
        ({"kind": "give_seat", "reviewers": 6}, "rule_in_range"),
        ({"kind": "give_seat", "electorate": "everybody"}, "rule_in_range"),
    ],
)
def test_rules(db, facts, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        BallotRule.objects.create(**facts)


def test_one_rule_per_kind_and_programme(db):
    BallotRule.objects.create(kind="give_seat")
    with pytest.raises(IntegrityError, match="one_rule_per_kind_and_programme"), transaction.atomic():
        BallotRule.objects.create(kind="give_seat")


def test_interests(institution, chair):
    facts = {"member": chair, "note": "?", "nature": "other"}
    for wrong, constraint in (
        ({"institution": institution, "organisation": "Both"}, "interest_is_with_one_party"),
        ({}, "interest_is_with_one_party"),
        ({"organisation": "One", "nature": "secret"}, "interest_nature_known"),
    ):
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Interest.objects.create(**{**facts, **wrong})


def test_declarations(motion, chair):
    with pytest.raises(IntegrityError, match="declaration_says_what"), transaction.atomic():
        Declaration.objects.create(motion=motion, member=chair, answer="stay", declared_at=NOW)


def test_reviews(motion):
    review = motion.reviews.earliest("pk")
    for wrong in (
        {"submitted_at": NOW},
        {"recommendation": "approve"},
        {"submitted_at": NOW, "recommendation": "return"},
    ):
        with pytest.raises(IntegrityError, match="review_submitted_with_its_recommendation"), transaction.atomic():
            Review.objects.filter(pk=review.pk).update(**wrong)
    with pytest.raises(IntegrityError, match="one_review_per_reviewer"), transaction.atomic():
        Review.objects.create(motion=motion, reviewer=review.reviewer, assigned_at=NOW, due_on=NOW)


def test_comments(motion, chair):
    for wrong, constraint in (({"audience": "press"}, "audience_known"), ({"text": ""}, "not_empty")):
        facts = {"audience": "board", "text": "?", **wrong}
        with pytest.raises(IntegrityError, match=f"comment_{constraint}"), transaction.atomic():
            Comment.objects.create(motion=motion, author=chair, written_at=NOW, **facts)


def test_decisions_and_opinions(motion, board):
    factories.vote_all(motion)
    decision = motion.decision
    with pytest.raises(IntegrityError, match="decision_numbers_start_at_one"), transaction.atomic():
        Decision.objects.create(motion=_other(motion), year=2026, number=0, decided_at=NOW)
    with pytest.raises(IntegrityError, match="one_decision_per_number"), transaction.atomic():
        Decision.objects.create(motion=_other(motion), year=decision.year, number=decision.number, decided_at=NOW)
    facts = {"decision": decision, "author": board[0], "filed_at": NOW}
    with pytest.raises(IntegrityError, match="opinion_not_empty"), transaction.atomic():
        MinorityOpinion.objects.create(**facts, text="")
    MinorityOpinion.objects.create(**facts, text="No.")
    with pytest.raises(IntegrityError, match="one_opinion_per_member"), transaction.atomic():
        MinorityOpinion.objects.create(**facts, text="Again.")


def _other(motion: Motion) -> Motion:
    found = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=NOW)
    assert found is not None
    return found


def test_conditions(motion):
    row = Condition.objects.create(motion=motion, institution=motion.institution, text="?", due_on=NOW)
    for wrong, constraint in (
        ({"status": "met"}, "condition_settled_at_iff_settled"),
        ({"settled_at": NOW}, "condition_settled_at_iff_settled"),
        ({"status": "gone"}, "condition_settled_at_iff_settled"),
        ({"status": "reported"}, "condition_reported_with_text"),
    ):
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Condition.objects.filter(pk=row.pk).update(**wrong)


def test_meetings(meeting, motion, chair):
    for wrong, constraint in (
        ({"ends_at": meeting.starts_at}, "meeting_ends_after_it_starts"),
        ({"minutes": "?"}, "meeting_minuted_at_iff_minutes"),
    ):
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Meeting.objects.filter(pk=meeting.pk).update(**wrong)
    for wrong, constraint in (
        ({"position": 1, "text": "?"}, "one_agenda_item_per_position"),
        ({"position": 9, "motion": motion}, "a_motion_is_once_on_an_agenda"),
        ({"position": 9}, "agenda_item_says_what"),
    ):
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            AgendaItem.objects.create(meeting=meeting, **wrong)
    with pytest.raises(IntegrityError, match="attendance_answer_known"), transaction.atomic():
        Attendance.objects.create(meeting=meeting, member=chair, answer="may", answered_at=NOW)
    Attendance.objects.create(meeting=meeting, member=chair, answer="yes", answered_at=NOW)
    with pytest.raises(IntegrityError, match="one_answer_per_member"), transaction.atomic():
        Attendance.objects.create(meeting=meeting, member=chair, answer="no", answered_at=NOW)


@pytest.mark.parametrize("name", ["contribution", "release", "agreement", "task", "person"])
def test_one_undecided_motion_about_a_thing(motion, chair, operator, programme, name):

    now = timezone.now()
    made = {
        "contribution": lambda: motion,
        "release": lambda: publishing.proposed_release(operator).motions.get(),
        "agreement": lambda: boards.propose_version(
            programme.agreements.get(), text="# A\n", change_note="?", is_material=False, by=operator, now=now
        ),
        "task": lambda: boards.propose_task(publishing.benchmark_task(programme), reason="?", by=operator, now=now),
        "person": lambda: boards.propose_seat(
            factories.user("P"), role="board_member", programme=None, term_ends_on=now.date() + timedelta(9),
            reason="?", by=operator, now=now,
        ),
    }  # fmt: skip
    twin = made[name]()
    twin.pk = None
    with pytest.raises(IntegrityError, match=f"one_undecided_motion_per_{name}"), transaction.atomic():
        twin.save(force_insert=True)


def test_a_returned_contribution_says_why(motion):
    boards.return_for_changes(motion, note="Which camera?", by=motion.reviews.earliest("pk").reviewer, now=NOW)
    with pytest.raises(IntegrityError, match="contribution_rejected_with_reason"), transaction.atomic():
        Contribution.objects.filter(pk=motion.contribution_id).update(reason="")
