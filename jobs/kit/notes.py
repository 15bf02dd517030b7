"""
Signed notes and the checkpoints of a log that they carry.

Source: c2sp.org/signed-note and c2sp.org/tlog-checkpoint.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import KitError
from .merkle import HASH_BYTES

ED25519 = b"\x01"  # signature type of c2sp.org/signed-note
LONGEST_NOTE_BYTES = 2**20
SIGNATURE_LINE = re.compile("\N{EM DASH} ([^\\s+]+) ([A-Za-z0-9+/]+=*)")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(KitError):
    """The note is malformed, or no given key signed it."""

    default_code = "checkpoint_unusable"


@dataclass(frozen=True)
class Checkpoint:
    """What a log said about itself: its name, how many leaves it had, and their root."""

    origin: str
    size: int
    root: bytes


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the 4 bytes by which a signature names its key. Source: c2sp.org/signed-note, "Ed25519 signatures"."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public_key).digest()[:4]


def open_checkpoint(content: bytes, keys: Collection[str]) -> Checkpoint:
    """
    Return the checkpoint in a note once a key of `keys` (32 bytes in base64) is found to have signed it.

    Signatures of other keys are ignored; a false one in the name of a given key condemns the note.

    Raises:
        NoteError: it is malformed, or not signed by any of the keys.
    """
    text, signatures = _parts(content)
    checkpoint = _checkpoint(text)
    known = {key_id(checkpoint.origin, key): key for key in map(base64.b64decode, keys)}
    own = [raw for name, raw in signatures if name == checkpoint.origin and raw[:4] in known]
    if not own:
        raise NoteError(f"The checkpoint of {checkpoint.origin} is not signed with the key given.")
    for raw in own:
        try:
            Ed25519PublicKey.from_public_bytes(known[raw[:4]]).verify(raw[4:], text.encode())
        except (InvalidSignature, ValueError):
            raise NoteError(
                "The signature under the checkpoint is false: it was changed after it was signed, or signed by another."
            ) from None
    return checkpoint


def _parts(content: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the text of a note and its signatures, each with the name of its key."""
    try:
        note = content.decode()
    except UnicodeDecodeError:
        raise NoteError("The checkpoint is not text.") from None
    text, blank, signed = note.rpartition("\n\n")
    if not blank or len(content) > LONGEST_NOTE_BYTES or _CONTROL.search(note) or not signed.endswith("\n"):
        raise NoteError("The checkpoint is not a signed note: a text, an empty line, signatures.")
    found = [SIGNATURE_LINE.fullmatch(line) for line in signed[:-1].split("\n")]
    signatures = [(match[1], _decoded(match[2])) for match in found if match]
    if len(signatures) != len(found) or not all(len(raw) > 4 for _, raw in signatures):
        raise NoteError("A signature line of the checkpoint is malformed.")
    return text + "\n", signatures


def _decoded(text: str) -> bytes:
    """Return what base64 holds; nothing where it could be written in another way."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""


def _checkpoint(text: str) -> Checkpoint:
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines) or not re.fullmatch("0|[1-9][0-9]{0,17}", lines[1]):
        raise NoteError("The note is not a checkpoint: the name of the log, its size, its root.")
    root = _decoded(lines[2])
    if len(root) != HASH_BYTES:
        raise NoteError("The root in the checkpoint is not 32 bytes in base64.")
    return Checkpoint(lines[0], int(lines[1]), root)
