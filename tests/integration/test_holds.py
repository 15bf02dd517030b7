"""Files that a court or an inquiry needs: nothing deletes them while they are held back, and then what was due does."""

import time
from datetime import timedelta
from threading import Event, Thread

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from contributions import deletion, holds
from contributions import services as contributions
from contributions.models import ContributionFile, Hold
from jobs import health, tasks
from portal import storage
from portal.agreements import services as agreements
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import contributing, factories
from tests.contributing import text

HELD = b"weights that a court asked for" * 100
COURT = "The High Court of Nairobi, 12/2026."
pytestmark = pytest.mark.services


@pytest.fixture
def base(programme):
    """The base generator, under an agreement that gives two weeks."""
    agreements.publish(
        programme.agreements.get(), text="# Two weeks\n", change_note="N.", is_material=False, deletion_days=14,
        by=None, now=timezone.now(),
    )  # fmt: skip
    return contributing.registered_base(programme)


@pytest.fixture
def withdrawn(institution, base, steward):
    row = contributing.at_status("approved", institution, base, by=steward, content=HELD)
    return contributions.withdraw(row, by=steward, reason="A patient asked.", now=timezone.now())


@pytest.fixture
def other(base):
    """Withdrawn too, and held by nobody: what a hold must not touch."""
    place = factories.member_institution("Other Clinic")
    person = factories.person_of(place, "steward")
    row = contributing.at_status("approved", place, base, by=person, content=HELD[1:])
    return contributions.withdraw(row, by=person, reason="A patient asked.", now=timezone.now())


@pytest.fixture
def sent(monkeypatch) -> list:
    """What workers are asked to do."""
    found: list = []
    for module in (deletion, holds):
        monkeypatch.setattr(module, "enqueue", lambda name, **kwargs: found.append((name, kwargs)))
    return found


def lies_there(contribution) -> bool:
    return storage.size(storage.QUARANTINE, contribution.files.get().storage_key) is not None


def test_held_files_outlast_their_day_and_go_once_released(withdrawn, other, steward, operator, sent, monkeypatch):
    hold = holds.place(withdrawn, reason=f" {COURT} ", by=operator, now=timezone.now())
    day = withdrawn.status_since + timedelta(days=30)
    assert [row.pk for row in deletion.due(now=day)] == [other.pk]
    for row in (withdrawn, other):
        deletion.delete_files(row.pk, now=day)
    assert (lies_there(withdrawn), lies_there(other)) == (True, False)
    deletion.ask(withdrawn, by=steward, now=timezone.now())
    tasks.delete_files(contribution_id=withdrawn.pk)
    assert (lies_there(withdrawn), withdrawn.files.get().state) == (True, "verified")
    assert {found.code for found in health.findings(now=day)} & {"files_kept_too_long"} == set()

    sent.clear()
    released = holds.release(withdrawn, reason="It was settled.", by=operator, now=timezone.now())
    assert sent == [("jobs.delete_files", {"contribution_id": withdrawn.pk})]
    tasks.delete_files(contribution_id=withdrawn.pk)
    assert (lies_there(withdrawn), withdrawn.files.get().state) == (False, "deleted")
    assert (released.pk, released.released_by, released.release_reason) == (hold.pk, operator, "It was settled.")
    events = AuditEvent.objects.filter(verb__startswith="contribution.hold_").order_by("pk")
    assert [(event.verb, event.actor_id, event.facts) for event in events] == [
        ("contribution.hold_placed", operator.pk, {"reason": COURT}),
        ("contribution.hold_released", operator.pk, {"reason": "It was settled."}),
    ]
    told = steward.notifications.filter(subject__contains=str(withdrawn)).order_by("pk")
    assert list(told.values_list("subject", flat=True))[-3:] == [
        f"The files of {withdrawn} are held back from deletion",
        f"The files of {withdrawn} are held back no longer",
        f"The files of {withdrawn} are deleted",
    ]


def test_before_its_day_a_released_one_waits_for_it(withdrawn, operator, sent):
    holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    holds.release(withdrawn, reason="Settled.", by=operator, now=timezone.now())
    assert sent == []
    holds.place(withdrawn, reason="They ask again.", by=operator, now=timezone.now())
    assert list(holds.current().values_list("reason", flat=True)) == ["They ask again."]
    assert list(deletion.due(now=timezone.now() + timedelta(days=30))) == []


def test_what_is_in_use_can_be_held_before_it_is_withdrawn(institution, base, steward, operator):
    row = contributing.at_status("approved", institution, base, by=steward, content=HELD)
    holds.place(row, reason=COURT, by=operator, now=timezone.now())
    row = contributions.withdraw(row, by=steward, reason="A patient asked.", now=timezone.now())
    deletion.delete_files(row.pk, now=timezone.now() + timedelta(days=30))
    assert lies_there(row)


def test_who_may_not_and_when(withdrawn, other, institution, base, steward, member, board, auditor, operator):
    for person in (member, steward, *board, auditor):
        with pytest.raises(NotAllowed, match="Only an operator"):
            holds.place(withdrawn, reason=COURT, by=person, now=timezone.now())
    with pytest.raises(holds.HoldUnexplained):
        holds.place(withdrawn, reason="  ", by=operator, now=timezone.now())
    with pytest.raises(holds.NotHeld):
        holds.release(withdrawn, reason="Settled.", by=operator, now=timezone.now())
    draft = contributing.draft(institution, base, by=steward)
    contributing.upload(draft, HELD[2:], by=steward)
    with pytest.raises(holds.CannotHold, match="is a draft"):
        holds.place(draft, reason=COURT, by=operator, now=timezone.now())
    deletion.delete_files(other.pk, now=timezone.now() + timedelta(days=30))
    with pytest.raises(holds.CannotHold, match="there is nothing to hold back"):
        holds.place(other, reason=COURT, by=operator, now=timezone.now())

    holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    with pytest.raises(holds.CannotHold, match="are held back already"):
        holds.place(withdrawn, reason="Another.", by=operator, now=timezone.now())
    for person in (steward, board[0]):
        with pytest.raises(NotAllowed):
            holds.release(withdrawn, reason="Mine.", by=person, now=timezone.now())
    assert (Hold.objects.count(), holds.current().get().reason) == (1, COURT)


@pytest.mark.django_db(transaction=True)
def test_a_hold_that_comes_while_they_are_deleted_says_so(withdrawn, operator, monkeypatch):
    """Not a hold on files that are gone a moment later."""
    erasing, go_on, erase, caught = Event(), Event(), storage.erase, []

    def slow(bucket, folder):
        erasing.set()
        assert go_on.wait(60)
        erase(bucket, folder)

    def work(act):
        try:
            act()
        except holds.CannotHold as error:
            caught.append(str(error))
        finally:
            connection.close()

    monkeypatch.setattr(storage, "erase", slow)
    day = timezone.now() + timedelta(days=30)
    deleting = Thread(target=work, args=[lambda: deletion.delete_files(withdrawn.pk, now=day)])
    deleting.start()
    assert erasing.wait(60)
    holding = Thread(target=work, args=[lambda: holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())])
    holding.start()
    wait_until_somebody_waits()
    go_on.set()
    for thread in (deleting, holding):
        thread.join()
    assert caught == [f"No file of {withdrawn} is in the store: there is nothing to hold back."]
    assert (Hold.objects.count(), ContributionFile.objects.get().state) == (0, "deleted")


def wait_until_somebody_waits() -> None:
    deadline = time.monotonic() + 60
    waiting = 0
    while not waiting and time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            (waiting,) = cursor.fetchone()
    assert waiting == 1


# The pages


def test_pages_show_the_hold_and_lead_an_operator_through_it(withdrawn, steward, member, operator, auditor, sign_in):
    page = f"/contributions/{withdrawn.pk}/"
    found = [sign_in(person).get(page).content.decode() for person in (operator, steward, auditor)]
    assert [page + "hold/" in content for content in found] == [True, False, False]
    on = f"{withdrawn.status_since + timedelta(days=12):%-d %b %Y}"
    assert f"Without a hold they are deleted on {on}." in text(sign_in(operator).get(page + "hold/"))
    response = sign_in(operator).post(page + "hold/", {"reason": ""})
    assert (response.status_code, Hold.objects.count()) == (200, 0)

    sign_in(operator).post(page + "hold/", {"reason": COURT})
    found = [sign_in(person).get(page) for person in (operator, steward, member)]
    for response in found:
        assert COURT in text(response)
        assert f"Without the hold they would be deleted on {on}." in text(response)
    assert [page + "release-hold/" in response.content.decode() for response in found] == [True, False, False]
    listed = text(sign_in(auditor).get("/ops/storage/"))
    assert f"{withdrawn}{withdrawn.institution}" in listed
    assert (COURT in listed, "Held back from deletion" in listed) == (True, True)

    assert f"They are then deleted on {on}." in text(sign_in(operator).get(page + "release-hold/"))
    sign_in(operator).post(page + "release-hold/", {"reason": "It was settled."})
    shown = text(sign_in(steward).get(page))
    assert f"The files are deleted on {on}, as the agreement says." in shown
    assert "Without the hold" not in shown
    assert "Held back from deletion" not in sign_in(auditor).get("/ops/storage/").content.decode()


def test_the_api_says_what_is_held_and_until_when(withdrawn, steward, operator, sign_in):
    address = f"/api/v1/contributions/{withdrawn.pk}"
    due_at = deletion.due_at(withdrawn)
    assert due_at is not None
    before = sign_in(steward).get(address).json()
    assert (before["hold"], before["deletion_due_at"]) == (None, due_at.isoformat().replace("+00:00", "Z"))
    sent = sign_in(operator).post(address + "/hold", {"reason": COURT}, content_type="application/json")
    assert (sent.status_code, sent.json()["hold"]["reason"]) == (200, COURT)
    again = sign_in(operator).post(address + "/hold", {"reason": COURT}, content_type="application/json")
    assert (again.status_code, again.json()["code"]) == (409, "cannot_hold")
    assert sign_in(steward).get(address).json()["hold"]["reason"] == COURT
    released = sign_in(operator).post(
        address + "/release-hold", {"reason": "Settled."}, content_type="application/json"
    )
    assert (released.status_code, released.json()["hold"]) == (200, None)


# The database


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"reason": ""}, "hold_has_a_reason"),
        ({"released_at": timezone.now()}, "hold_released_by_somebody_for_a_reason"),
        ({"release_reason": "Settled."}, "hold_released_by_somebody_for_a_reason"),
    ],
)
def test_a_hold_is_whole(withdrawn, operator, changes, constraint):
    hold = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Hold.objects.filter(pk=hold.pk).update(**changes)


def test_there_is_one_hold_at_a_time(withdrawn, operator):
    holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    with pytest.raises(IntegrityError, match="one_hold_at_a_time"), transaction.atomic():
        Hold.objects.create(contribution=withdrawn, reason="Another.", placed_by=operator)
