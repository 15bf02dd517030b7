"""An institution that needs more room asks for it in the portal, and an operator answers."""

import threading

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from contributions import room
from contributions.models import RoomRequest
from contributions.room import GIB, MOST_BYTES
from jobs import tasks
from portal import erasure
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import memberships, merging
from portal.notifications.models import Notification
from tests import contributing, factories
from tests.contributing import announce, text

WHY = "A new camera: 3,000 photographs a week."
pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def _ten_gib(settings):
    settings.UPLOAD_QUOTA_BYTES = 10 * GIB


@pytest.fixture
def draft(institution, programme, steward):
    return contributing.draft(institution, contributing.registered_base(programme), by=steward)


@pytest.fixture
def ask(institution, steward):
    def _ask(size: int = 40, *, place=institution, by=steward, reason: str = WHY) -> RoomRequest:
        return room.ask(place, size_bytes=size * GIB, reason=reason, by=by, now=timezone.now())

    return _ask


@pytest.fixture
def grant(operator):
    def _grant(request: RoomRequest, size: int = 40, *, by=operator, reply: str = "") -> RoomRequest:
        return room.grant(request, size_bytes=size * GIB, reply=reply, by=by, now=timezone.now())

    return _grant


@pytest.fixture
def decline(operator):
    def _decline(request: RoomRequest, reply: str = "The store is full.", *, by=operator) -> RoomRequest:
        return room.decline(request, reply=reply, by=by, now=timezone.now())

    return _decline


def address(institution, request: RoomRequest | None = None, step: str = "") -> str:
    page = f"/contributions/room/{institution.slug}/"
    return f"{page}requests/{request.pk}/{step}/" if request else page


def told(person) -> list[tuple[str, str, str]]:
    rows = Notification.objects.filter(recipient=person, path__startswith="/contributions/room/").order_by("pk")
    return list(rows.values_list("subject", "text", "path"))


# Asking and answering


def test_what_did_not_fit_fits_after_a_grant(draft, steward, settings, ask, grant, institution, outsider):
    settings.UPLOAD_QUOTA_BYTES = 3
    with pytest.raises(
        room.QuotaExceeded, match="has 4 bytes, and Moi Eye Clinic has 3 of 3 left.*or ask for more room"
    ):
        announce(draft, b"1234", by=steward)
    request = ask(1)
    with pytest.raises(room.QuotaExceeded) as caught:  # asking alone gives nothing
        announce(draft, b"1234", by=steward)
    assert caught.value.next_url == address(institution)
    grant(request, 1)
    assert announce(draft, b"1234", by=steward).size_bytes == 4
    assert (room.quota_bytes(institution), room.of(institution).left_bytes) == (GIB, GIB - 4)
    assert room.quota_bytes(outsider.memberships.get().institution) == 3  # nobody else's grew


def test_a_request_is_on_record_and_told_both_ways(
    institution, steward, investigator, member, outsider, operator, auditor, ask, grant
):
    granted = grant(ask(), 30, reply=" Thirty, for now. ")
    assert (granted.status, granted.asked_bytes, granted.granted_bytes) == ("granted", 40 * GIB, 30 * GIB)
    assert (granted.reason, granted.reply, granted.asked_by, granted.decided_by) == (
        WHY, "Thirty, for now.", steward, operator
    )  # fmt: skip
    events = AuditEvent.objects.filter(verb__startswith="room_request.").order_by("pk")
    assert list(events.values_list("verb", "actor_id", "institution_id", "facts", "subject")) == [
        ("room_request.asked", steward.pk, institution.pk, {"asked_bytes": 40 * GIB},
         "request of Moi Eye Clinic for more room"),
        ("room_request.granted", operator.pk, institution.pk, {"granted_bytes": 30 * GIB},
         "request of Moi Eye Clinic for more room"),
    ]  # fmt: skip
    assert told(operator) == [
        ("Moi Eye Clinic asks for more room",
         "It has room for 10 GiB and asks for 40 GiB. Why, and what its files take, says this page, where you answer:",
         address(institution, granted, "decide")),
    ]  # fmt: skip
    answer = (
        "Moi Eye Clinic has more room",
        "There is room for 30 GiB from now on. The operator's reply: Thirty, for now.",
        address(institution),
    )
    assert (told(steward), told(investigator)) == ([answer], [answer])
    assert [told(person) for person in (member, outsider, auditor)] == [[], [], []]


def test_a_refusal_says_why_and_changes_nothing(institution, steward, ask, decline, operator):
    request = ask()
    with pytest.raises(room.ReasonMissing, match="Say why"):
        decline(request, "  ")
    declined = decline(request)
    assert (declined.status, declined.granted_bytes, room.quota_bytes(institution)) == ("declined", None, 10 * GIB)
    assert told(steward) == [
        ("Moi Eye Clinic gets no more room",
         "There is room for 10 GiB as before. The operator's reply: The store is full.", address(institution)),
    ]  # fmt: skip
    assert ask(20).status == "requested"  # one may ask again


def test_who_asked_is_told_also_without_the_role_and_nobody_who_left(institution, steward, ask, decline, grant):
    request = ask()
    [role] = institution.memberships.current().filter(user=steward)
    factories.join(institution, steward, "member")
    memberships.end_membership(role, by=factories.person_of(institution), now=timezone.now())
    decline(request)
    assert [subject for subject, _, _ in told(steward)] == ["Moi Eye Clinic gets no more room"]
    again = ask(by=factories.person_of(institution))
    [rest] = institution.memberships.current().filter(user=steward)
    memberships.end_membership(rest, by=factories.person_of(institution), now=timezone.now())
    grant(again)
    assert len(told(steward)) == 1


def test_a_reply_names_nobody_by_number(institution, steward, ask, decline, sign_in):
    """What an operator types is not taken for a reference to a person."""
    decline(ask(), f"Ask {{person:{steward.pk}}}.")
    assert steward.name not in text(sign_in(factories.person_of(institution)).get("/inbox/"))


def test_of_two_requests_the_second_waits(institution, ask, decline, investigator):
    first = ask()
    with pytest.raises(room.RequestOpen, match="has asked for more room already"):
        ask(50, by=investigator)
    decline(first)
    assert ask(50, by=investigator).asked_bytes == 50 * GIB
    assert [row.asked_bytes for row in room.waiting()] == [50 * GIB]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_ask_at_once_one_does(institution, ask, steward, investigator):
    barrier, found = threading.Barrier(2), []

    def one(person) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=10)
            found.append(ask(by=person).status)
        except room.RequestOpen as exc:
            found.append(exc.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=[person]) for person in (steward, investigator)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(found) == ["requested", "room_request_open"]
    assert (RoomRequest.objects.count(), AuditEvent.objects.filter(verb="room_request.asked").count()) == (1, 1)


@pytest.mark.parametrize("size", [1, 10, 100 * 1024 + 1])
def test_a_size_is_more_than_there_is_and_can_be_meant(institution, ask, grant, size):
    with pytest.raises(room.SizeRefused):
        ask(size)
    request = ask()
    with pytest.raises(room.SizeRefused):
        grant(request, size)
    request.refresh_from_db()
    assert (request.status, RoomRequest.objects.count(), room.quota_bytes(institution)) == ("requested", 1, 10 * GIB)
    assert MOST_BYTES == 100 * 2**40


def test_the_newest_grant_counts_and_never_less_than_everybody_has(institution, ask, grant, decline, settings):
    grant(ask(20), 15)
    grant(ask(30), 30)
    decline(ask(90))
    assert room.quota_bytes(institution) == 30 * GIB
    with pytest.raises(room.SizeRefused, match="has room for 30 GiB already"):
        grant(ask(50), 20)
    settings.UPLOAD_QUOTA_BYTES = 35 * GIB
    assert room.quota_bytes(institution) == 35 * GIB


def test_a_reason_is_asked_for(ask):
    with pytest.raises(room.ReasonMissing, match="what the room is for"):
        ask(reason=" \n")
    assert RoomRequest.objects.count() == 0


def test_what_is_over_is_not_answered_again(institution, steward, ask, grant, decline):
    for end, word in ((lambda row: room.withdraw(row, by=steward, now=timezone.now()), "taken back"),
                      (grant, "granted"), (decline, "declined")):  # fmt: skip
        request = ask(room.quota_bytes(institution) // GIB + 5)
        end(RoomRequest.objects.get(pk=request.pk))
        for again in (grant, decline, lambda row: room.withdraw(row, by=steward, now=timezone.now())):
            with pytest.raises(room.NotWaiting, match=f"for more room was {word} on"):
                again(request)  # as it was when the page was opened
    assert list(RoomRequest.objects.order_by("pk").values_list("status", flat=True)) == [
        "withdrawn", "granted", "declined"
    ]  # fmt: skip


# Who


def test_only_its_stewards_ask_and_take_back(
    institution, ask, steward, investigator, member, signing_official, outsider, operator, auditor, board
):
    others = [member, signing_official, outsider, operator, auditor, *board]
    for person in others:
        with pytest.raises(NotAllowed, match="Only a data steward or principal investigator of Moi Eye Clinic"):
            ask(by=person)
    request = ask(by=investigator)
    for person in others:
        with pytest.raises(NotAllowed):
            room.withdraw(request, by=person, now=timezone.now())
    assert room.withdraw(request, by=steward, now=timezone.now()).decided_by == steward


def test_only_an_operator_from_elsewhere_answers(institution, ask, grant, decline, operator, auditor, chair, steward):
    request = ask()
    for person in (steward, auditor, chair):
        with pytest.raises(NotAllowed, match="Only an operator"):
            grant(request, by=person)
        with pytest.raises(NotAllowed, match="Only an operator"):
            decline(request, by=person)
    factories.join(institution, operator)
    with pytest.raises(NotAllowed, match="who does not belong to the institution"):
        grant(request)
    assert room.withdraw(request, by=steward, now=timezone.now()).status == "withdrawn"
    ask()
    assert len(told(operator)) == 1  # the second request is not for them to answer


def test_an_applicant_and_a_merged_institution_get_no_room(
    institution, ask, grant, decline, steward, operator, sign_in
):
    applicant = factories.applied_institution("Khmer Eye Hospital", country="KH")
    with pytest.raises(NotAllowed, match="can have more room once the board has admitted it"):
        ask(place=applicant, by=factories.person_of(applicant))
    request = ask()
    into = factories.member_institution("Great Eye Hospital")
    heir = factories.person_of(into)
    merging.merge(institution, into, by=operator, now=timezone.now())
    with pytest.raises(NotAllowed, match="is now part of Great Eye Hospital, which has room of its own") as caught:
        ask(by=heir)
    assert caught.value.next_url == address(into)
    with pytest.raises(NotAllowed, match="is now part of Great Eye Hospital"):
        grant(request)
    page = text(sign_in(operator).get(address(institution, request, "decide")))
    assert "It sends nothing more, so the request can only be declined." in page
    assert sign_in(heir).get(address(institution, request, "withdraw")).status_code == 200
    decline(request)
    assert [subject for subject, _, _ in told(heir)] == ["Moi Eye Clinic gets no more room"]
    assert "which has room of its own" in text(sign_in(heir).get(address(institution)))
    assert ask(place=into, by=heir).institution == into


def test_a_request_outlasts_the_account_of_who_asked(institution, ask, steward, grant):
    request = ask()
    assert dict(erasure.stays(steward))["request for more room"] == 1
    factories.person_of(institution)
    erasure.erase(steward, by=steward, now=timezone.now())
    assert (grant(request).asked_by.name, room.quota_bytes(institution)) == ("Former member", 40 * GIB)


# What the database refuses


@pytest.mark.parametrize(
    ("broken", "constraint"),
    [
        ({"asked_bytes": 0}, "room_request_asks_for_some"),
        ({"reason": ""}, "room_request_has_a_reason"),
        ({"granted_bytes": 1}, "room_request_granted_bytes_iff_granted"),
        ({"status": "withdrawn"}, "room_request_decided_iff_not_open"),
        ({"decided_at": timezone.now()}, "room_request_decided_iff_not_open"),
    ],
)
def test_the_database_holds_a_request_to_its_rules(ask, broken, constraint):
    request = ask()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        RoomRequest.objects.filter(pk=request.pk).update(**broken)


def test_the_database_holds_an_answer_to_its_rules(ask, decline, grant):
    declined, granted = decline(ask()), grant(ask())
    for row, broken, constraint in (
        (declined, {"reply": ""}, "room_request_declined_says_why"),
        (declined, {"status": "lost"}, "room_request_status_known"),
        (declined, {"status": "granted"}, "room_request_granted_bytes_iff_granted"),
        (granted, {"granted_bytes": 0}, "room_request_granted_bytes_iff_granted"),
        (granted, {"decided_by": None}, "room_request_decided_iff_not_open"),
    ):
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            RoomRequest.objects.filter(pk=row.pk).update(**broken)


def test_the_database_knows_one_open_request(ask, decline):
    declined = decline(ask())
    ask()
    with pytest.raises(IntegrityError, match="one_open_room_request"), transaction.atomic():
        RoomRequest.objects.filter(pk=declined.pk).update(status="requested", decided_at=None, decided_by=None)


def test_a_merger_ends_what_was_asked_before(institution, ask, steward, operator, sign_in):
    request, theirs = ask(), factories.member_institution("Kisumu Eye Hospital")
    other = ask(place=theirs, by=factories.person_of(theirs))
    into = factories.member_institution("Great Eye Hospital")
    merging.merge(institution, into, by=operator, now=timezone.now())
    for _ in range(2):
        tasks.sweep()
    request.refresh_from_db()
    reply = "Moi Eye Clinic is now part of Great Eye Hospital, which has room of its own: ask there."
    assert (request.status, request.decided_by, request.reply) == ("declined", operator, reply)
    assert list(room.waiting()) == [other]
    assert [subject for subject, _, _ in told(steward)] == ["Moi Eye Clinic gets no more room"]
    assert AuditEvent.objects.filter(verb="room_request.declined").count() == 1
