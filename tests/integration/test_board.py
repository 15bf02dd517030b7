"""The board: ballots, what a decided motion does, ties, quorum, and the same rules in the database."""

from datetime import timedelta

import pytest
from django.utils import timezone

from governance.board import services as boards
from governance.board.models import CastingVote, Motion, Vote
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import merging
from portal.institutions import services as institutions
from tests import factories
from tests.factories import cast

DAY = timedelta(days=1)


# What a decision does


def test_the_vote_that_settles_it_admits_the_applicant(motion):
    factories.vote_all(motion)
    motion.institution.refresh_from_db()
    assert (motion.status, motion.institution.status) == ("carried", "member")


def test_it_closes_when_the_missing_votes_cannot_change_it(programme):
    people = factories.board(5)
    motion = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=timezone.now())
    states = []
    for voter in people[:3]:
        cast(motion, voter)
        motion.refresh_from_db()
        states.append(motion.status)
    assert states == ["open", "open", "carried"]
    kept = {name: motion.arithmetic[name] for name in ("result", "votes_for", "eligible", "quorum", "threshold")}
    assert kept == {"result": "carried", "votes_for": 3, "eligible": 5, "quorum": 3, "threshold": "majority"}


def test_a_lost_motion_declines_with_the_reasons(motion):
    factories.vote_all(motion, "against", "No ethics approval.")
    motion.institution.refresh_from_db()
    assert motion.institution.status == "declined"
    assert motion.institution.decision_reason == "The board voted against it. No ethics approval."


def test_an_application_is_referred_once(motion):
    assert boards.refer_institution(motion.institution_id, now=timezone.now()) is None


def test_decisions_are_numbered_by_the_year_without_gaps(motion, institution):
    other = boards.refer_institution(factories.applied_institution("Other").pk, now=timezone.now())
    factories.vote_all(other)
    factories.vote_all(motion, "against", "No.")
    year = timezone.now().year
    assert [str(row.decision) for row in (other, motion)] == [f"D-{year}-0001", f"D-{year}-0002"]


# Ballots


def test_the_same_ballot_again_changes_nothing(motion, chair):
    cast(motion, chair)
    cast(motion, chair)
    assert list(Vote.objects.values_list("number", "choice")) == [(1, "for")]


def test_a_changed_ballot_counts_and_the_old_one_is_kept(motion, chair):
    cast(motion, chair, "against", "Not yet.")
    cast(motion, chair)
    assert list(Vote.objects.values_list("number", "choice", "reason")) == [(1, "against", "Not yet."), (2, "for", "")]
    counted = boards.count(motion, now=timezone.now())
    assert (counted.votes_for, counted.votes_against) == (1, 0)
    assert list(AuditEvent.objects.filter(verb__startswith="vote.").order_by("pk").values_list("verb", flat=True)) == [
        "vote.cast",
        "vote.changed",
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"choice": "against", "reason": "  "},
        {"choice": "abstain"},
        {"choice": "perhaps", "reason": "?"},
        {"choice": "against", "reason": "No.", "conditions": ["Send the approval."]},
        {"choice": "for", "conditions": [f"Condition {number}" for number in range(11)]},
    ],
)
def test_what_may_not_go_on_record(motion, chair, said):
    with pytest.raises(boards.VoteRefused):
        cast(motion, chair, **said)
    assert Vote.objects.count() == 0


def test_no_vote_before_the_question_about_interests_is_answered(motion, chair):
    with pytest.raises(boards.NotDeclared) as refused:
        boards.cast_vote(motion, choice="for", by=chair, now=timezone.now())
    assert refused.value.next_url == f"/board/motions/{motion.pk}/declare/"


def test_a_superuser_cannot_vote_even_with_a_seat(motion, board_member):
    root = User.objects.create_superuser("root@example.org", name="Root")
    with pytest.raises(NotAllowed):
        boards.cast_vote(motion, choice="for", by=root, now=timezone.now())
    factories.declare(motion, board_member)
    User.objects.filter(pk=board_member.pk).update(is_superuser=True)
    with pytest.raises(NotAllowed):
        boards.cast_vote(motion, choice="for", by=board_member, now=timezone.now())


def test_no_vote_after_the_end(motion, chair):
    factories.declare(motion, chair)
    with pytest.raises(boards.VoteRefused):
        boards.cast_vote(motion, choice="for", by=chair, now=motion.closes_at)


def test_the_log_says_who_voted_and_not_how(motion, chair):
    cast(motion, chair, "abstain", "I do not know them.")
    event = AuditEvent.objects.get(verb="vote.cast")
    assert (event.actor_id, event.subject_id, event.facts) == (chair.pk, motion.pk, {})


def test_members_of_one_institution_have_one_vote_together(programme):
    people = factories.board(5)
    host = factories.member_institution("Big Hospital")
    for person in people[:3]:
        factories.join(host, person)
    boards.set_rule("admit_institution", None, per_institution=True, by=people[0], now=timezone.now())
    motion = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=timezone.now())
    for person in people[:3]:
        cast(motion, person)
    counted = boards.count(motion, now=timezone.now())
    assert (counted.votes_for, counted.eligible, counted.result) == (1, 3, "open")


# A tie


def test_the_chair_decides_a_tie(tied, four):
    assert tied.status == "tied"
    boards.decide_tie(tied, choice="for", reason="Their ethics board has answered.", by=four[0], now=timezone.now())
    tied.refresh_from_db()
    tied.institution.refresh_from_db()
    assert (tied.status, tied.institution.status, tied.casting_vote.choice) == ("carried", "member", "for")


def test_only_the_chair_decides_a_tie_and_with_a_reason(tied, four):
    with pytest.raises(NotAllowed):
        boards.decide_tie(tied, choice="for", reason="Yes.", by=four[1], now=timezone.now())
    with pytest.raises(boards.VoteRefused):
        boards.decide_tie(tied, choice="for", reason=" ", by=four[0], now=timezone.now())
    assert CastingVote.objects.count() == 0


def test_a_tie_that_the_chair_leaves_is_lost(tied):
    boards.sweep(now=tied.closes_at + 6 * DAY)
    tied.refresh_from_db()
    assert tied.status == "tied"
    boards.sweep(now=tied.closes_at + 7 * DAY)
    tied.refresh_from_db()
    assert (tied.status, tied.arithmetic["result"]) == ("lost", "tie")


def test_who_chairs_another_board_is_no_chair_of_this_one(institution, programme, board):
    elsewhere = factories.user("Chair of Chest")
    accounts.appoint(elsewhere, "chair", programme=factories.programme("chest"), by=None, now=timezone.now())
    accounts.appoint(elsewhere, "board_member", programme=programme, by=None, now=timezone.now())
    found = Motion.objects.get(contribution=factories.reviewed_contribution(institution))
    assert list(boards.chairs(found)) == [board[0]]
    assert (boards.is_secretary(board[0], found), boards.is_secretary(elsewhere, found)) == (True, False)


def test_the_chair_of_the_consortium_leaves_a_tie_to_the_programmes_own(institution, programme, board):
    own = factories.user("Chair of Retina")
    accounts.appoint(own, "chair", programme=programme, by=None, now=timezone.now())
    seat = accounts.appoint(board[0], "board_member", programme=programme, by=None, now=timezone.now())
    accounts.end_role(seat, by=None, now=timezone.now())
    found = Motion.objects.get(contribution=factories.reviewed_contribution(institution))
    assert list(boards.chairs(found)) == [own]


def test_the_vote_of_two_that_were_merged_is_one(programme, operator):
    people = factories.board(4)
    hosts = [factories.member_institution(name) for name in ("Big Hospital", "Old Hospital")]
    for host, person in zip(hosts, people, strict=False):
        factories.join(host, person)
    boards.set_rule("admit_institution", None, per_institution=True, by=people[0], now=timezone.now())
    motion = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=timezone.now())
    for person in people[:2]:
        cast(motion, person)
    assert (counted(motion).votes_for, counted(motion).eligible) == (2, 4)
    merging.merge(hosts[1], hosts[0], by=operator, now=timezone.now())
    assert (counted(motion).votes_for, counted(motion).eligible) == (1, 3)


def counted(motion: Motion):
    return boards.count(motion, now=timezone.now())


# Quorum and the clock


def test_without_a_quorum_it_is_extended_once_and_lapses(motion, chair, operator):
    cast(motion, chair)
    end = motion.closes_at
    boards.sweep(now=end)
    motion.refresh_from_db()
    assert (motion.status, motion.closes_at, motion.extended_at) == ("open", end + 7 * DAY, end)
    boards.sweep(now=end + 7 * DAY)
    boards.sweep(now=end + 8 * DAY)
    motion.refresh_from_db()
    motion.institution.refresh_from_db()
    assert (motion.status, motion.institution.status) == ("lapsed", "applied")
    assert Motion.objects.count() == 1
    again = boards.put_again(motion, by=operator, now=end + 9 * DAY)
    assert (again.status, again.institution, again.round) == ("open", motion.institution, motion.round)
    with pytest.raises(boards.NotPossibleNow):
        boards.put_again(motion, by=operator, now=end + 9 * DAY)


def test_what_was_put_again_and_taken_back_can_be_put_again(motion, operator):
    boards.sweep(now=motion.closes_at)
    boards.sweep(now=motion.closes_at + 7 * DAY)
    motion.refresh_from_db()
    again = boards.put_again(motion, by=operator, now=timezone.now())
    boards.take_back(again, reason="Half the board is away.", by=operator, now=timezone.now())
    boards.sweep(now=timezone.now())
    assert set(Motion.objects.values_list("status", flat=True)) == {"lapsed", "withdrawn"}
    assert boards.put_again(motion, by=operator, now=timezone.now()).status == "open"


def test_only_the_secretary_puts_it_again(motion, board_member):
    with pytest.raises(NotAllowed):
        boards.put_again(motion, by=board_member, now=timezone.now())


def test_who_has_not_voted_is_reminded_twice(motion, board):
    cast(motion, board[0])
    for days in (3, 3, 1, 1):
        boards.sweep(now=motion.closes_at - days * DAY)
    subject = f"Your vote is missing: {motion}"
    told = [person.notifications.filter(subject=subject).count() for person in board]
    assert told == [0, 2, 2]


def test_a_motion_on_a_withdrawn_application_is_taken_back(motion):
    institutions.withdraw(motion.institution, by=factories.person_of(motion.institution), now=timezone.now())
    assert boards.close_moot(now=timezone.now()) == 1
    motion.refresh_from_db()
    assert (motion.status, hasattr(motion, "decision")) == ("withdrawn", False)


# The rule


def test_an_open_motion_without_a_ballot_follows_its_rule(motion, chair):
    boards.set_rule("admit_institution", None, quorum_floor=2, threshold="unanimous", by=chair, now=timezone.now())
    motion.refresh_from_db()
    assert (motion.quorum_floor, motion.threshold) == (2, "unanimous")


def test_the_first_ballot_freezes_the_rule(motion, chair):
    cast(motion, chair)
    boards.set_rule("admit_institution", None, quorum_floor=1, by=chair, now=timezone.now())
    motion.refresh_from_db()
    assert motion.quorum_floor == 3


def test_a_programme_has_its_own_rule(programme, institution, chair):
    boards.set_rule("approve_contribution", programme, threshold="two_thirds", by=chair, now=timezone.now())
    boards.set_rule("approve_contribution", None, threshold="unanimous", by=chair, now=timezone.now())
    motion = factories.reviewed_contribution(institution).motions.get()
    assert motion.threshold == "two_thirds"


def test_only_the_chair_and_operators_set_rules(board_member):
    with pytest.raises(NotAllowed):
        boards.set_rule("admit_institution", None, quorum_floor=1, by=board_member, now=timezone.now())


# Pages


def test_the_docket_is_closed_to_others(motion, researcher, sign_in):
    assert sign_in(researcher).get("/board/").status_code == 403


def test_a_motion_is_not_found_by_others(motion, researcher, sign_in):
    assert sign_in(researcher).get(f"/board/motions/{motion.pk}/").status_code == 404
