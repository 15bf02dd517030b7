"""Who does not vote: by the rules, by own decision, and what that does to the count."""

from datetime import date

import pytest
from dateutil.relativedelta import relativedelta
from django.utils import timezone

from contributions import services as contributions
from governance.board import services as boards
from governance.board.models import Interest, Motion, Recusal
from portal.accounts import services as accounts
from portal.errors import NotAllowed
from portal.institutions.models import Membership
from tests import factories


def bases(motion: Motion) -> list[tuple[int, str]]:
    boards.sync_recusals(motion, now=timezone.now())
    return list(motion.recusals.order_by("pk").values_list("member", "basis"))


def seat(person) -> None:
    accounts.appoint(person, "board_member", by=None, now=timezone.now())


def test_a_member_of_the_applicant_is_recused(motion, board_member):
    factories.join(motion.institution, board_member)
    assert bases(motion) == [(board_member.pk, "institution")]
    with pytest.raises(NotAllowed, match="belongs to Lake Hospital"):
        boards.declare(motion, answer="none", by=board_member, now=timezone.now())
    assert boards.count(motion, now=timezone.now()).eligible == 2


def test_a_recused_chair_does_not_run_the_business_of_the_motion(institution, board, operator):
    factories.join(institution, board[0])
    motion = Motion.objects.get(contribution=factories.reviewed_contribution(institution))
    assert bases(motion) == [(board[0].pk, "institution")]
    assert (boards.is_secretary(board[0], motion), boards.is_secretary(operator, motion)) == (False, True)
    reviewer = motion.reviews.earliest("pk")
    with pytest.raises(NotAllowed):
        boards.assign_reviewer(motion, board[1], instead_of=reviewer, by=board[0], now=timezone.now())
    with pytest.raises(NotAllowed):
        boards.return_for_changes(motion, note="Another title.", by=board[0], now=timezone.now())


def test_who_left_the_institution_stays_recused_on_what_was_open(motion, board_member):
    membership = factories.join(motion.institution, board_member)
    bases(motion)
    Membership.objects.filter(pk=membership.pk).update(ended_at=timezone.now())
    assert bases(motion) == [(board_member.pk, "institution")]


def test_who_made_or_signed_a_contribution_is_recused_wherever_they_are_now(institution, board, programme):
    steward = factories.person_of(institution, Membership.Role.STEWARD)
    official = factories.person_of(institution, Membership.Role.SIGNING_OFFICIAL)
    signatory = factories.signatory()
    contribution = factories.submitted_contribution(institution)
    for person in (steward, official):
        institution.memberships.filter(user=person).update(ended_at=timezone.now())
    for person in (steward, official, signatory):
        seat(person)

    contributions.begin_validation(contribution.pk, now=timezone.now())
    contributions.promote_files(contribution.pk)
    motion = boards.refer_contribution(contribution.pk, now=timezone.now())
    assert sorted(bases(motion)) == sorted([(steward.pk, "cosigned"), (official.pk, "cosigned")])
    assert boards.can_vote(signatory, motion)  # who countersigns for the consortium has not signed for the institution


def interest(motion: Motion, member, *, ended_on: date | None = None) -> Interest:
    row = boards.register_interest(
        nature="authorship", institution=motion.institution, note="A paper.", by=member, now=timezone.now()
    )
    Interest.objects.filter(pk=row.pk).update(ended_on=ended_on)
    return row


def test_a_declared_interest_recuses_at_once(motion, board_member):
    interest(motion, board_member)
    assert list(motion.recusals.values_list("member", "basis")) == [(board_member.pk, "interest")]
    assert "declared an interest: A paper or grant in common: Lake Hospital" in motion.recusals.get().reason


@pytest.mark.parametrize(("days", "recuses"), [(0, True), (1, False)])
def test_an_interest_counts_for_36_months(programme, board, days, recuses):
    institution = factories.applied_institution("Lake Hospital")
    ended_on = timezone.now().date() - relativedelta(months=36, days=days)
    Interest.objects.create(member=board[1], nature="employment", institution=institution, note="?", ended_on=ended_on)
    motion = boards.refer_institution(institution.pk, now=timezone.now())
    assert motion is not None
    assert bool(bases(motion)) is recuses


def test_an_interest_with_another_does_not_recuse_and_is_brought_to_mind(motion, board_member):
    boards.register_interest(
        nature="financial", institution=None, organisation="Lens GmbH", note="Shares.", by=board_member,
        now=timezone.now(),
    )  # fmt: skip
    assert bases(motion) == []
    assert boards.hits_for(board_member, motion) == ["Money: shares, fees, patents, funding: Lens GmbH"]


def test_the_person_concerned_is_recused(programme, board, operator):
    motion = boards.propose_seat(
        board[1], role="chair", programme=None, term_ends_on=date(2099, 1, 1), reason="Good.", by=operator,
        now=timezone.now(),
    )  # fmt: skip
    assert bases(motion) == [(board[1].pk, "person")]


def test_stepping_aside_after_voting_takes_the_ballot_out_of_the_count(motion, board):
    factories.cast(motion, board[0])
    boards.recuse(motion, reason="They have asked me to join.", by=board[0], now=timezone.now())
    counted = boards.count(motion, now=timezone.now())
    assert (counted.cast, counted.eligible, motion.votes.count()) == (0, 2, 1)
    with pytest.raises(NotAllowed, match="They have asked me to join"):
        factories.cast(motion, board[0])


def test_joining_the_institution_after_voting_does_too(motion, board):
    factories.cast(motion, board[0])
    factories.join(motion.institution, board[0])
    boards.sweep(now=timezone.now())
    counted = boards.count(motion, now=timezone.now())
    assert (counted.cast, counted.eligible) == (0, 2)


def test_the_question_is_answered_once_and_with_a_note(motion, chair):
    with pytest.raises(boards.VoteRefused):
        boards.declare(motion, answer="stay", note=" ", by=chair, now=timezone.now())
    boards.declare(motion, answer="stay", note="I once visited.", by=chair, now=timezone.now())
    with pytest.raises(boards.AlreadyDeclared):
        boards.declare(motion, answer="none", by=chair, now=timezone.now())


def test_nobody_steps_aside_from_what_is_decided(motion, board):
    factories.vote_all(motion)
    with pytest.raises(boards.VoteRefused):
        boards.recuse(motion, reason="Late.", by=board[0], now=timezone.now())
    assert Recusal.objects.count() == 0


# Reviewers


def test_two_reviewers_with_the_least_work_look_first(institution, outsider, programme):
    people = factories.board(5)
    first = factories.reviewed_contribution(institution).motions.get()
    other = outsider.memberships.get().institution
    second = factories.reviewed_contribution(other, b"other").motions.get()
    assert [row.reviewer for row in first.reviews.all()] == people[:2]
    assert [row.reviewer for row in second.reviews.all()] == people[2:4]
    assert (first.status, first.closes_at) == ("reviewing", None)


def test_the_ballot_opens_when_both_have_finished_whatever_they_recommend(institution, board):
    motion = factories.reviewed_contribution(institution).motions.get()
    one, _ = [row.reviewer for row in motion.reviews.all()]
    factories.declare(motion)
    answers = dict.fromkeys(factories.QUESTIONS, "unclear")
    said = {"answers": answers, "recommendation": "reject", "note": "No.", "by": one, "now": timezone.now()}
    with pytest.raises(boards.VoteRefused):
        boards.submit_review(motion, **{**said, "answers": {}})
    boards.submit_review(motion, **said)
    motion.refresh_from_db()
    assert motion.status == "reviewing"
    with pytest.raises(boards.NotPossibleNow):
        boards.submit_review(motion, **said)
    factories.review_all(motion)
    assert motion.status == "open"
    assert motion.closes_at is not None


def test_a_reviewer_who_steps_aside_is_replaced(institution, programme):
    people = factories.board(4)
    motion = factories.reviewed_contribution(institution).motions.get()
    boards.recuse(motion, reason="I know them.", by=people[0], now=timezone.now())
    assert [row.reviewer for row in motion.reviews.current()] == people[1:3]


def test_the_sweep_replaces_who_left_the_board(institution, programme):
    people = factories.board(4)
    motion = factories.reviewed_contribution(institution).motions.get()
    accounts.end_role(people[1].consortium_roles.get(), by=None, now=timezone.now())
    boards.sweep(now=timezone.now())
    assert [row.reviewer for row in motion.reviews.current()] == [people[0], people[2]]


def test_a_late_reviewer_is_reminded_once(institution, board):
    motion = factories.reviewed_contribution(institution).motions.get()
    late = timezone.now() + relativedelta(days=10)
    boards.sweep(now=late)
    boards.sweep(now=late)
    reviewer = motion.reviews.earliest("pk").reviewer
    assert reviewer.notifications.filter(subject__startswith="Your review is late").count() == 1
