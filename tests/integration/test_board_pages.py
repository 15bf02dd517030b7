"""Pages of the board: the docket, a motion with its evidence, the ballot, the decisions."""

import re

import pytest
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from governance.board import services as boards
from governance.board.models import Motion, Recusal, Vote
from portal.institutions.models import Membership
from tests import candidates, factories

PNG = b"\x89PNG\r\n\x1a\n"
SECRET_REASON = "I doubt the ethics approval."


@pytest.fixture
def motion(programme, board) -> Motion:
    institution = factories.applied_institution("Lake Hospital", country="TZ", image_count=12_000)
    found = boards.refer_institution(institution.pk, now=timezone.now())
    assert found is not None
    return found


@pytest.fixture
def contribution(institution, board) -> Contribution:
    row = factories.reviewed_contribution(institution)
    result = {"number": 7, "name": "generation", "verdict": "warn", "sentence": "Two samples are alike.", "fix": ""}
    contributions.record_check(row, run_id=1, attempt=1, result={**result, "evidence": {}, "duration_seconds": 1.0})
    contributions.add_evidence(row, run_id=1, attempt=1, name="samples.png", content=PNG)
    return row


def page_of(motion: Motion) -> str:
    return f"/board/motions/{motion.pk}/"


def text_of(client, page: str) -> str:
    return re.sub(r"\s+", " ", client.get(page).content.decode())


# The docket


def test_the_docket_counts_what_waits_for_me(motion, chair, sign_in):
    client = sign_in(chair)
    assert client.get("/board/").context["waiting"] == 1
    boards.cast_vote(motion, choice="for", reason="", by=chair, now=timezone.now())
    page = client.get("/board/")
    assert (page.context["waiting"], page.context["rows"][0]["my_vote"].choice) == (0, "for")
    assert "You voted: For" in page.content.decode()


def test_the_docket_says_that_i_am_recused(motion, board_member, sign_in):
    Membership.objects.create(user=board_member, institution=motion.institution, role=Membership.Role.MEMBER)
    page = sign_in(board_member).get("/board/")
    assert (page.context["waiting"], "You are recused" in page.content.decode()) == (0, True)


def test_the_docket_has_the_oldest_first_and_shows_turnout_only(motion, chair, operator, sign_in):
    second = boards.refer_institution(factories.applied_institution("Hill Hospital").pk, now=timezone.now())
    boards.cast_vote(motion, choice="against", reason=SECRET_REASON, by=chair, now=timezone.now())
    page = sign_in(operator).get("/board/")
    text = re.sub(r"\s+", " ", page.content.decode())
    assert [row["motion"] for row in page.context["rows"]] == [motion, second]
    assert "1 of 3 have voted" in text
    assert (SECRET_REASON in text, "t-against" in text, "1 against" in text) == (False, False, False)


def test_an_empty_docket_says_so(board_member, sign_in):
    assert "Nothing is open" in sign_in(board_member).get("/board/").content.decode()


# A motion


@pytest.mark.parametrize(
    ("person", "status"),
    [("chair", 200), ("operator", 200), ("auditor", 200), ("steward", 404), ("outsider", 404), ("researcher", 404)],
)
def test_who_sees_a_motion(motion, person, status, sign_in, request):
    assert sign_in(request.getfixturevalue(person)).get(page_of(motion)).status_code == status


def test_the_applicant_does_not_see_the_motion_on_itself(motion, sign_in):
    assert sign_in(factories.person_of(motion.institution)).get(page_of(motion)).status_code == 404


def test_an_application_shows_its_facts_and_the_map(motion, chair, sign_in):
    text = text_of(sign_in(chair), page_of(motion))
    assert "12 000 photographs" in text
    assert "No other member in Eastern Africa yet" in text
    factories.member_institution("Moi Eye Clinic", country="KE")
    assert "One other member in Eastern Africa" in text_of(sign_in(chair), page_of(motion))


def test_a_contribution_shows_its_checks_and_samples(contribution, chair, sign_in):
    text = text_of(sign_in(chair), page_of(contribution.motions.get()))
    picture = contribution.evidence_files.get()
    assert "Two samples are alike." in text
    assert f'src="/contributions/{contribution.pk}/evidence/{picture.pk}/"' in text
    assert sign_in(chair).get(f"/contributions/{contribution.pk}/evidence/{picture.pk}/").content == PNG
    assert "520 photographs of 260 patients, as the site declares" in text


def test_a_release_shows_its_evaluations(programme, board, chair, sign_in):
    candidate = candidates.candidate(programme)
    dr, _ = candidates.evaluations(candidate)
    text = text_of(sign_in(chair), page_of(candidates.proposed(candidate).motions.get()))
    assert f"<strong>{dr.auroc:.3f}</strong>" in text
    assert "No labelled data" in text


def test_how_others_vote_stays_hidden_until_the_ballot_closes(motion, board, operator, sign_in):
    boards.cast_vote(motion, choice="against", reason=SECRET_REASON, by=board[0], now=timezone.now())
    for person in (board[1], operator):
        text = text_of(sign_in(person), page_of(motion))
        assert (SECRET_REASON in text, "t-against" in text) == (False, False)
        assert "1 of 3 have voted" in text
    for voter in board[1:]:
        boards.cast_vote(motion, choice="for", reason="", by=voter, now=timezone.now())
    text = text_of(sign_in(board[1]), page_of(motion))
    assert SECRET_REASON in text
    assert "2 for, 1 against, 0 abstained: 3 of 3 voted, the quorum is 3." in text
    assert "Of the votes for and against, 66 % were for; more than 50 % were needed. <strong>Carried.</strong>" in text


def test_my_own_vote_is_shown_to_me(motion, chair, sign_in):
    boards.cast_vote(motion, choice="against", reason=SECRET_REASON, by=chair, now=timezone.now())
    text = text_of(sign_in(chair), page_of(motion))
    assert ("You voted: Against" in text, SECRET_REASON in text) == (True, True)


def test_a_closed_motion_keeps_its_arithmetic(motion, chair, sign_in):
    factories.vote_all(motion)
    factories.consortium_person("A New Member", "board_member")
    tally = sign_in(chair).get(page_of(motion)).context["tally"]
    assert (tally.eligible, tally.cast, tally.waiting) == (3, 3, 0)


def test_voting_through_the_page(motion, board, sign_in):
    client = sign_in(board[0])
    assert client.get(page_of(motion)).context["may_vote"] is True
    answer = client.post(f"{page_of(motion)}vote/", {"choice": "for"})
    assert (answer.status_code, answer.url) == (302, page_of(motion))
    assert [(vote.voter, vote.choice) for vote in Vote.objects.all()] == [(board[0], "for")]
    assert client.post(f"{page_of(motion)}vote/", {"choice": "for"}).status_code == 409


def test_a_vote_without_its_reason_is_shown_again(motion, chair, sign_in):
    answer = sign_in(chair).post(f"{page_of(motion)}vote/", {"choice": "against", "reason": " "})
    assert (answer.status_code, list(answer.context["vote_form"].errors)) == (422, ["reason"])
    assert Vote.objects.count() == 0


@pytest.mark.parametrize("person", ["operator", "auditor"])
def test_who_reads_does_not_vote(motion, person, sign_in, request):
    client = sign_in(request.getfixturevalue(person))
    assert client.get(page_of(motion)).context["may_vote"] is False
    assert client.post(f"{page_of(motion)}vote/", {"choice": "for"}).status_code == 403
    assert client.post(f"{page_of(motion)}recuse/", {"reason": "?"}).status_code == 403


def test_stepping_aside_through_the_page(motion, board, sign_in):
    client = sign_in(board[1])
    client.post(f"{page_of(motion)}recuse/", {"reason": "We wrote a paper together."})
    assert Recusal.objects.get().member == board[1]
    text = text_of(client, page_of(motion))
    assert "You are recused" in text
    assert "The reason: We wrote a paper together.<" in text
    assert client.post(f"{page_of(motion)}vote/", {"choice": "for"}).status_code == 403


def test_the_two_reasons_on_a_page_have_their_own_ids(motion, chair, sign_in):
    ids = re.findall(r'\bid="([^"]+)"', sign_in(chair).get(page_of(motion)).content.decode())
    assert sorted(ids) == sorted(set(ids))


# Decisions


def test_decisions_show_the_outcome_and_the_counts(motion, auditor, sign_in):
    factories.vote_all(motion, "against", "No ethics approval.")
    [row] = sign_in(auditor).get("/board/decisions/").context["motions"]
    assert (row.status, row.votes_for, row.votes_against, row.votes_abstain) == ("lost", 0, 3, 0)


def test_decisions_are_closed_to_others(motion, steward, sign_in):
    assert sign_in(steward).get("/board/decisions/").status_code == 403


def test_decisions_ask_the_same_number_of_questions(motion, auditor, sign_in, django_assert_num_queries):
    client = sign_in(auditor)
    factories.vote_all(motion)
    with django_assert_num_queries(7):
        client.get("/board/decisions/")
    for name in ("Hill Hospital", "Sea Hospital"):
        found = boards.refer_institution(factories.applied_institution(name).pk, now=timezone.now())
        factories.vote_all(found)
    with django_assert_num_queries(7):
        client.get("/board/decisions/")
