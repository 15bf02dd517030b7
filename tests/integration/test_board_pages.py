"""Pages of the board: the docket, the question about interests, a motion with its evidence, the ballot, the tie."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from governance.board import docket
from governance.board import services as boards
from governance.board.models import Declaration, Motion, Recusal, Vote
from portal.accounts import services as accounts
from portal.accounts.models import User
from tests import candidates, factories

PNG = b"\x89PNG\r\n\x1a\n"
SECRET_REASON = "I doubt the ethics approval."


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


def proof(person: User) -> dict[str, str]:
    """What a person types to prove who they are."""
    if not person.has_usable_password():
        person.set_password(factories.PASSWORD)
        person.save(update_fields=["password"])
    return {"password": factories.PASSWORD, "code": factories.totp_code(person)}


# The docket


def test_the_docket_counts_what_waits_for_me(motion, chair, sign_in):
    client = sign_in(chair)
    assert client.get("/board/").context["waiting"] == 1
    factories.cast(motion, chair)
    page = client.get("/board/")
    assert (page.context["waiting"], page.context["rows"][0].my_vote.choice) == (0, "for")
    assert "You voted: For" in page.content.decode()
    assert client.get("/board/?state=mine").context["rows"] == []


def test_the_docket_says_that_i_am_recused(motion, board_member, sign_in):
    factories.join(motion.institution, board_member)
    boards.sweep(now=timezone.now())
    page = sign_in(board_member).get("/board/")
    assert (page.context["waiting"], "You are recused" in page.content.decode()) == (0, True)


def test_a_tie_waits_for_the_chair_alone(tied, four, sign_in):
    chair = four[0]
    waiting = {person: [row.pk for row in docket.waiting_for(person)] for person in boards.electorate(tied)}
    assert waiting == {person: [tied.pk] if person == chair else [] for person in waiting}
    assert "Tied: you decide" in sign_in(chair).get("/board/").content.decode()
    page = text_of(sign_in(chair), page_of(tied))
    assert f"{boards.chair_until(tied):%H:%M} UTC" in page


def test_a_tie_waits_for_the_chair_of_the_programme_where_it_has_one(institution, programme, board):
    own = factories.user("Chair of Retina")
    accounts.appoint(own, "chair", programme=programme, by=None, now=timezone.now())
    found = Motion.objects.get(contribution=factories.reviewed_contribution(institution))
    factories.review_all(found)
    for voter, choice in zip([own, *board], ("for", "for", "against", "against"), strict=True):
        factories.cast(found, voter, choice, "No ethics approval.")
    found.refresh_from_db()
    assert (found.status, list(boards.chairs(found))) == ("tied", [own])
    assert [list(docket.waiting_for(person)) for person in (own, *board)] == [[found], [], [], []]


def test_the_docket_has_the_oldest_first_and_shows_turnout_only(motion, chair, operator, sign_in):
    second = boards.refer_institution(factories.applied_institution("Hill Hospital").pk, now=timezone.now())
    factories.cast(motion, chair, "against", SECRET_REASON)
    page = sign_in(operator).get("/board/")
    text = re.sub(r"\s+", " ", page.content.decode())
    assert [row.motion for row in page.context["rows"]] == [motion, second]
    assert "1 of 3 have voted" in text
    assert (SECRET_REASON in text, "t-against" in text, "1 against" in text) == (False, False, False)


def test_the_docket_is_narrowed(motion, contribution, chair, sign_in):
    client = sign_in(chair)

    def found(query: str) -> list[str]:
        return [row.motion.kind for row in client.get(f"/board/?{query}").context["rows"]]

    assert found("kind=admit_institution") == ["admit_institution"]
    assert found("state=reviewing") == ["approve_contribution"]
    assert found("programme=retina") == ["approve_contribution"]
    assert found("programme=other") == []
    assert found(f"after={motion.pk}") == ["approve_contribution"]
    assert len(found("kind=nonsense")) == 2


def test_the_docket_asks_the_same_number_of_questions(motion, chair, sign_in, django_assert_max_num_queries):
    client = sign_in(chair)
    client.get("/board/")
    factories.cast(motion, chair)
    with django_assert_max_num_queries(30) as first:
        client.get("/board/")
    for name in ("Hill Hospital", "Sea Hospital", "Bay Hospital"):
        found = boards.refer_institution(factories.applied_institution(name).pk, now=timezone.now())
        factories.cast(found, chair)
    with django_assert_max_num_queries(30) as second:
        assert len(client.get("/board/").context["rows"]) == 4
    assert len(second) == len(first)


def test_an_empty_docket_says_so(board_member, sign_in):
    assert "Nothing is open" in sign_in(board_member).get("/board/").content.decode()


# The question about interests


def test_no_other_way_leads_into_the_case_before_the_question_is_answered(motion, chair, sign_in):
    client = sign_in(chair)
    refused = client.post(f"{page_of(motion)}recuse/", {"reason": ""})
    assert (refused.status_code, refused.url) == (302, f"{page_of(motion)}declare/")
    live = client.get(f"{page_of(motion)}live/")
    assert (live.status_code, live.content) == (204, b"")
    factories.declare(motion, chair)
    assert client.post(f"{page_of(motion)}recuse/", {"reason": ""}).status_code == 422
    assert client.get(f"{page_of(motion)}live/").status_code == 200


def test_the_case_opens_when_the_question_is_answered(motion, chair, sign_in):
    client = sign_in(chair)
    shut = client.get(page_of(motion))
    assert (shut.status_code, shut.url) == (302, f"{page_of(motion)}declare/")
    assert "12 000 photographs" not in client.get(shut.url).content.decode()
    assert client.post(shut.url, {"answer": "stay", "note": ""}).status_code == 422
    opened = client.post(shut.url, {"answer": "stay", "note": "I once visited them."})
    assert (opened.status_code, opened.url) == (302, page_of(motion))
    assert list(Declaration.objects.values_list("member", "answer", "note")) == [
        (chair.pk, "stay", "I once visited them.")
    ]
    assert "I once visited them." in text_of(client, page_of(motion))


def test_the_question_names_what_the_register_holds(motion, chair, sign_in):
    boards.register_interest(
        nature="financial", institution=None, organisation="Lens GmbH", note="Shares.", by=chair, now=timezone.now()
    )
    assert "Money: shares, fees, patents, funding: Lens GmbH" in text_of(sign_in(chair), f"{page_of(motion)}declare/")


def test_stepping_aside_instead_of_opening_the_case(motion, board, sign_in):
    client = sign_in(board[1])
    client.post(f"{page_of(motion)}declare/", {"answer": "recuse", "note": "We wrote a paper together."})
    assert list(Recusal.objects.values_list("member", "basis")) == [(board[1].pk, "voluntary")]
    text = text_of(client, page_of(motion))
    assert "The reason: We wrote a paper together.<" in text
    assert client.post(f"{page_of(motion)}vote/", {"choice": "for"}).status_code == 403


def test_who_is_recused_sees_neither_ballots_nor_discussion(motion, board, sign_in):
    factories.declare(motion, board[1])
    boards.recuse(motion, reason="We wrote a paper together.", by=board[1], now=timezone.now())
    factories.declare(motion, board[0])
    boards.comment(motion, audience="board", text="Between ourselves.", by=board[0], now=timezone.now())
    boards.set_rule("admit_institution", None, quorum_floor=1, by=board[0], now=timezone.now())
    factories.vote_all(motion, "against", SECRET_REASON)
    assert motion.status == "lost"
    text = text_of(sign_in(board[1]), page_of(motion))
    assert (SECRET_REASON in text, "Between ourselves." in text) == (False, False)
    text = text_of(sign_in(board[2]), page_of(motion))
    assert (SECRET_REASON in text, "Between ourselves." in text) == (True, True)


# A motion


@pytest.mark.parametrize(
    ("person", "status"),
    [("chair", 302), ("operator", 200), ("auditor", 200), ("steward", 404), ("outsider", 404), ("researcher", 404)],
)
def test_who_sees_a_motion(motion, person, status, sign_in, request):
    assert sign_in(request.getfixturevalue(person)).get(page_of(motion)).status_code == status


def test_the_applicant_does_not_see_the_motion_on_itself(motion, sign_in):
    assert sign_in(factories.person_of(motion.institution)).get(page_of(motion)).status_code == 404


def test_an_application_shows_its_facts_and_the_map(motion, chair, sign_in):
    factories.declare(motion, chair)
    text = text_of(sign_in(chair), page_of(motion))
    assert "12 000 photographs" in text
    assert "No other member in Eastern Africa yet" in text
    assert "It would be the first from Eastern Africa." in text
    factories.member_institution("Moi Eye Clinic", country="KE")
    text = text_of(sign_in(chair), page_of(motion))
    assert "One other member in Eastern Africa" in text
    assert "Eastern Africa: 1 institutions</title>" in text


def test_a_contribution_shows_its_checks_samples_and_agreements(contribution, chair, sign_in):
    factories.declare(contribution.motions.get(), chair)
    text = text_of(sign_in(chair), page_of(contribution.motions.get()))
    picture = contribution.evidence_files.get()
    assert "Two samples are alike." in text
    assert f'src="/contributions/{contribution.pk}/evidence/{picture.pk}/"' in text
    assert sign_in(chair).get(f"/contributions/{contribution.pk}/evidence/{picture.pk}/").content == PNG
    assert "520 photographs of 260 patients, as the site declares" in text
    assert '<div>Data-use agreement</div><span class="end">Active</span>' in text


def test_a_release_shows_its_evaluations(programme, board, chair, sign_in):
    candidate = candidates.candidate(programme)
    dr, _ = candidates.evaluations(candidate)
    motion = candidates.proposed(candidate).motions.get()
    factories.declare(motion, chair)
    text = text_of(sign_in(chair), page_of(motion))
    assert f"<strong>{dr.auroc:.3f}</strong>" in text
    assert "No labelled data" in text


def test_how_others_vote_stays_hidden_until_the_ballot_closes(motion, board, operator, sign_in):
    factories.declare(motion)
    factories.cast(motion, board[0], "against", SECRET_REASON)
    for person in (board[1], operator):
        for page in (page_of(motion), f"{page_of(motion)}live/"):
            text = text_of(sign_in(person), page)
            assert (SECRET_REASON in text, "t-against" in text) == (False, False)
            assert "1 of 3 have voted" in text
    for voter in board[1:]:
        factories.cast(motion, voter)
    text = text_of(sign_in(board[1]), page_of(motion))
    assert SECRET_REASON in text
    assert "2 for, 1 against, 0 abstained: 3 of 3 voted, the quorum is 3." in text
    assert "Of the votes for and against, 66 % were for. Needed: more votes for than against." in text


def test_who_has_the_page_open_is_shown(motion, board, sign_in):
    factories.declare(motion)
    sign_in(board[1]).get(page_of(motion))
    text = text_of(sign_in(board[0]), f"{page_of(motion)}live/")
    assert f"Has this page open: {board[0]}, {board[1]}" in text


def test_a_closed_motion_keeps_its_arithmetic(motion, chair, sign_in):
    factories.vote_all(motion)
    factories.consortium_person("A New Member", "board_member")
    tally = sign_in(chair).get(page_of(motion)).context["tally"]
    assert (tally.eligible, tally.cast, tally.waiting) == (3, 3, 0)


# The ballot


def test_voting_and_changing_the_vote_through_the_page(motion, board, sign_in):
    said = proof(board[0])
    client = sign_in(board[0])
    factories.declare(motion, board[0])
    assert client.get(page_of(motion)).context["may_vote"] is True
    answer = client.post(f"{page_of(motion)}vote/", {"choice": "for", "conditions": "Send the approval.\n", **said})
    assert (answer.status_code, answer.url) == (302, page_of(motion))
    assert [(vote.voter, vote.choice, vote.conditions) for vote in Vote.objects.all()] == [
        (board[0], "for", ["Send the approval."])
    ]
    client.post(f"{page_of(motion)}vote/", {"choice": "against", "reason": SECRET_REASON})  # the proof is fresh
    assert list(Vote.objects.values_list("number", "choice")) == [(1, "for"), (2, "against")]
    text = text_of(client, page_of(motion))
    assert ("You voted: Against" in text, SECRET_REASON in text, "Before: For" in text) == (True, True, True)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"choice": "against", "reason": " "}, "reason"),
        ({"choice": "abstain", "reason": "?", "conditions": "More."}, "conditions"),
        ({"choice": "for", "password": "wrong"}, "password"),
        ({"choice": "for", "code": "000000"}, "code"),
    ],
)
def test_a_ballot_that_is_not_complete_is_shown_again(motion, chair, sign_in, said, field):
    factories.declare(motion, chair)
    given = proof(chair)
    answer = sign_in(chair).post(f"{page_of(motion)}vote/", {**given, **said})
    assert (answer.status_code, list(answer.context["vote_form"].errors)) == (422, [field])
    assert Vote.objects.count() == 0


def test_no_ballot_before_the_declaration(motion, chair, sign_in):
    said = {"choice": "for", **proof(chair)}
    answer = sign_in(chair).post(f"{page_of(motion)}vote/", said)
    assert (answer.status_code, Vote.objects.count()) == (409, 0)


@pytest.mark.parametrize("person", ["operator", "auditor"])
def test_who_reads_does_not_vote(motion, person, sign_in, request):
    client = sign_in(request.getfixturevalue(person))
    assert client.get(page_of(motion)).context["may_vote"] is False
    for action in ("vote", "recuse", "declare", "review", "tie"):
        assert client.post(f"{page_of(motion)}{action}/", {"choice": "for"}).status_code == 403


def test_the_fields_of_a_page_have_their_own_ids(contribution, chair, sign_in):
    motion = contribution.motions.get()
    factories.declare(motion, chair)
    ids = re.findall(r'\bid="([^"]+)"', sign_in(chair).get(page_of(motion)).content.decode())
    assert sorted(ids) == sorted(set(ids))


def test_the_chair_decides_a_tie_through_the_page(programme, sign_in):
    people = factories.board(4)
    motion = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=timezone.now())
    for voter, choice in zip(people, ("for", "for", "against", "against"), strict=True):
        factories.cast(motion, voter, choice, SECRET_REASON)
    assert SECRET_REASON not in text_of(sign_in(factories.consortium_person("Op", "operator")), "/board/")
    assert "The chair" in text_of(sign_in(people[1]), page_of(motion))
    said = {"choice": "for", "reason": "They have answered.", **proof(people[0])}
    client = sign_in(people[0])
    assert client.post(f"{page_of(motion)}tie/", {"choice": "for"}).status_code == 422
    assert client.post(f"{page_of(motion)}tie/", said).status_code == 302
    text = text_of(client, page_of(motion))
    assert f"A tie; the chair, {people[0]}, decided for." in text
    motion.refresh_from_db()
    assert motion.status == "carried"


def test_the_end_of_the_ballot_as_a_calendar_file(motion, operator, sign_in):
    answer = sign_in(operator).get(f"{page_of(motion)}ballot.ics")
    assert f"UID:ballot-{motion.pk}@" in answer.content.decode()
    assert f"DTSTART:{motion.closes_at:%Y%m%dT%H%M%S}Z" in answer.content.decode()


def test_what_lapsed_is_offered_to_be_put_again_once(motion, chair, operator, sign_in):
    client = sign_in(operator)
    for now in (motion.closes_at, motion.closes_at + timedelta(days=7)):
        boards.sweep(now=now)
    offer = "Put the question again"
    assert offer in client.get(page_of(motion)).text
    assert client.post(f"{page_of(motion)}again/").status_code == 302
    assert offer not in client.get(page_of(motion)).text
