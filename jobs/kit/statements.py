"""
Signed statements: what an institution says about a file, bound to its SHA-256 and signed with the institution's key.

A statement is an in-toto Statement v1 (subject: the file's digest; predicate: what is said) in a DSSE envelope.
Sources: in-toto attestation framework, spec/v1/statement.md; DSSE v1.0.2, protocol.md (pre-authentication encoding).
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import KitError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
WEIGHTS = "urn:consortium:weights:1"
SYNTHETIC = "urn:consortium:synthetic-images:1"  # of the SHA256SUMS of its shards
PRIVACY = "urn:consortium:privacy-report:1"
LONGEST_BYTES = 256 * 1024
_HEX = re.compile(r"[0-9a-f]{64}")

Document = dict[str, Any]


class StatementError(KitError):
    """The statement is malformed, signed by no known key, or speaks of another file."""

    default_code = "statement_unusable"


@dataclass(frozen=True)
class Statement:
    """What was said (`predicate`, of `kind`) about the file with `sha256`, and the fingerprint of the key under it."""

    kind: str
    sha256: str
    predicate: Document
    fingerprint: str


def fingerprint(public_key: bytes) -> str:
    """Return how a key is named: the SHA-256 of its 32 bytes, hex."""
    return hashlib.sha256(public_key).hexdigest()


def is_sha256(text: str) -> bool:
    return _HEX.fullmatch(text) is not None


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public half."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(kind: str, name: str, sha256: str, predicate: Document, key: Ed25519PrivateKey) -> Document:
    """
    Return a signed envelope: JSON values only.

    Args:
        kind: WEIGHTS, SYNTHETIC or PRIVACY. name: of the file, without folders.
    """
    subject = [{"name": name, "digest": {"sha256": sha256}}]
    statement = {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": kind, "predicate": predicate}
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    signature = {"keyid": fingerprint(public_bytes(key)), "sig": _base64(key.sign(_to_sign(payload)))}
    return {"payloadType": PAYLOAD_TYPE, "payload": _base64(payload), "signatures": [signature]}


def open_statement(envelope: object, kind: str, keys: Mapping[str, bytes]) -> Statement:
    """
    Return the statement once a key of `keys` (fingerprint: 32 bytes) is found to have signed it.

    Raises:
        StatementError: code statement_malformed, unknown_key or bad_signature.
    """
    payload, signatures = _taken_apart(envelope)
    known = [(name, raw) for name, raw in signatures if name in keys]
    if not known:
        named = signatures[0][0][:16]
        raise StatementError(
            f"It is signed with the key {named}…, which is not registered for this institution, or was revoked.",
            code="unknown_key",
            fix="Let the signing official register the key (`consortium keys show --institution SLUG`), or sign with "
            "another.",
        )
    for name, raw in known:
        try:
            Ed25519PublicKey.from_public_bytes(keys[name]).verify(raw, _to_sign(payload))
        except (InvalidSignature, ValueError):
            raise StatementError(
                f"The signature of key {name[:16]}… is false: the statement was changed after it was signed.",
                code="bad_signature",
                fix="Sign it again with `consortium sign` or `consortium privacy`, and send what that writes.",
            ) from None
    return _statement(payload, kind, known[0][0])


def unverified(envelope: object, kind: str) -> Statement:
    """Return a statement whose signature nobody has looked at: for showing it, never for trusting it."""
    payload, signatures = _taken_apart(envelope)
    return _statement(payload, kind, signatures[0][0])


def require_subject(statement: Statement, sha256: str) -> None:
    """Raise StatementError (code other_file) unless the statement speaks of the file with this SHA-256."""
    if statement.sha256 != sha256:
        raise StatementError(
            f"It speaks of the file with SHA-256 {statement.sha256[:16]}…, and this file's is {sha256[:16]}….",
            code="other_file",
            fix="Make it again for exactly the file that you send.",
        )


def _to_sign(payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding, so that a signature for one type is none for another."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _taken_apart(envelope: object) -> tuple[bytes, list[tuple[str, bytes]]]:
    if not isinstance(envelope, dict) or envelope.get("payloadType") != PAYLOAD_TYPE:
        raise _malformed("it is not a DSSE envelope of an in-toto statement")
    payload, rows = _decoded(envelope.get("payload")), envelope.get("signatures")
    if not payload or len(payload) > LONGEST_BYTES or not isinstance(rows, list) or not 1 <= len(rows) <= 8:
        raise _malformed("its payload or its signatures are missing or too long")
    signatures = [(row.get("keyid"), _decoded(row.get("sig"))) for row in rows if isinstance(row, dict)]
    if len(signatures) != len(rows) or not all(
        isinstance(name, str) and is_sha256(name) and raw for name, raw in signatures
    ):
        raise _malformed("a signature lacks its key or its bytes")
    return payload, [(str(name), raw) for name, raw in signatures]


def _statement(payload: bytes, kind: str, signer: str) -> Statement:
    try:
        found = json.loads(payload.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise _malformed("its payload is no JSON") from None
    if not isinstance(found, dict) or found.get("_type") != STATEMENT_TYPE or found.get("predicateType") != kind:
        raise _malformed(f"it is no statement of the kind {kind}")
    match found:
        case {"subject": [{"digest": {"sha256": str(sha256)}}], "predicate": dict(predicate)} if is_sha256(sha256):
            return Statement(kind, sha256, predicate, signer)
    raise _malformed("it names no file, or not exactly one")


def _unique(pairs: list[tuple[str, Any]]) -> Document:
    """Refuse what two readers could read differently: a name that stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _malformed(why: str) -> StatementError:
    return StatementError(
        f"The signed statement cannot be read: {why}.",
        code="statement_malformed",
        fix="Send the file as `consortium sign` or `consortium privacy` wrote it.",
    )


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""
