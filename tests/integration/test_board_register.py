"""The public register of decisions, minority opinions, declared interests: what is public, and what is not."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from governance.board import services as boards
from governance.board.models import Interest, MinorityOpinion, Motion
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.institutions.vocabulary import Role
from tests import factories

AGAINST = "Their approval is from another hospital."


@pytest.fixture
def carried(motion, board) -> Motion:
    """Two for, the third member against."""
    for voter, choice in zip(board, ("for", "for", "against"), strict=True):
        factories.declare(motion, *board)
        boards.cast_vote(motion, choice=choice, reason=AGAINST, by=voter, now=timezone.now())
    motion.refresh_from_db()
    return motion


def text_of(client: Client, path: str) -> str:
    return re.sub(r"\s+", " ", client.get(path).content.decode())


def test_everybody_reads_a_decision_with_its_arithmetic_and_not_who_voted_how(carried, board, client):
    text = text_of(client, carried.decision.get_absolute_url())
    assert "2 for, 1 against, 0 abstained: 3 of 3 voted, the quorum is 3." in text
    assert "Admit Lake Hospital" in text
    for member in board:
        assert member.name not in text
    assert AGAINST not in text
    assert "Admit Lake Hospital" in text_of(client, "/decisions/")


def test_who_was_not_taken_is_not_named_to_the_public(motion, chair, client, sign_in):
    factories.vote_all(motion, "against", AGAINST)
    for path in ("/decisions/", motion.decision.get_absolute_url(), "/decisions/register.csv"):
        answer = client.get(path)
        body = (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()
        assert ("Lake Hospital" in body, "An application" in body) == (False, True)
    assert "Admit Lake Hospital" in text_of(sign_in(chair), motion.decision.get_absolute_url())


def test_who_asked_not_to_be_named_is_not_in_the_title_of_what_was_approved(institution, board, client, sign_in):
    found = Motion.objects.get(contribution=factories.reviewed_contribution(institution))
    factories.vote_all(found)
    found.refresh_from_db()
    paths = ("/decisions/", found.decision.get_absolute_url(), "/decisions/register.csv")
    assert [found.title in body_of(client, path) for path in paths] == [True] * 3
    investigator = factories.person_of(institution, Role.PRINCIPAL_INVESTIGATOR)
    institutions.change_profile(institution, by=investigator, naming="unnamed")
    assert [str(institution) in body_of(client, path) for path in paths] == [False] * 3
    assert [str(institution) in body_of(sign_in(board[0]), path) for path in paths] == [True] * 3


def body_of(client: Client, path: str) -> str:
    answer = client.get(path)
    return (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()


def test_the_register_as_a_table(carried, client):
    lines = b"".join(client.get("/decisions/register.csv").streaming_content).decode().splitlines()
    assert lines[0].startswith("number,decided_at,kind,title,programme,outcome,votes_for,votes_against")
    cells = lines[1].split(",")
    assert (cells[0], cells[2], cells[3], cells[5:]) == (
        str(carried.decision),
        "admit_institution",
        "Admit Lake Hospital",
        ["carried", "2", "1", "0", "3", "0", "3", "majority", "False"],
    )


def test_the_register_is_narrowed(carried, client):
    year = carried.decision.year
    for query, found in (
        (f"year={year}", 1), ("year=1999", 0), ("outcome=lost", 0), ("outcome=carried", 1), ("programme=retina", 0),
        ("kind=admit_institution", 1), ("kind=release_model", 0), ("kind=nonsense", 1), ("year=nonsense", 1),
    ):  # fmt: skip
        assert len(client.get(f"/decisions/?{query}").context["decisions"]) == found, query


def test_the_register_asks_the_same_number_of_questions(carried, client, django_assert_num_queries):
    client.get("/decisions/")
    with django_assert_num_queries(3):
        client.get("/decisions/")
    for name in ("Hill Hospital", "Sea Hospital"):
        found = boards.refer_institution(factories.applied_institution(name).pk, now=timezone.now())
        factories.vote_all(found)
    with django_assert_num_queries(3):
        assert len(client.get("/decisions/").context["decisions"]) == 3


def test_who_was_outvoted_files_one_opinion_within_seven_days(carried, board, sign_in, client):
    page = carried.decision.get_absolute_url()
    outvoted, winner = sign_in(board[2]), sign_in(board[0])
    assert (outvoted.get(page).context["may_dissent"], winner.get(page).context["may_dissent"]) == (True, False)
    assert outvoted.post(f"{page}opinion/", {"text": " "}).status_code == 422
    assert winner.post(f"{page}opinion/", {"text": "I won."}).status_code == 403
    assert outvoted.post(f"{page}opinion/", {"text": "The letter is not theirs."}).status_code == 302
    assert outvoted.post(f"{page}opinion/", {"text": "Again."}).status_code == 409
    assert list(MinorityOpinion.objects.values_list("author", "text")) == [(board[2].pk, "The letter is not theirs.")]
    text = text_of(client, page)
    assert (board[2].name in text, "The letter is not theirs." in text) == (True, True)


def test_after_seven_days_it_is_too_late(carried, board):
    late = carried.decision.decided_at + timedelta(days=7)
    assert not boards.may_dissent(board[2], carried.decision, now=late)
    with pytest.raises(boards.NotPossibleNow):
        boards.dissent(carried.decision, text="Late.", by=board[2], now=late)


# Interests


def test_members_declare_interests_in_public_and_say_when_they_end(institution, chair, sign_in, client):
    page = sign_in(chair)
    assert page.post("/board/interests/", {"nature": "family", "note": "A cousin."}).status_code == 422
    given = {"nature": "employment", "institution": institution.pk, "note": "Visiting professor."}
    assert page.post("/board/interests/", given).status_code == 302
    row = Interest.objects.get()
    text = text_of(client, "/decisions/interests/")
    assert (chair.name in text, "Visiting professor." in text, institution.name in text) == (True, True, True)
    assert page.post(f"/board/interests/{row.pk}/end/", {"ended_on": "2999-01-01"}).status_code == 409
    assert page.post(f"/board/interests/{row.pk}/end/", {"ended_on": "2024-01-01"}).status_code == 302
    row.refresh_from_db()
    assert row.ended_on.isoformat() == "2024-01-01"


def test_only_the_member_ends_an_interest(institution, board, sign_in):
    row = boards.register_interest(
        nature="family", institution=institution, note="A cousin.", by=board[0], now=timezone.now()
    )
    assert sign_in(board[1]).post(f"/board/interests/{row.pk}/end/", {"ended_on": "2024-01-01"}).status_code == 404
    with pytest.raises(NotAllowed):
        boards.end_interest(row, ended_on=timezone.now().date(), by=board[1], now=timezone.now())


def test_who_has_no_seat_declares_nothing(operator, sign_in):
    assert sign_in(operator).get("/board/interests/").status_code == 403
