"""The portal's own signature (ed25519) under what it hands out, so that anyone can verify it offline."""

import base64
import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

KEY_BYTES = 32


def canonical(payload: Any) -> bytes:
    """Return canonical JSON: UTF-8, sorted keys, no spaces, no number but integers. Raises ValueError for floats."""
    _refuse_floats(payload)
    return json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _refuse_floats(value: Any) -> None:
    """Raise ValueError for a float, which two programs may write in different ways."""
    if isinstance(value, float):
        raise ValueError("Canonical JSON holds no floats.")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in inside:
        _refuse_floats(item)


def sign(payload: dict[str, Any]) -> str:
    """Return the portal's signature (base64) over canonical(payload)."""
    return base64.b64encode(_key().sign(canonical(payload))).decode()


def sign_note(text: str, *, name: str) -> str:
    """
    Return `text`, whose lines all end in a newline, as a note signed by the portal under `name`.

    Ed25519 is deterministic (RFC 8032, section 5.1.6): the same text gives the same note.
    Source: c2sp.org/signed-note, "Format" and "Ed25519 signatures".
    """
    key_hash = hashlib.sha256(f"{name}\n\x01".encode() + _key().public_key().public_bytes_raw()).digest()[:4]
    signature = base64.b64encode(key_hash + _key().sign(text.encode())).decode()
    return f"{text}\n\N{EM DASH} {name} {signature}\n"


def public_key() -> str:
    """Return the public key: 32 bytes, base64."""
    return base64.b64encode(_key().public_key().public_bytes_raw()).decode()


def public_keys() -> list[str]:
    """
    Return the public keys under what the portal ever signed, today's first: 32 bytes each, base64.

    Raises:
        ImproperlyConfigured: one of those before it is no key.
    """
    before = list(settings.SIGNING_PUBLIC_KEYS_BEFORE)
    if any(len(_decoded(text)) != KEY_BYTES for text in before):
        raise ImproperlyConfigured(
            "SIGNING_PUBLIC_KEYS_BEFORE must hold public keys as /agreements/keys.json tells them."
        )
    return [public_key(), *before]


def key_id(public_key: str) -> str:
    """Return the short name of a key: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(base64.b64decode(public_key)).hexdigest()[:16]


def is_valid(payload: dict[str, Any], signature: str, *, public_key: str) -> bool:
    """Test if `signature` (base64) was made over `payload` with the private half of `public_key` (base64)."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), canonical(payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def _key() -> Ed25519PrivateKey:
    return _load(settings.SIGNING_KEY, settings.DATA_DIR / "keys" / "signing.key")


@cache
def _load(text: str, path: Path) -> Ed25519PrivateKey:
    if not text and settings.EMBEDDED:
        text = _made_once(path)
    raw = _decoded(text)
    if len(raw) != KEY_BYTES:
        raise ImproperlyConfigured("SIGNING_KEY must be 32 random bytes in base64; see .env.example.")
    return Ed25519PrivateKey.from_private_bytes(raw)


def _decoded(text: str) -> bytes:
    """Return what base64 holds; nothing where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _made_once(path: Path) -> str:
    """Return the key in the data folder; whichever thread comes first makes it, and the others read that one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        descriptor, draft = tempfile.mkstemp(dir=path.parent)  # of this thread alone, and private
        with open(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename, it never replaces a key that is there
        except FileExistsError:
            pass
        os.unlink(draft)
    return path.read_text()
