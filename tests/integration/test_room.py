"""An institution that needs more room asks for it in the portal, and an operator answers."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from contributions import room
from contributions.models import RoomRequest
from contributions.room import GIB, MOST_BYTES
from jobs import health
from jobs.kit.client import Portal, PortalError
from portal import erasure
from portal.accounts import services as accounts
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


# Pages


def test_a_steward_asks_on_the_page_and_takes_it_back(institution, steward, draft, sign_in, settings):
    settings.UPLOAD_QUOTA_BYTES = 2 * GIB
    announce(draft, b"x" * 2**20, by=steward)
    client = sign_in(steward)
    page = client.get(address(institution))
    assert "1.0 MiB / 2.0 GiB" in text(page)
    assert [(row.status, row.contributions, row.used_bytes) for row in page.context["shares"]] == [("draft", 1, 2**20)]
    assert ("None has been answered" in text(page), "now it is 2 GiB" in text(page)) == (True, True)

    refused = client.post(address(institution), {"size": "2", "reason": WHY})
    assert (refused.status_code, list(refused.context["form"].errors)) == (422, ["size"])
    assert "has room for 2 GiB already" in text(refused)
    empty = client.post(address(institution), {"size": "", "reason": ""})
    assert (empty.status_code, sorted(empty.context["form"].errors)) == (422, ["reason", "size"])
    assert RoomRequest.objects.count() == 0

    assert client.post(address(institution), {"size": "2000", "reason": WHY}).headers["Location"] == address(
        institution
    )
    request = RoomRequest.objects.get()
    page = client.get(address(institution))
    assert (WHY in text(page), 'name="size"' in page.content.decode()) == (True, False)
    assert "Nobody answers it then" in text(client.get(address(institution, request, "withdraw")))
    assert client.post(address(institution, request, "withdraw")).status_code == 302
    request.refresh_from_db()
    assert (request.status, request.decided_by) == ("withdrawn", steward)
    assert client.get(address(institution, request, "withdraw")).status_code == 409
    assert "Taken back" in text(client.get(address(institution)))


def test_an_operator_answers_on_the_pages(institution, steward, sign_in, operator, chair, ask, draft):
    announce(draft, b"x" * 2**20, by=steward)
    client = sign_in(operator)
    assert "No institution waits for an answer" in text(client.get("/ops/storage/"))
    request = ask()
    decide = address(institution, request, "decide")
    assert (WHY in text(client.get("/ops/storage/")), decide in client.get("/ops/storage/").content.decode()) == (
        True,
        True,
    )
    seen = sign_in(chair).get("/ops/storage/").content.decode()
    assert (WHY in seen, decide in seen) == (True, False)
    page = client.get(decide)
    assert (page.context["form"].initial, WHY in text(page), "1.0 MiB" in text(page)) == ({"size": 40}, True, True)

    for given, field in (
        ({"answer": "decline", "size": "40"}, "reply"),
        ({"answer": "grant", "size": ""}, "size"),
        ({"answer": "grant", "size": "10"}, "size"),
        ({"answer": "no", "size": "40"}, "answer"),
    ):
        refused = client.post(decide, given)
        assert (refused.status_code, list(refused.context["form"].errors)) == (422, [field])
    request.refresh_from_db()
    assert request.status == "requested"

    answered = client.post(decide, {"answer": "grant", "size": "25", "reply": "A start."}, follow=True)
    assert "The room is granted. The institution is told." in text(answered)
    request.refresh_from_db()
    assert (request.status, request.granted_bytes, request.reply) == ("granted", 25 * GIB, "A start.")
    assert "1.0 MiB / 25.0 GiB" in text(answered)  # by institution
    assert client.get(decide).status_code == 409
    past = text(sign_in(steward).get(address(institution)))
    assert ("Granted 25 GiB" in past, "A start." in past) == (True, True)

    second = ask(90)
    told_so = client.post(
        address(institution, second, "decide"), {"answer": "decline", "size": "x", "reply": "No."}, follow=True
    )
    assert "The request is declined. The institution is told." in text(told_so)


def test_what_is_asked_is_nobody_elses_business(
    institution, ask, outsider, researcher, board_member, member, auditor, sign_in
):
    request = ask()
    theirs = ask(place=outsider.memberships.get().institution, by=outsider)
    for person in (outsider, researcher, board_member):
        client = sign_in(person)
        for path in (
            address(institution),
            address(institution, request, "withdraw"),
            address(institution, request, "decide"),
        ):
            assert (client.get(path).status_code, client.post(path).status_code) == (404, 404)
        assert client.post(address(theirs.institution, request, "withdraw")).status_code == 404  # by one's own address
    for person in (member, auditor):
        page = sign_in(person).get(address(institution))
        assert (page.status_code, WHY in text(page), "Take it back" in text(page)) == (200, True, False)
        assert sign_in(person).post(address(institution, request, "withdraw")).status_code == 403
    assert [row.status for row in (RoomRequest.objects.get(pk=request.pk), RoomRequest.objects.get(pk=theirs.pk))] == [
        "requested", "requested"
    ]  # fmt: skip


def test_the_way_there(institution, draft, steward, member, outsider, sign_in):
    link = f'href="{address(institution)}"'
    assert link in sign_in(steward).get(f"/contributions/{draft.pk}/files/").content.decode()
    seen = [
        link in sign_in(person).get(f"/institutions/{institution.slug}/").content.decode()
        for person in (member, outsider)
    ]
    assert seen == [True, False]


@pytest.mark.django_db(transaction=True)  # the live server has connections of its own
def test_the_kit_says_where_to_ask(live_server, settings, draft, steward, institution):
    settings.UPLOAD_QUOTA_BYTES, settings.PORTAL_URL = 3, live_server.url
    kit = Portal(live_server.url, accounts.create_token(steward, name="kit", now=timezone.now()), backoff_seconds=0)
    with pytest.raises(PortalError) as caught:
        kit.call(
            "POST", f"contributions/{draft.pk}/files", {"name": "w.safetensors", "size_bytes": 4, "sha256": "a" * 64}
        )
    assert (caught.value.code, caught.value.fix) == (
        "quota_exceeded",
        f"Go on at {live_server.url}{address(institution)}",
    )


def test_a_request_that_nobody_answers_shows_on_the_health_page(institution, ask, decline):
    request = ask()
    now = request.asked_at

    def found(now) -> list[str]:
        return [row.url for row in health.findings(now=now) if row.code == "room_request_waits"]

    assert (found(now + timedelta(days=2)), found(now + timedelta(days=4))) == (
        [], [address(institution, request, "decide")]
    )  # fmt: skip
    decline(request)
    assert found(now + timedelta(days=4)) == []


@pytest.mark.parametrize("places", [1, 3])
def test_operators_see_every_room_in_as_many_queries(programme, ask, grant, places, django_assert_num_queries):
    base = contributing.registered_base(programme, "another")
    for number in range(places):
        place = factories.member_institution(f"Clinic {number}")
        person = factories.person_of(place)
        announce(contributing.draft(place, base, by=person), b"12345", by=person)
        grant(ask(place=place, by=person))
    with django_assert_num_queries(2):
        assert [row.quota_bytes for row in room.rooms()] == [40 * GIB] * places


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
