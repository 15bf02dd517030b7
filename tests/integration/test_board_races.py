"""Many at once: double votes, settling votes, decision numbers."""

from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Thread

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from governance.board import ballots, meetings
from governance.board import services as boards
from governance.board.errors import ProposalInvalid
from governance.board.models import Decision, Meeting, Motion, Vote
from governance.releases.services import AlreadyProposed
from portal.audit.models import AuditEvent
from portal.errors import DomainError
from portal.institutions.models import Institution
from tests import candidates, factories
from tests.races import then, until_somebody_waits, while_locked

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(works: list[Callable[[], object]]) -> None:
    """Run each with a connection of its own, all beginning together; a refusal of the domain is an answer."""
    start = Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        wrapper = connections["default"]
        options = {name: value for name, value in wrapper.settings_dict["OPTIONS"].items() if name != "pool"}
        wrapper.settings_dict = {**wrapper.settings_dict, "OPTIONS": options}  # as in a process of its own
        try:
            wrapper.ensure_connection()
            start.wait(60)
            work()
        except DomainError:
            pass
        finally:
            connection.close()

    threads = [Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def motion(programme) -> Motion:
    factories.board(5)
    found = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=timezone.now())
    assert found is not None
    factories.declare(found)
    return found


def test_50_double_votes_at_once_leave_one_counted_vote(motion):
    voter, now = boards.electorate(motion).earliest("pk"), timezone.now()
    at_once([lambda: boards.cast_vote(motion, choice="for", by=voter, now=now)] * 50)
    assert list(Vote.objects.values_list("voter", "number", "choice")) == [(voter.pk, 1, "for")]
    counted = boards.count(motion, now=now)
    assert (counted.votes_for, counted.cast) == (1, 1)
    assert AuditEvent.objects.filter(verb__in=["vote.cast", "vote.changed"]).count() == 1


def test_50_contrary_votes_at_once_leave_one_counted_vote_and_all_ballots(motion):
    voter, now = boards.electorate(motion).earliest("pk"), timezone.now()

    def vote(choice: str) -> Callable[[], object]:
        return lambda: boards.cast_vote(motion, choice=choice, reason="Why.", by=voter, now=now)

    at_once([vote("for"), vote("against")] * 25)
    ballots = list(Vote.objects.order_by("number").values_list("number", "choice"))
    assert [number for number, _ in ballots] == list(range(1, len(ballots) + 1))
    assert all(one != two for (_, one), (_, two) in zip(ballots, ballots[1:], strict=False))
    counted = boards.count(motion, now=now)
    assert (counted.cast, counted.votes_for) == (1, ballots[-1][1] == "for")


def test_the_votes_of_all_at_once_close_it_once(motion):
    now = timezone.now()

    def vote(voter) -> Callable[[], object]:
        return lambda: boards.cast_vote(motion, choice="for", by=voter, now=now)

    at_once([vote(voter) for voter in boards.electorate(motion)])
    motion.refresh_from_db()
    assert (motion.status, Decision.objects.count()) == ("carried", 1)
    assert AuditEvent.objects.filter(verb="motion.carried").count() == 1
    assert Vote.objects.count() == 3  # the fourth and fifth came after it had closed


def test_a_vote_and_the_sweep_do_not_lock_each_other_out(motion, monkeypatch):
    """The sweep looks at the application while a ballot on it is cast."""
    voter, now = boards.electorate(motion).earliest("pk"), timezone.now()
    raised: list[BaseException] = []

    def sweep() -> None:
        try:
            boards.refer_institution(motion.institution_id, now=now)
        except Exception as exc:
            raised.append(exc)
        finally:
            connection.close()

    thread = Thread(target=sweep)

    def begin_sweep() -> None:
        thread.start()
        until_somebody_waits()

    then(monkeypatch, ballots, "sync_recusals", begin_sweep)
    boards.cast_vote(motion, choice="for", by=voter, now=now)
    thread.join()
    assert (raised, Vote.objects.count(), Motion.objects.count()) == ([], 1, 1)


def test_a_vote_that_settles_and_an_interest_that_is_declared_do_not_lock_each_other_out(motion):
    member, raised = boards.electorate(motion).earliest("pk"), []

    def declare() -> None:
        given = {"nature": "employment", "institution": motion.institution, "note": "Since 2020."}
        try:
            boards.register_interest(**given, by=member, now=timezone.now())
        except Exception as exc:
            raised.append(exc)
        finally:
            connection.close()

    thread = Thread(target=declare)
    with transaction.atomic():  # as a vote that admits: the motion, then whom it admits
        Motion.objects.select_for_update().get(pk=motion.pk)
        thread.start()
        until_somebody_waits()
        Institution.objects.select_for_update().get(pk=motion.institution_id)
    thread.join()
    assert (raised, [row.member for row in motion.recusals.all()]) == ([], [member])


def test_of_two_who_keep_the_minutes_at_once_the_first_does(motion):
    chair, now = boards.electorate(motion).get(consortium_roles__role="chair"), timezone.now()
    meeting = meetings.call(
        title="December", starts_at=now + timedelta(days=1), ends_at=now + timedelta(days=2), place="Room 4",
        motions=[], points=[], by=chair, now=now,
    )  # fmt: skip

    def keep(text: str) -> Callable[[], object]:
        row = Meeting.objects.get(pk=meeting.pk)  # each has read it in a window of its own
        return lambda: meetings.keep_minutes(row, text=text, by=chair, now=now + timedelta(days=1))

    assert isinstance(while_locked(keep("Agreed."), keep("Rewritten.")), boards.NotPossibleNow)
    meeting.refresh_from_db()
    assert meeting.minutes == "Agreed."


def test_twenty_decisions_at_once_have_twenty_numbers(motion):
    now = timezone.now()
    motions = [motion]
    for number in range(19):
        found = boards.refer_institution(factories.applied_institution(f"Hospital {number}").pk, now=now)
        assert found is not None
        motions.append(found)
    voters = list(boards.electorate(motion))
    for row in motions:
        factories.declare(row, *voters[:3])
        for voter in voters[:2]:
            boards.cast_vote(row, choice="for", by=voter, now=now)

    def settle(row: Motion) -> Callable[[], object]:
        return lambda: boards.cast_vote(row, choice="for", by=voters[2], now=now)

    at_once([settle(row) for row in motions])
    assert sorted(Decision.objects.values_list("number", flat=True)) == list(range(1, 21))


def test_of_two_who_ask_the_board_the_same_at_once_the_second_is_told(programme):
    """As of one person who presses twice."""
    chair, *_ = factories.board(3)
    release, now = candidates.released(candidates.candidate(programme)), timezone.now()

    def ask() -> None:
        boards.propose_retraction(release, reason="It is biased.", by=chair, now=now)

    raised = while_locked(ask, ask)
    motion = Motion.objects.get(kind="retract_release")
    assert (type(raised), str(raised)) == (ProposalInvalid, f"{motion} asks this already.")


def test_of_two_releases_of_one_name_at_once_the_second_is_told(programme):
    chair, *_ = factories.board(3)
    one, two = (candidates.candidate(programme, seed=seed) for seed in (1, 2))
    given = {"name": "RETFound", "version": "2.0", "license": candidates.license(), "card": "# Card", "by": chair}

    def propose(candidate) -> None:
        boards.propose_release(candidate, **given, now=timezone.now())

    raised = while_locked(lambda: propose(one), lambda: propose(two))
    assert (type(raised), str(raised)) == (
        AlreadyProposed, "There is a release retfound-2-0 already. Give another version.",
    )  # fmt: skip
