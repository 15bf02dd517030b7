"""
Verify an agreement's receipt offline: the portal's signature, the text, the chain of signatures and their order.

The receipt is the JSON document of the page /agreements/receipts/CODE/. Its public form says who signed in which role
and when; its full form, for the parties, holds the exact text and every signature. Nothing here opens a connection.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Collection
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import KitError
from .findings import FAILS, HOLDS, NOTE, UNKNOWN, Finding

SCHEMA = "consortium-receipt/1"
ROLES = {
    "principal_investigator": "the principal investigator",
    "signing_official": "the signing official",
    "consortium": "the consortium",
}
# A copy of each is in every signature, and must be that of the document.
COMMON = {"document_id": "id", "document_title": "title", "version": "version"}


class ReceiptError(KitError):
    default_code = "receipt_unreadable"


def load(content: bytes) -> dict[str, Any]:
    """
    Read a receipt strictly: a repeated key, a number that is no integer or a lone surrogate has two readings.

    Raises:
        ReceiptError: the file is no receipt of a form that this kit knows.
    """
    try:
        document = json.loads(
            content.decode(),
            object_pairs_hook=_unique,
            parse_float=_no_number,
            parse_constant=_no_number,
            parse_int=_integer,
        )
        canonical(document)
    except (ValueError, RecursionError) as error:
        raise ReceiptError(f"The file cannot be read as a receipt ({error}).", fix="Fetch it again.") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ReceiptError(f"The file is not a receipt of the form {SCHEMA}.", fix="Fetch it again, or update the kit.")
    return document


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):
        raise ValueError("a key is there twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no integer")


def _integer(text: str) -> int:
    number = int(text)
    if str(number) != text:
        raise ValueError(f"{text} is written in an unusual way")
    return number


def canonical(value: Any) -> bytes:
    """Return canonical JSON: UTF-8, sorted keys, no spaces."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_keys(text: str) -> list[str]:
    """
    Return public keys (base64 of 32 bytes) from one itself or from the portal's keys.json.

    Raises:
        ReceiptError: it is neither.
    """
    keys = [text.strip()]
    if keys[0].startswith("{"):
        try:
            keys = [key["public_key"] for key in json.loads(text)["keys"]]
        except (ValueError, LookupError, TypeError):
            keys = []
    if not keys or any(_decoded(key, 32) is None for key in keys):
        raise ReceiptError(
            "The key is not an ed25519 public key.",
            code="key_unreadable",
            fix="Give the 32 bytes in base64, or the file keys.json from the portal's /agreements/keys.json.",
        )
    return keys


def _decoded(text: Any, length: int) -> bytes | None:
    """Return what base64 holds, or None; base64 that could be written in another way is not accepted."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return None
    return raw if len(raw) == length and base64.b64encode(raw).decode() == text else None


def verify(document: dict[str, Any], *, text: bytes | None = None, keys: Collection[str] = ()) -> list[Finding]:
    """
    Look at everything that a receipt claims and that can be recomputed.

    Args:
        document: from load().
        text: the agreement as signed, where the receipt does not include it or to compare with one's own copy.
        keys: the portal's public keys (base64), from a source other than the receipt.
    """
    checks: list[Callable[[], Finding]] = [
        lambda: _portal(document, keys),
        lambda: _text(document, text),
        lambda: _order(document),
        lambda: _chain(document),
        lambda: _agreement(document),
    ]
    return [_careful(check) for check in checks]


def _careful(check: Callable[[], Finding]) -> Finding:
    """Return what a check finds; where a field is missing or of another kind, the receipt does not hold."""
    try:
        return check()
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        return Finding("form", FAILS, f"A field is missing or of the wrong kind ({type(error).__name__}: {error}).")


def _portal(document: dict[str, Any], keys: Collection[str]) -> Finding:
    """Test the portal's signature over the whole document."""
    signed = {name: value for name, value in document.items() if name != "signature"}
    named = document["key"]["public_key"]
    raw_key, signature = _decoded(named, 32), _decoded(document["signature"], 64)
    if raw_key is None or signature is None:
        return Finding("portal", FAILS, "The key or the signature of the portal is not well formed.")
    if keys and named not in keys:
        return Finding("portal", FAILS, "The receipt was signed with another key than the one given.")
    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(signature, canonical(signed))
    except (InvalidSignature, ValueError):
        return Finding("portal", FAILS, "The document was changed after the portal signed it, or the portal did not.")
    if not keys:
        return Finding(
            "portal",
            UNKNOWN,
            f"Unchanged since it was signed with the key {named}, but only you can tell whose key that is: compare it "
            "with the portal's /agreements/keys.json, or give that with --key.",
        )
    return Finding("portal", HOLDS, "Signed by the portal's key and unchanged since.")


def _text(document: dict[str, Any], text: bytes | None) -> Finding:
    """Test the hash against the text in the receipt and against the text given."""
    expected = document["text_sha256"]
    included = document.get("text")
    if included is None and document["form"] == "full":
        return Finding("text", FAILS, "The text is missing, although this is the full form.")
    if included is not None and sha256(included.encode()) != expected:
        return Finding("text", FAILS, "The text in the receipt is not the one whose SHA-256 was signed.")
    if text is not None and sha256(text) != expected:
        return Finding("text", FAILS, f"The text given has the SHA-256 {sha256(text)}; {expected} was signed.")
    if included is None and text is None:
        return Finding("text", NOTE, f"Not in the public form. To compare your copy, give it with --text: {expected}.")
    return Finding("text", HOLDS, f"The text is the one that was signed: SHA-256 {expected}.")


def _order(document: dict[str, Any]) -> Finding:
    """Test that every role has signed, once, in the order of the agreement."""
    order, signatures = document["signing_order"], document["signatures"]
    roles = [signature["role"] for signature in signatures]
    times = [signature.get("signed_at") or signature["signed_on"] for signature in signatures]
    if not order or roles != order:
        return Finding("order", FAILS, f"Signed by {_listed(roles)}; the agreement asks for {_listed(order)}.")
    if [signature["position"] for signature in signatures] != list(range(1, len(order) + 1)):
        return Finding("order", FAILS, "The signatures are not numbered from 1 onwards.")
    if times != sorted(times):
        return Finding("order", FAILS, "A later signature carries an earlier time.")
    return Finding("order", HOLDS, f"Signed in the agreed order by {_listed(roles)}.")


def _listed(roles: list[str]) -> str:
    return ", then ".join(ROLES.get(role, role) for role in roles) or "nobody"


def _chain(document: dict[str, Any]) -> Finding:
    """Test that each signature carries the hash of the one before it, so that none was put in, cut or changed."""
    if document["form"] != "full":
        return Finding("chain", NOTE, "The public form leaves the signatures' hashes out; the full form has them.")
    previous, signers = "", set()
    for signature in document["signatures"]:
        record = {name: value for name, value in signature.items() if name != "sha256"}
        number = signature["position"]
        if signature["previous_sha256"] != previous:
            return Finding("chain", FAILS, f"Signature {number} does not follow from the one before it.")
        previous = sha256(canonical(record))
        if signature["sha256"] != previous:
            return Finding("chain", FAILS, f"Signature {number} is not the one whose hash is given.")
        signers.add(signature["signer_id"])
    if len(signers) != len(document["signatures"]):
        return Finding("chain", FAILS, "One person signed twice.")
    return Finding("chain", HOLDS, f"All {len(signers)} signatures are chained, each by another person.")


def _agreement(document: dict[str, Any]) -> Finding:
    """Test that every signature is under this agreement, in this version and this text."""
    agreement, names = document["agreement"], [institution["name"] for institution in document["institutions"]]
    for signature in document["signatures"] if document["form"] == "full" else ():
        expected = {name: agreement[field] for name, field in COMMON.items()} | {
            "text_sha256": document["text_sha256"],
            "institution_id": None if signature["role"] == "consortium" else document["institutions"][0]["id"],
        }
        if other := [name for name, value in expected.items() if signature[name] != value]:
            sentence = f"Signature {signature['position']} is under another {other[0].replace('_', ' ')}."
            return Finding("agreement", FAILS, sentence)
    return Finding(
        "agreement",
        HOLDS,
        f"{agreement['title']}, version {agreement['version']}, for {'; '.join(names)}: {document['state']} when the "
        f"receipt was issued ({document['issued_at']}).",
    )
