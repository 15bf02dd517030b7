"""A case beyond its ballot, through the pages: reviews, notes, the applicant's side, conditions, the secretary."""

import re

import pytest
from django.utils import timezone

from governance.board import conditions
from governance.board import services as boards
from governance.board.models import Comment, Condition, Motion
from governance.board.reviews import QUESTIONS
from portal.accounts import services
from portal.errors import NotAllowed
from portal.institutions.models import Membership
from tests import factories

ANSWERS = dict.fromkeys(QUESTIONS, "yes")
BOARD_ONLY = "Their numbers look too good."


@pytest.fixture
def motion(institution, board) -> Motion:
    """A contribution before its reviewers."""
    return factories.reviewed_contribution(institution).motions.get()


@pytest.fixture
def manager(institution):
    return factories.person_of(institution, Membership.Role.STEWARD)


def page_of(motion: Motion) -> str:
    return f"/board/motions/{motion.pk}/"


def text_of(client, page: str) -> str:
    return re.sub(r"\s+", " ", client.get(page).content.decode())


def reviewers(motion: Motion):
    return [review.reviewer for review in motion.reviews.current()]


def conditioned(motion: Motion) -> Condition:
    """The condition of a motion that was carried with one."""
    factories.review_all(motion)
    for voter in boards.electorate(motion):
        motion.refresh_from_db()
        if motion.status == "open":
            factories.cast(motion, voter, conditions=["Name the camera."])
    return Condition.objects.get()


# Reviews


def test_a_review_is_written_on_the_page(motion, sign_in):
    first, second = reviewers(motion)
    factories.declare(motion)
    client = sign_in(first)
    assert client.post(f"{page_of(motion)}review/", {**ANSWERS, "recommendation": "approve"}).status_code == 422
    said = {**ANSWERS, "recommendation": "approve", "note": "Sound."}
    assert client.post(f"{page_of(motion)}review/", said).status_code == 302
    assert "Sound." not in text_of(sign_in(second), page_of(motion))
    sign_in(second).post(f"{page_of(motion)}review/", {**said, "note": "Agreed."})
    motion.refresh_from_db()
    assert motion.status == "open"
    assert "Sound." in text_of(sign_in(second), page_of(motion))


def test_who_reviews_nothing_sends_no_review(motion, board, sign_in):
    third = next(person for person in board if person not in reviewers(motion))
    factories.declare(motion)
    said = {**ANSWERS, "recommendation": "approve", "note": "Sound."}
    assert sign_in(third).post(f"{page_of(motion)}review/", said).status_code == 409


def test_who_keeps_only_the_seat_of_another_board_reviews_for_this_one_no_more(motion, now):
    left = reviewers(motion)[1]
    services.appoint(left, "board_member", programme=factories.programme("chest"), by=None, now=now)
    services.end_role(left.consortium_roles.current().get(programme=None), by=None, now=now)
    boards.sweep(now=now)
    assert (left in reviewers(motion), len(reviewers(motion))) == (False, 2)


def test_a_reviewer_returns_it_for_changes(motion, manager, sign_in):
    first = reviewers(motion)[0]
    factories.declare(motion)
    sign_in(first).post(
        f"{page_of(motion)}review/", {**ANSWERS, "recommendation": "return", "note": "Name the camera."}
    )
    motion.refresh_from_db()
    motion.contribution.refresh_from_db()
    assert (motion.status, motion.contribution.status) == ("returned", "returned")
    client = sign_in(manager)
    assert "Name the camera." in text_of(client, motion.contribution.get_absolute_url())
    assert client.post(f"/contributions/{motion.contribution_id}/replace/").status_code == 302


def test_the_chair_gives_a_review_to_another(motion, board, chair, sign_in):
    review = motion.reviews.current().exclude(reviewer=chair).first()
    third = next(person for person in board if person not in reviewers(motion))
    client = sign_in(chair)
    said = {"reviewer": third.pk, "instead_of": review.pk}
    assert client.post(f"{page_of(motion)}reviewers/", said).status_code == 302
    assert third in reviewers(motion)
    assert review.reviewer not in reviewers(motion)
    assert sign_in(board[1]).post(f"{page_of(motion)}reviewers/", said).status_code == 403


# Notes


def test_the_two_sides_of_the_discussion_are_apart(motion, chair, manager, sign_in):
    factories.declare(motion, chair)
    client = sign_in(chair)
    client.post(f"{page_of(motion)}comment/", {"audience": "board", "text": BOARD_ONLY})
    client.post(f"{page_of(motion)}comment/", {"audience": "applicant", "text": "Which camera?"})
    both = text_of(client, page_of(motion))
    assert (BOARD_ONLY in both, "Which camera?" in both) == (True, True)
    theirs = text_of(sign_in(manager), f"{page_of(motion)}applicant/")
    assert (BOARD_ONLY in theirs, "Which camera?" in theirs) == (False, True)
    assert manager.notifications.filter(text="Which camera?").count() == 1
    assert manager.notifications.filter(text__contains=BOARD_ONLY).count() == 0


def test_the_institution_answers(motion, chair, manager, outsider, sign_in):
    client = sign_in(manager)
    assert client.post(f"{page_of(motion)}reply/", {"text": " "}).status_code == 422
    assert client.post(f"{page_of(motion)}reply/", {"text": "A Topcon."}).status_code == 302
    assert list(Comment.objects.values_list("author", "audience", "text")) == [(manager.pk, "applicant", "A Topcon.")]
    factories.declare(motion, chair)
    assert "A Topcon." in text_of(sign_in(chair), page_of(motion))
    for action in ("applicant", "reply"):
        assert sign_in(outsider).get(f"{page_of(motion)}{action}/").status_code in {404, 405}
    assert sign_in(outsider).post(f"{page_of(motion)}reply/", {"text": "?"}).status_code == 404


@pytest.mark.parametrize("person", ["auditor", "steward"])
def test_who_has_no_part_in_the_discussion(motion, person, sign_in, request):
    status = sign_in(request.getfixturevalue(person)).post(
        f"{page_of(motion)}comment/", {"audience": "board", "text": "?"}
    )
    assert status.status_code == {"auditor": 403, "steward": 404}[person]
    assert Comment.objects.count() == 0


def test_the_applicant_reads_where_it_stands_and_not_who_votes_how(motion, chair, manager, sign_in):
    factories.vote_all(motion, "against", BOARD_ONLY)
    text = text_of(sign_in(manager), f"{page_of(motion)}applicant/")
    assert f"Decision {motion.decision}: lost." in text
    assert chair.name not in text


# Conditions


def test_a_condition_is_reported_and_settled(motion, chair, manager, sign_in):
    row = conditioned(motion)
    assert "Name the camera." in text_of(sign_in(manager), "/board/conditions/")
    assert sign_in(manager).post(f"/board/conditions/{row.pk}/report/", {"text": ""}).status_code == 409
    sign_in(manager).post(f"/board/conditions/{row.pk}/report/", {"text": "A Topcon NW400."})
    row.refresh_from_db()
    assert (row.status, row.report) == ("reported", "A Topcon NW400.")
    client = sign_in(chair)
    assert client.post(f"/board/conditions/{row.pk}/settle/", {"status": "waived", "text": ""}).status_code == 409
    client.post(f"/board/conditions/{row.pk}/settle/", {"status": "met"})
    row.refresh_from_db()
    assert (row.status, row.settled_by) == ("met", chair)


def test_others_do_not_touch_a_condition(motion, board_member, outsider, auditor, sign_in):
    row = conditioned(motion)
    assert sign_in(outsider).post(f"/board/conditions/{row.pk}/report/", {"text": "Done."}).status_code == 404
    for person in (board_member, auditor):
        client = sign_in(person)
        assert client.post(f"/board/conditions/{row.pk}/report/", {"text": "Done."}).status_code == 403
        assert client.post(f"/board/conditions/{row.pk}/settle/", {"status": "met"}).status_code == 403
    assert "Name the camera." not in text_of(sign_in(outsider), "/board/conditions/")
    row.refresh_from_db()
    assert row.status == "open"


def test_who_belongs_to_the_institution_settles_none_of_its_conditions(motion, chair, operator):
    row = conditioned(motion)
    for person in (chair, operator):
        factories.join(motion.institution, person)
        with pytest.raises(NotAllowed, match="nobody who is recused from its motion or belongs"):
            conditions.settle(row, status="met", note="", by=person, now=timezone.now())
    row.refresh_from_db()
    assert row.status == "open"


# The secretary


def test_the_secretary_returns_nudges_and_puts_again(motion, operator, board, sign_in):
    client = sign_in(operator)
    factories.review_all(motion)
    assert client.post(f"{page_of(motion)}nudge/").status_code == 302
    subject = f"Your vote is missing: {motion}"
    assert [person.notifications.filter(subject=subject).count() for person in board] == [1, 1, 1]
    assert client.post(f"{page_of(motion)}again/").status_code == 409
    assert client.post(f"{page_of(motion)}return/", {"text": ""}).status_code == 409
    assert client.post(f"{page_of(motion)}return/", {"text": "Name the camera."}).status_code == 302
    motion.refresh_from_db()
    assert (motion.status, motion.reason) == ("returned", "Name the camera.")


@pytest.mark.parametrize("action", ["return", "again", "nudge", "reviewers", "take-back"])
def test_a_member_is_not_the_secretary(motion, board_member, action, sign_in):
    assert sign_in(board_member).post(f"{page_of(motion)}{action}/", {"text": "?"}).status_code == 403


def test_a_proposal_is_taken_back_by_who_made_it(programme, board, operator, sign_in):
    row = boards.propose_seat(
        factories.user("New Person"),
        role="board_member",
        programme=None,
        term_ends_on=timezone.now().date().replace(year=2028),
        reason="Knows the field.",
        by=board[1],
        now=timezone.now(),
    )
    assert sign_in(board[2]).post(f"{page_of(row)}take-back/", {"text": "No."}).status_code == 403
    factories.declare(row, *board)
    offers = ["Take the motion back" in text_of(sign_in(person), page_of(row)) for person in board]
    assert offers == [True, True, False]  # the chair, who proposed it, another
    assert sign_in(board[1]).post(f"{page_of(row)}take-back/", {"text": "She declined."}).status_code == 302
    row.refresh_from_db()
    assert (row.status, row.reason) == ("withdrawn", "She declined.")
