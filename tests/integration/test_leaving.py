"""Sessions, tokens and sockets: what a person loses with a role, a session or the account, at once."""

import asyncio
import json
import time
from urllib.parse import urlsplit

import pytest
from allauth.usersessions.models import UserSession
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal import asgi
from portal.accounts import services
from portal.accounts.models import ApiToken, User
from portal.audit.models import AuditEvent
from portal.institutions import memberships
from portal.institutions.models import Membership
from portal.valkey import channels
from tests import factories

SESSIONS = reverse("usersessions_list")
SECONDS = 5


@pytest.fixture(autouse=True)
def _empty_limits():
    cache.clear()


@pytest.fixture
def person(db) -> User:
    return factories.user("Rosa Researcher", password=factories.PASSWORD)


def browser_of(person: User, agent: str = "Mozilla/5.0 (X11; Linux) Firefox/140") -> Client:
    """Sign in with the password, as a browser does."""
    client = Client(headers={"User-Agent": agent})
    answer = client.post(reverse("account_login"), {"login": person.email, "password": factories.PASSWORD})
    assert answer.status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get(reverse("accounts:profile")).status_code == 200


# Where one is signed in


def test_one_other_browser_is_ended(person):
    here, there = browser_of(person), browser_of(person, "Mozilla/5.0 (Windows NT 10.0) Chrome/142 Edg/142")
    page = here.get(SESSIONS)
    assert ("Firefox on Linux" in page.text, "Edge on Windows" in page.text) == (True, True)
    other = UserSession.objects.get(user_agent__contains="Edg/")
    here.post(reverse("accounts:end_session", args=[other.pk]))
    assert (is_in(here), is_in(there)) == (True, False)


def test_all_others_are_ended(person):
    here, others = browser_of(person), [browser_of(person), browser_of(person)]
    here.post(SESSIONS)
    assert [is_in(client) for client in (here, *others)] == [True, False, False]


def test_nobody_ends_or_sees_a_session_of_others(person, sign_in, outsider):
    browser_of(person, "Netscape of Rosa")
    stranger = sign_in(outsider)
    answer = stranger.post(reverse("accounts:end_session", args=[UserSession.objects.get(user=person).pk]))
    assert answer.status_code == 404
    assert "Netscape" not in stranger.get(SESSIONS).text
    assert UserSession.objects.filter(user=person).count() == 1


# Leaving


def test_ending_access_ends_sessions_and_tokens_and_open_sign_ins_of_kits(person, now):
    client = browser_of(person)
    token = services.create_token(person, name="kit", now=timezone.now())
    login, device_code = services.begin_device_login(client_name="kit", now=timezone.now())
    services.answer_device_login(login.user_code, approve=True, by=person, now=timezone.now())
    services.end_access(person, now=timezone.now())
    assert not is_in(client)
    assert Client().get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    with pytest.raises(services.DeviceLoginRefused):
        services.redeem_device_login(device_code, now=timezone.now())
    assert is_in(browser_of(person))  # the account itself is open


def test_the_last_role_takes_everything_along_and_another_role_keeps_it(institution, steward):
    steward.set_password(factories.PASSWORD)
    steward.save()
    investigator = factories.person_of(institution)
    memberships.add_role(institution, steward, Membership.Role.MEMBER, by=investigator, now=timezone.now())
    client = browser_of(steward)
    first, last = steward.memberships.order_by("pk")
    memberships.end_membership(first, by=investigator, now=timezone.now())
    assert is_in(client)
    memberships.end_membership(last, by=investigator, now=timezone.now())
    assert not is_in(client)
    assert AuditEvent.objects.filter(verb="account.access_ended", subject_id=steward.pk).count() == 1


def test_changing_the_institution_is_leaving_one_and_joining_another(institution, member, outsider):
    services.create_token(member, name="old job", now=timezone.now())
    memberships.end_membership(member.memberships.get(), by=member, now=timezone.now())
    other = outsider.memberships.get().institution
    _, secret = memberships.invite(
        other, email=member.email, role=Membership.Role.MEMBER, by=outsider, now=timezone.now()
    )
    memberships.accept_invitation(secret, by=member, verified_emails={member.email}, now=timezone.now())
    assert [row.institution for row in member.memberships.current()] == [other]
    assert ApiToken.objects.get(user=member).revoked_at is not None


def test_a_closed_account_is_out_and_can_be_opened_again(person, operator):
    client = browser_of(person)
    services.close_account(person, by=operator, now=timezone.now())
    assert not is_in(client)
    services.reopen_account(person, by=operator)
    assert is_in(browser_of(person))
    verbs = AuditEvent.objects.filter(subject_id=person.pk, verb__startswith="account.").order_by("pk")
    assert [event.verb for event in verbs] == [
        "account.signed_in",
        "account.closed",
        "account.access_ended",
        "account.reopened",
        "account.signed_in",
    ]


def test_an_erased_account_is_closed_for_ever(person, now):
    rows = User.objects.filter(pk=person.pk)
    for changes in ({"is_active": True}, {"is_active": False, "is_staff": True}):
        with pytest.raises(IntegrityError, match="erased_account_is_closed"), transaction.atomic():
            rows.update(erased_at=now, **changes)


# Sockets


class Socket(ApplicationCommunicator):
    """An open page's socket, through the whole ASGI application and the real Channels layer."""

    def __init__(self, client: Client) -> None:
        cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
        headers = [(b"cookie", cookie), (b"origin", b"http://localhost")]
        scope = {"type": "websocket", "path": "/ws/live/", "query_string": b"", "headers": headers, "subprotocols": []}
        super().__init__(asgi.application, scope)

    async def subscribe(self, *names: str) -> None:
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(SECONDS))["type"] == "websocket.accept"
        await self.send_input({"type": "websocket.receive", "text": json.dumps({"subscribe": names})})
        assert await self.told() == {"subscribed": sorted(names)}

    async def told(self) -> dict:
        return json.loads((await self.receive_output(SECONDS))["text"])

    async def closing_code(self) -> int:
        """Wait until the socket is closed, and return its code."""
        while (message := await self.receive_output(SECONDS))["type"] != "websocket.close":
            pass
        return message["code"]


def ends_socket(client: Client, change, *names: str) -> int:
    """Return the code with which the change closes an open page's socket."""

    async def scenario() -> int:
        socket = Socket(client)
        await socket.subscribe(*names)
        await sync_to_async(change)()
        return await socket.closing_code()

    return asyncio.run(scenario())


@pytest.mark.django_db(transaction=True)
def test_within_five_seconds_nothing_of_somebody_who_left_works():
    factories.programme()
    institution = factories.member_institution("Moi Eye Clinic")
    steward = factories.person_of(institution, Membership.Role.STEWARD)
    steward.set_password(factories.PASSWORD)
    steward.save()
    contribution = factories.draft_contribution(institution)
    client, token = browser_of(steward), services.create_token(steward, name="kit", now=timezone.now())
    began = time.monotonic()

    def leave() -> None:
        manager = factories.person_of(institution)
        memberships.end_membership(steward.memberships.get(), by=manager, now=timezone.now())

    assert ends_socket(client, leave, f"contribution-{contribution.pk}") == 4403
    assert not is_in(client)
    assert Client().get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert time.monotonic() - began < SECONDS


@pytest.mark.django_db(transaction=True)
def test_signing_out_ending_the_session_and_closing_the_account_close_the_socket():
    person = factories.user("Rosa", password=factories.PASSWORD)
    client = browser_of(person)
    assert ends_socket(client, lambda: client.post(reverse("account_logout"))) == 4403
    there, here = browser_of(person), browser_of(person)
    assert ends_socket(there, lambda: here.post(SESSIONS)) == 4403
    assert ends_socket(here, lambda: services.close_account(person, by=person, now=timezone.now())) == 4403


@pytest.mark.django_db(transaction=True)
def test_a_lost_role_drops_what_it_showed_and_keeps_the_page():
    auditor = factories.consortium_person("Ada", "auditor")
    auditor.set_password(factories.PASSWORD)
    auditor.save()
    client, role = browser_of(auditor), auditor.consortium_roles.get()

    async def scenario() -> dict:
        socket = Socket(client)
        await socket.subscribe("runs")
        await sync_to_async(services.end_role)(role, by=None, now=timezone.now())
        return await socket.told()

    assert asyncio.run(scenario()) == {"subscribed": []}
    assert is_in(client)


@pytest.mark.django_db(transaction=True)
def test_a_site_beside_ours_in_the_same_valkey_is_not_heard(settings):
    """It has another database number, which publish and subscribe do not know."""
    auditor = factories.consortium_person("Ada", "auditor")
    auditor.set_password(factories.PASSWORD)
    auditor.save()
    client, ours = browser_of(auditor), settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"][0]
    beside = RedisPubSubChannelLayer(**channels(urlsplit(ours)._replace(path="/1").geturl()))

    async def scenario() -> dict:
        socket = Socket(client)
        await socket.subscribe("runs")
        await beside.group_send("live.runs", {"type": "changed", "name": "theirs"})
        await get_channel_layer().group_send("live.runs", {"type": "changed", "name": "ours"})
        return await socket.told()

    assert asyncio.run(scenario()) == {"changed": "ours"}
