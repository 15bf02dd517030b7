"""The pages of a request for more room: where it is asked, answered, found and seen by nobody else."""

from datetime import timedelta

import pytest
from django.utils import timezone

from contributions import room
from contributions.models import RoomRequest
from contributions.room import GIB
from jobs import health
from jobs.kit.client import Portal, PortalError
from portal.accounts import services as accounts
from tests import contributing, factories
from tests.contributing import announce, text
from tests.integration.test_room import WHY, _ten_gib, address, ask, decline, draft, grant

__all__ = ["_ten_gib", "ask", "decline", "draft", "grant"]  # fixtures
pytestmark = pytest.mark.services


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
            "POST",
            f"contributions/{draft.pk}/files",
            {"name": "w.safetensors", "size_bytes": 4, "parts_sha256": "a" * 64},
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
