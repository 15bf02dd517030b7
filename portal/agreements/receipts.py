"""
The receipt of a signed agreement as a document that anyone can verify offline; docs/receipts.md describes it.

The public form holds no personal data. The full form is for the parties and the consortium: it holds the exact text and
every signature as it is chained. Both are signed with the portal's key over their canonical JSON.
"""

from datetime import UTC, date, datetime
from typing import Any

from django.conf import settings
from django.db import models

from portal import signing
from portal.agreements.lifecycle import ONCE_ACTIVE, Status
from portal.agreements.models import Signature, SigningRequest, SigningRequestQuerySet
from portal.agreements.rendering import text_sha256
from portal.agreements.standing import EXPIRING_DAYS, day_of

SCHEMA = "consortium-receipt/1"


class State(models.TextChoices):
    ACTIVE = "active", "In force"
    EXPIRING = "expiring", "In force, expires soon"
    EXPIRED = "expired", "Expired"
    TERMINATED = "terminated", "Terminated"
    SUPERSEDED = "superseded", "Replaced by a later one"


def receipted() -> SigningRequestQuerySet:
    """Return the cases that have a receipt: those that were in force at some time."""
    rows = SigningRequest.objects.filter(status__in=ONCE_ACTIVE)
    return rows.select_related("agreement__programme", "agreement_version", "institution")


def state_of(request: SigningRequest, *, now: datetime) -> State:
    """Return the state on the day; the last day counts at once, whether or not the sweep has been here."""
    if request.status != Status.ACTIVE:
        return State(request.status)
    today, last_day = day_of(now), request.last_day
    if request.ends_on and today > request.ends_on:
        return State.TERMINATED
    days_left = (last_day - today).days if last_day else EXPIRING_DAYS + 1
    return State.EXPIRED if days_left < 0 else State.EXPIRING if days_left <= EXPIRING_DAYS else State.ACTIVE


def text_matches(request: SigningRequest) -> bool:
    """Hash the stored text again: test if it is the one that every signature is under."""
    digests = {signature.text_sha256 for signature in request.signatures.all()} | {request.text_sha256}
    return digests == {text_sha256(request.text)}


def chain_holds(request: SigningRequest) -> bool:
    """Hash every signature again: test if each carries the hash of the one before it."""
    previous = ""
    for signature in request.signatures.all():
        if signature.previous_sha256 != previous:
            return False
        previous = signature.sha256
    return True


def public_form(request: SigningRequest, *, now: datetime) -> dict[str, Any]:
    """Return the receipt without personal data, signed by the portal."""
    signatures = [_public_signature(signature) for signature in request.signatures.all()]
    return _signed(_facts(request, now=now) | {"form": "public", "signatures": signatures})


def full_form(request: SigningRequest, *, now: datetime) -> dict[str, Any]:
    """Return the receipt with the exact text and every signature, signed by the portal."""
    signatures = [signature.record() | {"sha256": signature.sha256} for signature in request.signatures.all()]
    return _signed(_facts(request, now=now) | {"form": "full", "signatures": signatures, "text": request.text})


def keys() -> dict[str, Any]:
    """Return the portal's public keys, today's first."""
    return {"keys": [_key(public) for public in signing.public_keys()]}


def verify_url(request: SigningRequest) -> str:
    return settings.PORTAL_URL + request.receipt_url


def _signed(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | {"signature": signing.sign(facts)}


def _key(public: str) -> dict[str, str]:
    return {"algorithm": "ed25519", "id": signing.key_id(public), "public_key": public}


def _facts(request: SigningRequest, *, now: datetime) -> dict[str, Any]:
    version = request.agreement_version
    return {
        "schema": SCHEMA,
        "receipt_code": request.receipt_code,
        "verify_at": verify_url(request),
        "issued_at": _moment(now),
        "state": str(state_of(request, now=now)),
        "activated_at": _moment(request.activated_at),
        "expires_on": _day(request.last_day),
        "ended_at": _moment(request.ended_at),
        "agreement": {
            "programme": request.agreement.programme.slug,
            "id": request.agreement.slug,
            "title": request.agreement.title,
            "version": version.version,
            "language": version.language,
            "template_sha256": version.sha256,
        },
        "text_sha256": request.text_sha256,
        "institutions": _institutions(request),
        "signing_order": request.agreement.signing_order,
        "key": _key(signing.public_key()),
    }


def _institutions(request: SigningRequest) -> list[dict[str, Any]]:
    """Return the institution that signed, then the hospitals whose own people confirmed that it signed for them too."""
    covered = request.covered.filter(confirmed_at__isnull=False).select_related("institution")
    rows = [request.institution, *(row.institution for row in covered)]
    return [{"id": row.pk, "name": row.name, "country": row.country} for row in rows]


def _public_signature(signature: Signature) -> dict[str, Any]:
    day = signature.signed_at.astimezone(UTC).date()
    return {"position": signature.position, "role": signature.role, "signed_on": _day(day)}


def _moment(at: datetime | None) -> str | None:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def _day(on: date | None) -> str | None:
    return on.isoformat() if on else None
