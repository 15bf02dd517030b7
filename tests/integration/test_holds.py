"""Files that a court or an inquiry needs: nothing deletes them while they are held back, and then what was due does."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import deletion, holds, room
from contributions import services as contributions
from contributions.models import Hold
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
    released = holds.release(hold, reason="It was settled.", by=operator, now=timezone.now())
    assert sent == [("jobs.delete_files", {"contribution_id": withdrawn.pk})]
    tasks.delete_files(contribution_id=withdrawn.pk)
    assert (lies_there(withdrawn), withdrawn.files.get().state) == (False, "deleted")
    assert (released.pk, released.released_by, released.release_reason) == (hold.pk, operator, "It was settled.")
    events = AuditEvent.objects.filter(verb__startswith="contribution.hold_").order_by("pk")
    assert [(event.verb, event.actor_id, event.facts) for event in events] == [
        ("contribution.hold_placed", operator.pk, {"hold": hold.pk}),
        ("contribution.hold_released", operator.pk, {"hold": hold.pk}),
    ]
    told = steward.notifications.filter(subject__contains=str(withdrawn)).order_by("pk")
    assert list(told.values_list("subject", flat=True))[-3:] == [
        f"The files of {withdrawn} are held back from deletion",
        f"The files of {withdrawn} are held back no longer",
        f"The files of {withdrawn} are deleted",
    ]
    assert [row.pk for row in told if "Nairobi" in row.text or "settled" in row.text] == []


def test_before_its_day_a_released_one_waits_for_it(withdrawn, operator, sent):
    hold = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    holds.release(hold, reason="Settled.", by=operator, now=timezone.now())
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
    with pytest.raises(holds.Unexplained):
        holds.place(withdrawn, reason="  ", by=operator, now=timezone.now())
    draft = contributing.draft(institution, base, by=steward)
    contributing.upload(draft, HELD[2:], by=steward)
    with pytest.raises(holds.CannotHold, match="was never submitted"):
        holds.place(draft, reason=COURT, by=operator, now=timezone.now())
    deletion.delete_files(other.pk, now=timezone.now() + timedelta(days=30))
    with pytest.raises(holds.CannotHold, match="there is nothing to hold back"):
        holds.place(other, reason=COURT, by=operator, now=timezone.now())

    contributions.withdraw(draft, by=steward, reason="Wrong folder.", now=timezone.now())
    with pytest.raises(holds.CannotHold, match="was never submitted"):
        holds.place(draft, reason=COURT, by=operator, now=timezone.now())

    hold = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    with pytest.raises(holds.CannotHold, match="are held back already"):
        holds.place(withdrawn, reason="Another.", by=operator, now=timezone.now())
    for person in (steward, board[0]):
        with pytest.raises(NotAllowed):
            holds.release(hold, reason="Mine.", by=person, now=timezone.now())
    assert (Hold.objects.count(), holds.current().get().reason) == (1, COURT)


def test_nobody_frees_the_files_of_the_own_institution(withdrawn, other, operator):
    """An inquiry may be into the institution that the operator belongs to."""
    hold = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    factories.join(withdrawn.institution, operator, "member")
    with pytest.raises(NotAllowed, match="does not belong to the institution"):
        holds.release(hold, reason="Settled.", by=operator, now=timezone.now())
    assert holds.place(other, reason=COURT, by=operator, now=timezone.now()).released_at is None


def test_a_release_is_of_the_hold_that_was_looked_at(withdrawn, operator):
    """Another operator has released it and placed one for another court meanwhile."""
    first = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    holds.release(first, reason="Settled.", by=operator, now=timezone.now())
    second = holds.place(withdrawn, reason="Another court.", by=operator, now=timezone.now())
    with pytest.raises(holds.NotHeld, match="was released already"):
        holds.release(first, reason="Settled.", by=operator, now=timezone.now())
    assert holds.current().get() == second


def test_what_only_a_hold_keeps_takes_none_of_the_institutions_room(withdrawn, institution, operator):
    assert room.of(institution).used_bytes == len(HELD)
    hold = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    assert (room.of(institution).used_bytes, room.rooms()) == (0, [])
    holds.release(hold, reason="Settled.", by=operator, now=timezone.now())
    assert room.of(institution).used_bytes == len(HELD)


def test_an_old_hold_is_looked_at_again(withdrawn, operator):
    hold = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    found = {finding.code for finding in health.findings(now=hold.placed_at + timedelta(days=180))}
    later = {finding.code for finding in health.findings(now=hold.placed_at + timedelta(days=181))}
    assert ("hold_is_old" in found, "hold_is_old" in later) == (False, True)


def test_a_hold_comes_too_late_once_the_deletion_has_begun(withdrawn, operator, monkeypatch):
    """Not a hold on files of which some are gone, also where the store went away in between."""
    erase, day = storage.erase, timezone.now() + timedelta(days=30)

    def broken(bucket, folder):
        with pytest.raises(holds.CannotHold, match="are being deleted: a hold comes too late"):
            holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
        if bucket == storage.VAULT:
            raise storage.Unavailable("The object store did not answer.")
        erase(bucket, folder)

    monkeypatch.setattr(storage, "erase", broken)
    with pytest.raises(storage.Unavailable):
        deletion.delete_files(withdrawn.pk, now=day)
    with pytest.raises(holds.CannotHold, match="are being deleted: a hold comes too late"):
        holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    monkeypatch.setattr(storage, "erase", erase)
    deletion.delete_files(withdrawn.pk, now=day)
    with pytest.raises(holds.CannotHold, match="there is nothing to hold back"):
        holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    withdrawn.refresh_from_db()
    assert (Hold.objects.count(), withdrawn.deletion_began_at) == (0, day)


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
    release = f"{page}holds/{Hold.objects.get().pk}/release/"
    found = [sign_in(person).get(page) for person in (operator, steward, member)]
    for response in found:
        assert COURT in text(response)
        assert f"Without the hold they would be deleted on {on}." in text(response)
    assert [release in response.content.decode() for response in found] == [True, False, False]
    listed = text(sign_in(auditor).get("/ops/storage/"))
    assert f"{withdrawn}{withdrawn.institution}" in listed
    assert (COURT in listed, "Held back from deletion" in listed) == (True, True)

    assert "What you ask for is done once the hold is released" in text(sign_in(steward).get(page + "delete-files/"))
    asked = sign_in(steward).post(page + "delete-files/", follow=True)
    assert "Once the hold is released, the files are deleted." in text(asked)
    assert f"Their deletion was asked for on {timezone.now():%-d %b %Y}" in text(asked)

    assert "Their day is over: they are deleted at once" in text(sign_in(operator).get(release))
    sign_in(operator).post(release, {"reason": "It was settled."})
    shown = text(sign_in(steward).get(page))
    assert "The files are being deleted." in shown
    assert (f"{COURT} Released: It was settled." in shown, "Without the hold" in shown) == (True, False)
    assert sign_in(operator).get(release).status_code == 409
    assert "Held back from deletion" not in text(sign_in(auditor).get("/ops/storage/"))


def test_the_withdrawal_promises_no_day_while_they_are_held(institution, base, steward, operator, sign_in):
    row = contributing.at_status("approved", institution, base, by=steward, content=HELD)
    holds.place(row, reason=COURT, by=operator, now=timezone.now())
    shown = text(sign_in(steward).get(f"/contributions/{row.pk}/withdraw/"))
    assert "they stay in the consortium's store until the hold is released" in shown
    assert "are deleted from the consortium's store on" not in shown


@pytest.mark.parametrize("seat", [0, 1], ids=["chair", "member"])
def test_the_board_reads_that_they_are_held_and_not_why(withdrawn, board, seat, operator, sign_in):
    hold = holds.place(withdrawn, reason=COURT, by=operator, now=timezone.now())
    colleague = board[seat]
    shown = text(sign_in(colleague).get(f"/contributions/{withdrawn.pk}/"))
    assert ("The files have been held back from deletion since" in shown, "Nairobi" in shown) == (True, False)
    answer = sign_in(colleague).get(f"/api/v1/contributions/{withdrawn.pk}").json()["hold"]
    assert (answer["id"], answer["reason"]) == (hold.pk, None)
    assert "Nairobi" not in text(sign_in(board[0]).get("/ops/storage/"))
    holds.release(hold, reason="Settled.", by=operator, now=timezone.now())
    assert "Nairobi" not in text(sign_in(colleague).get(f"/contributions/{withdrawn.pk}/"))


def test_the_api_says_what_is_held_and_until_when(withdrawn, steward, operator, sign_in):
    address = f"/api/v1/contributions/{withdrawn.pk}"
    due_at = deletion.due_at(withdrawn)
    assert due_at is not None
    before = sign_in(steward).get(address).json()
    assert (before["hold"], before["deletion_due_at"]) == (None, due_at.isoformat().replace("+00:00", "Z"))
    asks = {"content_type": "application/json", "data": {"reason": COURT}}
    sent = sign_in(operator).post(address + "/holds", **asks)
    assert (sent.status_code, sent.json()["hold"]["reason"]) == (200, COURT)
    again = sign_in(operator).post(address + "/holds", **asks)
    assert (again.status_code, again.json()["code"]) == (409, "cannot_hold")
    assert sign_in(steward).get(address).json()["hold"]["reason"] == COURT
    release = f"{address}/holds/{sent.json()['hold']['id']}/release"
    assert sign_in(steward).post(release, **asks).status_code == 403
    released = sign_in(operator).post(release, **asks)
    assert (released.status_code, released.json()["hold"]) == (200, None)
    again = sign_in(operator).post(release, **asks)
    assert (again.status_code, again.json()["code"]) == (409, "not_held")
    deletion.delete_files(withdrawn.pk, now=due_at)
    assert sign_in(steward).get(address).json()["deletion_due_at"] is None


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


def test_no_deletion_begins_of_what_is_in_use(institution, base, steward):
    row = contributing.at_status("approved", institution, base, by=steward, content=HELD)
    with pytest.raises(IntegrityError, match="contribution_deletion_begins_once_closed"), transaction.atomic():
        type(row).objects.filter(pk=row.pk).update(deletion_began_at=timezone.now())
