"""Meetings, members, rules and proposals of the board, through their pages."""

import re
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from governance.board import meetings
from governance.board import services as boards
from governance.board.models import BallotRule, Meeting, Motion
from portal.accounts import services as accounts
from portal.errors import NotAllowed
from tests import candidates, factories

DAY = timedelta(days=1)


@pytest.fixture
def meeting(motion, chair) -> Meeting:
    now = timezone.now()
    return meetings.call(
        title="December", starts_at=now + DAY, ends_at=now + DAY + timedelta(hours=2), place="https://call.example/",
        motions=[motion], points=["Minutes of November", " "], by=chair, now=now,
    )  # fmt: skip


def text_of(client, path: str) -> str:
    return re.sub(r"\s+", " ", client.get(path).content.decode())


def page_of(meeting: Meeting) -> str:
    return f"/board/meetings/{meeting.pk}/"


def told(person) -> list[str]:
    """What the person was told of meetings, the earliest first."""
    rows = person.notifications.filter(path__startswith="/board/meetings/").order_by("pk")
    return [row.subject for row in rows]


# Meetings


def test_a_meeting_is_called_on_the_page_and_the_board_invited(motion, board, sign_in):
    starts = (timezone.now() + 3 * DAY).replace(second=0, microsecond=0)
    given = {
        "title": "December", "starts_at": f"{starts:%Y-%m-%dT%H:%M}", "ends_at": f"{starts + DAY / 24:%Y-%m-%dT%H:%M}",
        "place": "Room 4", "motions": [motion.pk], "points": "Minutes of November",
    }  # fmt: skip
    client = sign_in(board[0])
    assert client.post("/board/meetings/call/", {**given, "ends_at": given["starts_at"]}).status_code == 422
    assert client.post("/board/meetings/call/", given).status_code == 302
    meeting = Meeting.objects.get()
    assert (meeting.starts_at, [str(item) for item in meeting.agenda.all()]) == (
        starts,
        [str(motion), "Minutes of November"],
    )
    assert [person.notifications.filter(subject="Meeting of the board: December").count() for person in board] == [
        1
    ] * 3


def test_only_the_chair_and_operators_call_meetings(board_member, auditor, steward, sign_in):
    for person, reads in ((board_member, 200), (auditor, 200), (steward, 403)):
        client = sign_in(person)
        assert (client.get("/board/meetings/").status_code, client.get("/board/meetings/call/").status_code) == (
            reads,
            403,
        )


def test_who_comes_and_what_can_be_decided(meeting, motion, board, sign_in):
    for person in board[:2]:
        assert sign_in(person).post(f"{page_of(meeting)}answer/", {"answer": "yes"}).status_code == 302
    sign_in(board[2]).post(f"{page_of(meeting)}answer/", {"answer": "no"})
    [row] = meetings.forecast(meeting, now=timezone.now())
    assert (row.cast, row.coming, row.quorum, row.is_reached) == (0, 2, 3, False)
    factories.cast(motion, board[2])
    [row] = meetings.forecast(meeting, now=timezone.now())
    assert (row.cast, row.coming, row.is_reached) == (1, 2, True)
    text = text_of(sign_in(board[0]), page_of(meeting))
    assert f"Cannot come: {board[2]}" in text
    assert "1 + 2 of 3" in text


@pytest.fixture
def of_retina(programme):
    """A member of the board of one programme alone."""
    person = factories.user("Member for Retina")
    accounts.appoint(person, "board_member", programme=programme, by=None, now=timezone.now())
    return person


def test_the_board_of_a_programme_is_invited_where_its_motion_is_on_the_agenda(
    of_retina, institution, motion, chair, programme
):
    now, own = timezone.now(), factories.reviewed_contribution(institution).motions.get()
    when = {"starts_at": now + DAY, "ends_at": now + 2 * DAY, "place": "Room 4", "points": [], "by": chair, "now": now}
    later = meetings.call(title="Theirs later", motions=[motion], **when)
    theirs = meetings.call(title="Theirs", motions=[motion, own], **when)
    for _ in range(2):  # the second time nobody is new
        meetings.change_agenda(later, motions=[own], points=[], by=chair, now=now)
    meetings.cancel(theirs, by=chair, now=now)
    assert told(of_retina) == [
        "Meeting of the board: Theirs", "Meeting of the board: Theirs later", "Cancelled: Theirs",
    ]  # fmt: skip


def test_who_said_to_come_is_told_that_it_is_cancelled(of_retina, meeting, chair):
    meetings.answer(meeting, answer="yes", by=of_retina, now=timezone.now())
    meetings.cancel(meeting, by=chair, now=timezone.now())
    assert told(of_retina) == ["Cancelled: December"]


def test_the_board_of_a_programme_does_not_read_what_others_decide(of_retina, meeting, motion, sign_in):
    client = sign_in(of_retina)
    for page in (page_of(meeting), f"{page_of(meeting)}meeting.ics"):
        text = client.get(page).content.decode()
        assert ("Lake Hospital" in text, f"/board/motions/{motion.pk}/" in text) == (False, False)
        assert ("A motion of another board" in text, "Minutes of November" in text) == (True, True)


def test_a_changed_mind_is_one_answer(meeting, board):
    for answer in ("no", "yes"):
        meetings.answer(meeting, answer=answer, by=board[1], now=timezone.now())
    assert list(meeting.attendances.values_list("answer", flat=True)) == ["yes"]


def test_who_has_no_seat_is_not_invited(meeting, operator):
    with pytest.raises(NotAllowed):
        meetings.answer(meeting, answer="yes", by=operator, now=timezone.now())


def test_the_agenda_changes_until_it_begins(meeting, chair, sign_in):
    client = sign_in(chair)
    assert "Minutes of November" in client.get(f"{page_of(meeting)}agenda/").content.decode()
    client.post(f"{page_of(meeting)}agenda/", {"points": "Only this"})
    assert [str(item) for item in meeting.agenda.all()] == ["Only this"]
    with pytest.raises(boards.NotPossibleNow):
        meetings.change_agenda(meeting, motions=[], points=[], by=chair, now=meeting.starts_at)


def test_minutes_are_kept_once_after_it_began(meeting, chair, board, sign_in):
    with pytest.raises(boards.NotPossibleNow):
        meetings.keep_minutes(meeting, text="Early.", by=chair, now=timezone.now())
    meetings.answer(meeting, answer="yes", by=board[1], now=timezone.now())
    draft = meetings.draft_minutes(meeting)
    assert f"Expected: {board[1]}." in draft
    assert "## 2. Minutes of November" in draft
    Meeting.objects.filter(pk=meeting.pk).update(starts_at=timezone.now() - DAY)
    client = sign_in(chair)
    assert client.post(f"{page_of(meeting)}minutes/", {"text": "# December\n\nAgreed."}).status_code == 302
    assert "<p>Agreed.</p>" in text_of(client, page_of(meeting))
    assert client.post(f"{page_of(meeting)}minutes/", {"text": "Rewritten."}).status_code == 409


def test_cancelling_asks_first_and_tells_the_board(meeting, chair, board, sign_in):
    client = sign_in(chair)
    assert "Cancel the meeting?" in client.get(f"{page_of(meeting)}cancel/").content.decode()
    client.post(f"{page_of(meeting)}cancel/")
    meeting.refresh_from_db()
    assert meeting.cancelled_at is not None
    assert board[1].notifications.filter(subject="Cancelled: December").count() == 1


def test_the_meeting_as_a_calendar_file(meeting, board_member, sign_in):
    text = sign_in(board_member).get(f"{page_of(meeting)}meeting.ics").content.decode()
    assert f"DTSTART:{meeting.starts_at:%Y%m%dT%H%M%S}Z" in text
    assert f"DTEND:{meeting.ends_at:%Y%m%dT%H%M%S}Z" in text
    assert ("LOCATION:https://call.example/" in text, "TRANSP:OPAQUE" in text) == (True, True)


# Members and their terms


def test_the_page_of_members_says_whose_term_ends_soon(motion, chair, sign_in):
    soon = timezone.now().date() + timedelta(days=30)
    person = factories.user("Short Term")
    accounts.appoint(person, "board_member", term_ends_on=soon, by=None, now=timezone.now())
    text = text_of(sign_in(chair), "/board/members/")
    assert "Short Term" in text
    assert text.count('status--warn"') == 1
    boards.sweep(now=timezone.now() + timedelta(days=32))
    assert not person.consortium_roles.current().exists()
    assert "Former members" in text_of(sign_in(chair), "/board/members/")


# Rules


def test_the_rule_of_a_kind_is_set_on_the_page(motion, programme, chair, board_member, sign_in):
    assert sign_in(board_member).get("/board/rules/").status_code == 200
    assert sign_in(board_member).get("/board/rules/give_seat/").status_code == 403
    client = sign_in(chair)
    given = {
        "electorate": "consortium", "quorum_percent": "60", "quorum_floor": "2", "threshold": "unanimous", "days": "10",
        "reviewers": "0", "per_institution": "on",
    }  # fmt: skip
    assert client.post("/board/rules/admit_institution/", {**given, "days": "0"}).status_code == 422
    assert client.post("/board/rules/admit_institution/", given).status_code == 302
    motion.refresh_from_db()
    assert (motion.threshold, motion.quorum_floor, motion.per_institution, motion.days) == ("unanimous", 2, True, 14)
    client.post("/board/rules/adopt_task/", {**given, "programme": programme.pk})
    assert list(BallotRule.objects.order_by("pk").values_list("kind", "programme")) == [
        ("admit_institution", None),
        ("adopt_task", programme.pk),
    ]
    assert "at least&nbsp;2" in text_of(client, "/board/rules/")
    assert client.get("/board/rules/nonsense/").status_code == 404


# Proposals


def test_who_may_not_propose(steward, auditor, sign_in):
    for person in (steward, auditor):
        assert sign_in(person).get("/board/new/").status_code == 403
        assert sign_in(person).post("/board/new/give_seat/", {}).status_code == 403


def test_a_seat_is_proposed_on_the_page(board, sign_in):
    client = sign_in(board[1])
    person = factories.user("New Person")
    given = {"email": person.email, "role": "board_member", "term_ends_on": "2029-01-31", "reason": "Knows AI."}
    assert client.post("/board/new/give_seat/", {**given, "email": "nobody@example.org"}).status_code == 422
    assert client.post("/board/new/give_seat/", {**given, "term_ends_on": "2020-01-31"}).status_code == 422
    assert client.post("/board/new/give_seat/", given).status_code == 302
    motion = Motion.objects.get()
    assert (motion.kind, motion.person, motion.proposal["term_ends_on"]) == ("give_seat", person, "2029-01-31")
    again = client.post("/board/new/give_seat/", given)
    assert (again.status_code, "asks this already" in again.content.decode()) == (422, True)
    factories.declare(motion, board[0])
    assert "Knows AI." in text_of(sign_in(board[0]), f"/board/motions/{motion.pk}/")


def test_a_version_a_task_and_a_retraction_are_proposed_on_the_page(programme, board, operator, sign_in):
    release = candidates.released(candidates.candidate(programme))
    client = sign_in(operator)
    agreement = programme.agreements.get()
    text = agreement.versions.get().text
    version = {"agreement": agreement.pk, "text": text, "change_note": "Clearer.", "is_material": "on"}
    version["deletion_days"] = "7"
    assert client.post("/board/new/publish_agreement/", version).status_code == 422  # the same text
    assert client.post("/board/new/publish_agreement/", {**version, "text": f"{text}\nMore.\n"}).status_code == 302
    task = programme.tasks.earliest("pk")
    assert client.post("/board/new/adopt_task/", {"task": task.pk, "reason": "Needed."}).status_code == 302
    assert client.post("/board/new/retract_release/", {"release": release.pk, "reason": "A flaw."}).status_code == 302
    kinds = list(Motion.objects.undecided().order_by("pk").values_list("kind", flat=True))
    assert kinds == ["publish_agreement", "adopt_task", "retract_release"]
    assert Motion.objects.get(kind="publish_agreement").proposal["deletion_days"] == 7
    for motion in Motion.objects.undecided():
        assert client.get(motion.get_absolute_url()).status_code == 200
    assert client.get("/board/new/admit_institution/").status_code == 404


def test_a_meeting_begins_after_now(chair):
    now = datetime(2026, 1, 1, tzinfo=timezone.get_default_timezone())
    with pytest.raises(boards.VoteRefused):
        meetings.call(title="?", starts_at=now, ends_at=now + DAY, place="?", motions=[], points=[], by=chair, now=now)
