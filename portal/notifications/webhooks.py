"""
A person's own endpoints, told by signed requests (Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature).

A stranger's address is called from inside our network, so: https only, the name is resolved once, every address of it
must be public, the connection goes to that address, no redirect is followed, and the whole call ends after ten seconds.
"""

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import secrets
import socket
import ssl
import threading
import uuid
from datetime import datetime, timedelta
from urllib.parse import SplitResult, urlsplit

import urllib3
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils.crypto import salted_hmac
from urllib3.connection import HTTPConnection, HTTPSConnection

from portal.audit import services as audit
from portal.audit.people import named, plain
from portal.errors import DomainError
from portal.notifications.lifecycle import State
from portal.notifications.mail import absolute
from portal.notifications.models import OutboxMessage, Webhook
from portal.notifications.services import notify, ring
from portal.notifications.types import Type

LIMIT = 5  # live endpoints of one person
STEP_SECONDS = 5.0  # for connecting, and for each read
CALL_SECONDS = 10.0  # for the whole call: an endpoint that drips bytes must not hold the queue
ANSWER_BYTES = 1024
DISABLED_AFTER = timedelta(days=5)
# Addresses that Python calls global and that lead into a network through a translator or to a group.
TRANSLATED = [ipaddress.ip_network(block) for block in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]


class WebhookRefused(DomainError):
    """The endpoint cannot be added or called."""

    code = "webhook_refused"


class DeliveryFailed(Exception):
    """The endpoint did not take the message this time."""


class Gone(Exception):
    """The endpoint will not take any message any more."""


def secret_of(webhook: Webhook) -> str:
    """Return the signing secret, as Standard Webhooks writes it. It is derived: no row holds it."""
    return "whsec_" + base64.b64encode(_signing_key(webhook)).decode()


def _signing_key(webhook: Webhook) -> bytes:
    return salted_hmac("portal.notifications.webhook", webhook.salt, algorithm="sha256").digest()


def signature(webhook: Webhook, *, id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of one delivery."""
    content = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_signing_key(webhook), content, hashlib.sha256).digest()).decode()


# What the owner does


@transaction.atomic
def add(owner: AbstractBaseUser, *, url: str, now: datetime) -> Webhook:
    """
    Add an endpoint.

    Raises:
        WebhookRefused: not an address we would call, one that exists, or one too many.
    """
    check(url)
    get_user_model().objects.select_for_update(no_key=True).get(pk=owner.pk)  # of two at once, the second waits
    urls = list(Webhook.objects.filter(owner_id=owner.pk, disabled_at=None).values_list("url", flat=True))
    if url in urls:
        raise WebhookRefused("You have this endpoint already. Disable it first if you want a new secret.")
    if len(urls) >= LIMIT:
        raise WebhookRefused(f"You have {LIMIT} endpoints, which is the most. Disable one that you do not need.")
    webhook = Webhook.objects.create(owner_id=owner.pk, url=url, salt=secrets.token_hex(32), created_at=now)
    audit.record("webhook.added", webhook, by=owner)
    return webhook


@transaction.atomic
def disable(webhook: Webhook, *, by: AbstractBaseUser | None, because: str, now: datetime) -> None:
    """End an endpoint, and what waits for it. Its secret signs nothing any more."""
    live = Webhook.objects.filter(pk=webhook.pk, disabled_at=None)
    if live.update(disabled_at=now, disabled_because=because[:300]):
        waiting = OutboxMessage.objects.filter(webhook=webhook, state=State.PENDING)
        waiting.update(state=State.DEAD, settled_at=now, next_attempt_at=None, last_error="The endpoint was disabled.")
        audit.record("webhook.disabled", webhook, by=by)


@transaction.atomic
def send_test(webhook: Webhook, *, now: datetime) -> OutboxMessage:
    """Put a test message to the endpoint in the outbox."""
    if webhook.disabled_at is not None:
        raise WebhookRefused("This endpoint is disabled. Add it again to use it.")
    row = OutboxMessage.objects.create(
        key=f"webhook-test-{uuid.uuid4()}",
        channel=OutboxMessage.Channel.WEBHOOK,
        type=Type.ACCOUNT,
        user_id=webhook.owner_id,
        webhook=webhook,
        subject="Test message",
        text="This is a test.",
        path="/inbox/webhooks/",
        created_at=now,
        next_attempt_at=now,
    )
    ring()
    return row


# Whom we call


def check(url: str) -> SplitResult:
    """Return the parts of an address that we would call; whether its name leads to a public place is asked later."""
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise WebhookRefused(f"“{url}” is not a web address: {error}.") from error
    if parts.scheme not in ("https", "http") or not host:
        raise WebhookRefused("An endpoint is a full web address that begins with https://.")
    if parts.username or parts.password:
        raise WebhookRefused("Leave the user name and password out of the address; check our signature instead.")
    if parts.scheme == "http" and not (settings.EMBEDDED and host in ("127.0.0.1", "localhost", "::1")):
        raise WebhookRefused("The address must begin with https://, so that nobody reads along.")
    return parts


def resolve(parts: SplitResult) -> str:
    """Return the address of the endpoint's name; refuse where any of its addresses is not a public one."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DeliveryFailed(f"The name {parts.hostname} was not found.") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        if not is_callable(address):
            raise DeliveryFailed(f"{parts.hostname} leads into a private network, where we do not call.")
    return addresses[0]


def is_callable(address: str) -> bool:
    """Test if an address is public; in the embedded default, this machine is too."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    if settings.EMBEDDED and ip.is_loopback:
        return True
    return ip.is_global and not ip.is_multicast and not any(ip in block for block in TRANSLATED)


# Calling


def payload(message: OutboxMessage) -> bytes:
    """Return the body: what the owner's inbox says, and where."""
    body = {
        "type": message.type,
        "subject": named(message.subject),
        "url": absolute(message.path),
        "created_at": message.created_at.isoformat(),
    }
    return json.dumps(body, ensure_ascii=False).encode()


def send(message: OutboxMessage, *, now: datetime) -> None:
    """
    Call the endpoint once and keep its record.

    Raises:
        DeliveryFailed: not this time.
        Gone: the endpoint is disabled, or has just said that it is gone.
    """
    webhook = message.webhook
    if webhook is None:
        raise Gone("The endpoint is no more.")
    webhook.refresh_from_db()
    if webhook.disabled_at is not None:
        raise Gone("The endpoint was disabled.")
    try:
        status = _call(webhook, message, now=now)
    except DeliveryFailed as error:
        _failed(webhook, str(error), now=now)
        raise
    if status == 410:
        disable(webhook, by=None, because="The endpoint answered that it is gone (410).", now=now)
        raise Gone("The endpoint answered 410 Gone and was disabled.")
    if not 200 <= status < 300:
        answer = f"The endpoint answered {status}."
        _failed(webhook, answer, now=now)
        raise DeliveryFailed(answer)
    cleared = {"failing_since": None, "failures": 0, "last_error": ""}
    Webhook.objects.filter(pk=webhook.pk).update(last_success_at=now, **cleared)


def _call(webhook: Webhook, message: OutboxMessage, *, now: datetime) -> int:
    """Return the status of the answer."""
    try:
        parts = check(webhook.url)
    except WebhookRefused as refused:
        raise DeliveryFailed(str(refused)) from refused
    connection = _connection(parts, resolve(parts))
    late = threading.Event()
    alarm = threading.Timer(CALL_SECONDS, _cut, [connection, late])
    body, id, timestamp = payload(message), f"msg_{message.pk}", int(now.timestamp())
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": f"GlobalRETFound-portal/{settings.VERSION}",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(webhook, id=id, timestamp=timestamp, body=body),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    alarm.start()
    try:
        connection.request("POST", target, body=body, headers=headers, preload_content=False)
        response = connection.getresponse()
        response.read(ANSWER_BYTES)
        if late.is_set():  # what was cut off reads like an answer that ended
            raise TimeoutError
        return response.status
    except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise DeliveryFailed(_in_words(error)) from error
    finally:
        alarm.cancel()
        connection.close()


def _connection(parts: SplitResult, address: str) -> HTTPConnection:
    """Return a connection to the address; the certificate must be the name's."""
    if parts.scheme == "http":
        return HTTPConnection(address, parts.port or 80, timeout=STEP_SECONDS)
    return HTTPSConnection(
        address,
        parts.port or 443,
        timeout=STEP_SECONDS,
        server_hostname=parts.hostname,
        assert_hostname=parts.hostname,
        cert_reqs="CERT_REQUIRED",
        ssl_context=ssl.create_default_context(),
    )


def _cut(connection: HTTPConnection, late: threading.Event) -> None:
    """End a call that takes too long: the read that waits for it ends."""
    late.set()
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has just ended


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return "It took too long to answer."
    if isinstance(error, ssl.SSLError | urllib3.exceptions.SSLError):
        return "The certificate of the endpoint is not valid for its name."
    return f"No connection: {type(error).__name__}."


@transaction.atomic
def _failed(webhook: Webhook, error: str, *, now: datetime) -> None:
    """Count a failure; after five days without a success, disable the endpoint and say so."""
    webhook = Webhook.objects.select_for_update().get(pk=webhook.pk)
    webhook.failures += 1
    webhook.failing_since = webhook.failing_since or now
    webhook.last_error = error[:300]
    webhook.save(update_fields=["failures", "failing_since", "last_error"])
    if webhook.disabled_at is None and now - webhook.failing_since >= DISABLED_AFTER:
        disable(webhook, by=None, because=f"Nothing arrived for {DISABLED_AFTER.days} days: {error}", now=now)
        notify(
            [webhook.owner],
            type=Type.ACCOUNT,
            subject="One of your webhooks was disabled",
            text=f"{plain(webhook.url)} has not taken a message for {DISABLED_AFTER.days} days. The last answer: "
            f"{plain(error)} Mend it and add it again.",
            path="/inbox/webhooks/",
        )
