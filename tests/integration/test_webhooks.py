"""Signed webhooks, called over a real loopback server; private networks are refused."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from portal.audit.models import AuditEvent
from portal.audit.people import reference
from portal.notifications import outbox, webhooks
from portal.notifications.models import Notification, OutboxMessage, Webhook
from portal.notifications.services import notify
from portal.notifications.types import Type
from tests import factories
from tests.races import while_locked

PAGE = "/inbox/webhooks/"


class Endpoint:
    """What arrived, and which status the next answers have."""

    def __init__(self, port: int) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{port}/hook?of=ann"


@pytest.fixture
def endpoint():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(here.answers.pop(0) if here.answers else 204)
            self.send_header("Location", here.url)
            self.end_headers()

        def log_message(self, *args):
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        here = Endpoint(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield here
        server.shutdown()
        thread.join()


@pytest.fixture
def ann(db):
    return factories.user("Ann Able", email="ann@example.org", password=factories.PASSWORD)


def tell(*people, **changes):
    values = {"type": Type.CONTRIBUTION, "subject": "C-7 passed", "text": "Private words.", "path": "/models/"}
    notify(people, **values | changes)


def call(*, now=None):
    """Send what is due; return the webhook's message."""
    outbox.send_due(now=now or timezone.now())
    return OutboxMessage.objects.filter(channel="webhook").latest("pk")


# Signed


def test_an_endpoint_is_told_and_can_check_the_signature(ann, researcher, endpoint, settings):
    webhook = webhooks.add(ann, url=endpoint.url, now=timezone.now())
    secret = webhooks.secret_of(webhook)
    tell(ann, researcher, subject=f"{reference(researcher)} has signed")
    message = call()
    ((path, headers, body),) = endpoint.requests
    assert (path, headers["content-type"], message.state) == ("/hook?of=ann", "application/json", "sent")
    row = Notification.objects.get(recipient=ann)
    assert json.loads(body) == {
        "type": "contribution",
        "subject": "Rosa Researcher has signed",
        "url": f"{settings.PORTAL_URL}/models/",
        "created_at": row.created_at.isoformat(),
    }
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 60
    webhook.refresh_from_db()
    assert (webhook.failures, webhook.last_success_at is None) == (0, False)


def test_no_row_holds_the_secret(ann, endpoint):
    secret = webhooks.secret_of(webhooks.add(ann, url=endpoint.url, now=timezone.now()))
    assert [
        value for value in Webhook.objects.values().get().values() if secret.removeprefix("whsec_") in str(value)
    ] == []
    other = webhooks.add(ann, url=f"{endpoint.url}2", now=timezone.now())
    assert webhooks.secret_of(other) != secret


# Failing


def test_a_second_attempt_has_the_same_id(ann, endpoint):
    webhooks.add(ann, url=endpoint.url, now=timezone.now())
    tell(ann)
    endpoint.answers = [503]
    message = call()
    assert (message.state, message.last_error) == ("pending", "The endpoint answered 503.")
    assert Webhook.objects.get().failures == 1
    assert call(now=message.next_attempt_at).state == "sent"
    first, second = (headers["webhook-id"] for _, headers, _ in endpoint.requests)
    assert first == second == f"msg_{message.pk}"
    assert (Webhook.objects.get().failures, Webhook.objects.get().failing_since) == (0, None)


def test_a_redirect_is_not_followed(ann, endpoint):
    webhooks.add(ann, url=endpoint.url, now=timezone.now())
    endpoint.answers = [302]
    tell(ann)
    assert (call().last_error, len(endpoint.requests)) == ("The endpoint answered 302.", 1)


def test_an_endpoint_that_is_gone_is_disabled_at_once(ann, endpoint):
    webhooks.add(ann, url=endpoint.url, now=timezone.now())
    endpoint.answers = [410]
    tell(ann)
    assert call().state == "dead"
    assert "410" in Webhook.objects.get().disabled_because
    tell(ann)
    assert OutboxMessage.objects.filter(channel="webhook").count() == 1


def test_five_days_of_failure_disable_an_endpoint_and_its_owner_is_told(ann, endpoint):
    webhooks.add(ann, url=endpoint.url, now=timezone.now())
    endpoint.answers = [500] * 8
    tell(ann)
    start = timezone.now()
    call(now=start)
    tell(ann)
    call(now=start + webhooks.DISABLED_AFTER - timedelta(seconds=1))
    assert Webhook.objects.get().disabled_at is None
    tell(ann)
    call(now=start + webhooks.DISABLED_AFTER)
    assert Webhook.objects.get().disabled_at is not None
    assert set(OutboxMessage.objects.filter(channel="webhook").values_list("state", flat=True)) == {"dead"}
    assert Notification.objects.latest("pk").subject == "One of your webhooks was disabled"
    assert AuditEvent.objects.get(verb="webhook.disabled").actor_id is None


@contextmanager
def raw_server(behave):
    """Run a server of one connection that behaves as told."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve():
            connection, _ = listener.accept()
            with connection:
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def test_an_endpoint_that_drips_is_cut_off(ann, monkeypatch):
    monkeypatch.setattr(webhooks, "CALL_SECONDS", 0.5)
    done = threading.Event()

    def drip(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        try:
            while not done.wait(0.05):
                connection.sendall(b"X-Drip: 1\r\n")
        except OSError:
            return

    with raw_server(drip) as url:
        webhooks.add(ann, url=url, now=timezone.now())
        tell(ann)
        assert call().last_error == "It took too long to answer."
        done.set()


def test_an_endless_answer_is_read_to_its_first_kilobyte(ann):
    def pour(connection):
        connection.recv(65536)
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2**24)
        except OSError:
            return

    with raw_server(pour) as url:
        webhooks.add(ann, url=url, now=timezone.now())
        tell(ann)
        assert call().state == "sent"


# Whom we do not call


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https://",
        "https://me:secret@example.org/",
        "https://a:99999/",
        "x",
    ],
)
def test_an_address_that_is_not_one_is_refused(ann, url):
    with pytest.raises(webhooks.WebhookRefused):
        webhooks.add(ann, url=url, now=timezone.now())
    assert Webhook.objects.count() == 0


PRIVATE = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "fe80::1",
    "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "255.255.255.255", "::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_leads_into_a_private_network_is_not_called(ann, monkeypatch, address):
    assert webhooks.is_callable(address) is False
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("93.184.216.34", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
    webhooks.add(ann, url="https://rebind.example.org/", now=timezone.now())
    tell(ann)
    assert call().last_error == "rebind.example.org leads into a private network, where we do not call."


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_this_machine_is_called_in_the_embedded_default_only(ann, settings, address):
    assert webhooks.is_callable(address) is True
    settings.EMBEDDED = False
    assert webhooks.is_callable(address) is False
    with pytest.raises(webhooks.WebhookRefused):
        webhooks.check("http://127.0.0.1:8000/")


def test_the_connection_goes_to_the_address_and_the_certificate_must_be_the_names(ann, monkeypatch):
    names = []

    def take(connection):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = lambda sock, name, ctx: names.append(name)
        try:
            context.wrap_socket(connection, server_side=True)
        except (ssl.SSLError, OSError):
            return

    with raw_server(take) as url:
        port = int(url.rpartition(":")[2].rstrip("/"))
        real = socket.getaddrinfo

        def lookup(host, *args, **kwargs):
            return real("127.0.0.1" if host == "hook.example.org" else host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        webhooks.add(ann, url=f"https://hook.example.org:{port}/", now=timezone.now())
        tell(ann)
        assert call().state == "pending"
    assert names == ["hook.example.org"]


# Pages


def test_an_endpoint_is_added_after_the_password_and_its_secret_shown_once(ann, endpoint, sign_in):
    browser = sign_in(ann)
    asked = browser.post(PAGE, {"url": endpoint.url})
    assert asked.headers["Location"].startswith(reverse("account_reauthenticate"))
    assert Webhook.objects.count() == 0
    page = browser.post(asked.headers["Location"], {"password": factories.PASSWORD}, follow=True)
    secret = webhooks.secret_of(Webhook.objects.get())
    assert (page.context["secret"], secret in page.text) == (secret, True)
    assert secret not in browser.get(PAGE).text
    again = browser.post(PAGE, {"url": endpoint.url})  # proved a moment ago
    assert (again.status_code, list(again.context["form"].errors)) == (422, ["url"])


def test_nobody_has_more_than_five_endpoints(ann, endpoint):
    for number in range(webhooks.LIMIT):
        webhooks.add(ann, url=f"{endpoint.url}{number}", now=timezone.now())
    with pytest.raises(webhooks.WebhookRefused, match="the most"):
        webhooks.add(ann, url=endpoint.url, now=timezone.now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("before", "second"), [(0, "same"), (webhooks.LIMIT - 1, "other")])
def test_of_two_endpoints_added_at_once_the_second_is_refused(db, before, second):
    """A button pressed twice; and two windows that each see room for one more."""
    owner, now = factories.user("Ann"), timezone.now()
    for number in range(before):
        webhooks.add(owner, url=f"https://example.org/{number}", now=now)
    urls = ["https://example.org/same", f"https://example.org/{second}"]
    first, again = [lambda url=url: webhooks.add(owner, url=url, now=now) for url in urls]
    assert isinstance(while_locked(first, again), webhooks.WebhookRefused)
    assert Webhook.objects.filter(owner=owner).count() == before + 1


def test_an_endpoint_is_tested_and_disabled_after_a_question(ann, researcher, endpoint, sign_in):
    webhook = webhooks.add(ann, url=endpoint.url, now=timezone.now())
    browser = sign_in(ann)
    browser.post(reverse("inbox:test_webhook", args=[webhook.pk]))
    assert call().state == "sent"
    assert json.loads(endpoint.requests[0][2])["subject"] == "Test message"
    url = reverse("inbox:disable_webhook", args=[webhook.pk])
    assert "Disable it" in browser.post(url).text
    assert Webhook.objects.get().disabled_at is None
    stranger = sign_in(researcher)
    for name in ("test_webhook", "disable_webhook"):
        assert stranger.post(reverse(f"inbox:{name}", args=[webhook.pk]), {"confirm": "1"}).status_code == 404
    assert endpoint.url not in stranger.get(PAGE).text
    browser.post(url, {"confirm": "1"})
    assert isinstance(Webhook.objects.get().disabled_at, datetime)
    assert browser.post(reverse("inbox:test_webhook", args=[webhook.pk])).status_code == 409


def test_the_database_refuses_impossible_webhooks(ann, endpoint):
    webhook = webhooks.add(ann, url=endpoint.url, now=timezone.now())
    with pytest.raises(IntegrityError, match="webhook_failing_iff_failures"), transaction.atomic():
        Webhook.objects.update(failures=1)
    with pytest.raises(IntegrityError, match="one_live_webhook_per_url"), transaction.atomic():
        Webhook.objects.create(owner=ann, url=webhook.url, salt="x")
