"""Registering and revoking the keys with which an institution signs what it sends."""

import base64
import hashlib
from datetime import datetime
from http import HTTPStatus

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import IntegrityError, transaction

from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import DomainError, NotAllowed
from portal.institutions import services
from portal.institutions.key_models import SigningKey
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Membership
from portal.notifications.services import notify
from portal.notifications.types import Type

REGISTRATION = "urn:consortium:signing-key:1"  # as in the kit's keys.registration()
FIELD = 2**255 - 19  # RFC 8032, section 5.1
# The y of the eight points of small order; the sign of x makes no difference to the order. One of them as a public key
# lets a signature be made without a private key, for every message with the first. The same list: libsodium,
# crypto_core/ed25519/ref10/ed25519_ref10.c, ge25519_has_small_order().
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = {1, FIELD - 1, 0, _ORDER_8, FIELD - _ORDER_8}  # of order 1, 2, 4 (two points), 8 (two), 8 (two)
Role = Membership.Role


class KeyRefused(DomainError):
    """The text is no public key that can be registered."""

    code = "key_refused"
    status = HTTPStatus.BAD_REQUEST


class KeyKnown(DomainError):
    """A key is registered once: for one institution, and not again after it was revoked."""

    code = "key_known"


class KeyRevoked(DomainError):
    """The key was revoked already."""

    code = "key_revoked"


def may_register(user: User, institution: Institution) -> bool:
    """Test if the person is a signing official of the institution today: a key binds it, as a signature does."""
    return user.memberships.current().filter(institution=institution, role=Role.SIGNING_OFFICIAL).exists()


def may_revoke(user: User, institution: Institution) -> bool:
    """Test if the person may end a key: whoever notices first that it is lost, if they act for the institution."""
    return may_register(user, institution) or services.manages(user, institution)


def proven_key(registration: str, institution: Institution) -> bytes:
    """
    Return the 32 bytes of the public key in a registration, as `consortium keys show --institution SLUG` prints it.

    Raises:
        KeyRefused: it is something else, a private key for instance, or a point that no private key leads to; or
            whoever made it does not hold the private half, or made it for another institution.
    """
    paste = f"Paste the registration that `consortium keys show --institution {institution.slug}` prints."
    if "PRIVATE" in registration.upper():
        copied = "This looks like a private key. Never send it anywhere; make a new pair, for this one was copied."
        raise KeyRefused(f"{copied} {paste}")
    public, _, proof = "".join(registration.split()).removeprefix("Registration:").partition(".")
    key, raw = _public_key(public, paste)
    if not proof:
        raise KeyRefused(f"This is the public key alone, which everybody who has seen it can paste. {paste}")
    try:
        key.verify(base64.b64decode(proof, validate=True), f"{REGISTRATION} {institution.slug}".encode())
    except (ValueError, InvalidSignature):
        made = f"This was not made for {institution} with the private half of this key, or not copied whole."
        raise KeyRefused(f"{made} {paste}") from None
    return raw


def _public_key(text: str, paste: str) -> tuple[Ed25519PublicKey, bytes]:
    try:
        raw = base64.b64decode(text, validate=True)
        key = Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused(f"This holds no ed25519 public key: 32 bytes in base64, 44 characters. {paste}") from None
    if not _is_sound(raw):
        raise KeyRefused(
            "This is a public key that no pair has: signatures under it would prove nothing. Make a new pair with "
            f"`consortium keys new`. {paste}"
        )
    return key, raw


def _is_sound(raw: bytes) -> bool:
    """Test if the bytes are the one encoding of their point (RFC 8032, section 5.1.3), and it is of no small order."""
    y = int.from_bytes(raw, "little") & (2**255 - 1)  # the highest bit is the sign of x
    return y < FIELD and y not in SMALL_ORDER


@transaction.atomic
def register(institution: Institution, *, registration: str, label: str, by: User, now: datetime) -> SigningKey:
    """Register a key whose private half the institution holds, by the proof in the registration (proven_key)."""
    if not may_register(by, institution):
        raise NotAllowed(f"Only a signing official of {institution} registers keys: a key binds the institution.")
    if institution.status != Status.MEMBER:
        raise NotAllowed(f"{institution} can register keys once the board has admitted it.")
    raw = proven_key(registration, institution)
    key = SigningKey(
        institution=institution,
        label=label.strip(),
        public_key=base64.b64encode(raw).decode(),
        fingerprint=hashlib.sha256(raw).hexdigest(),
        registered_by=by,
        registered_at=now,
    )
    try:
        with transaction.atomic():
            key.save(force_insert=True)
    except IntegrityError as exc:
        raise KeyKnown("This key was registered before, here or elsewhere. Make a new pair with the kit.") from exc
    audit.record("signing_key.registered", key, by=by, fingerprint=key.fingerprint)
    _tell(key, "was registered", "If nobody of your institution did this, revoke it at once.")
    return key


@transaction.atomic
def revoke(key: SigningKey, *, reason: str, by: User, now: datetime) -> SigningKey:
    """End a key: nothing that it signed passes the checks from now on. What was accepted before stays."""
    if not may_revoke(by, key.institution):
        raise NotAllowed(f"Only people who act for {key.institution} revoke its keys.")
    key = SigningKey.objects.select_for_update(of=("self",)).select_related("institution").get(pk=key.pk)
    if key.revoked_at is not None:
        raise KeyRevoked(f"The key {key.fingerprint[:16]} is revoked already.")
    key.revoked_at, key.revoked_by, key.reason = now, by, reason.strip()
    key.save(update_fields=["revoked_at", "revoked_by", "reason"])
    audit.record("signing_key.revoked", key, by=by, fingerprint=key.fingerprint)
    _tell(key, "was revoked", "Nothing that it signs passes the checks any more.")
    return key


def in_force(institution: Institution) -> dict[str, str]:
    """Return the public keys (base64) that the institution signs with today, by fingerprint."""
    return dict(institution.signing_keys.in_force().values_list("fingerprint", "public_key"))


def _tell(key: SigningKey, what: str, text: str) -> None:
    notify(
        services.people(key.institution, Role.SIGNING_OFFICIAL, Role.PRINCIPAL_INVESTIGATOR, Role.STEWARD),
        type=Type.CONTRIBUTION,
        subject=f"A signing key of {key.institution} {what}",
        text=f"Key {key.fingerprint[:16]} ({plain(key.label)}). {text}",
        path=f"/institutions/{key.institution.slug}/keys/",
    )
