"""Checkpoints of the audit log held against each other, where there are no events to compute a root from."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.kit import notes
from jobs.kit.audit import Given, verify

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
REWRITTEN = "Two different logs of 5 events were signed: the log was rewritten."


def note(size: int, leaf: str, *, origin: str = "portal.example/log") -> bytes:
    """A checkpoint that the portal signed."""
    root = hashlib.sha256(leaf.encode()).digest()
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = base64.b64encode(notes.key_id(origin, PUBLIC) + KEY.sign(text.encode())).decode()
    return f"{text}\n— {origin} {signature}\n".encode()


def refusals(**given: object) -> list[str]:
    keys = [base64.b64encode(PUBLIC).decode()]
    return [found.sentence for found in verify(Given(**given), keys=keys) if found.verdict == "fail"]


@pytest.mark.parametrize("latest", [(9, "later"), (5, "one"), None])
def test_two_roots_of_one_size_show_a_rewritten_log(latest):
    checkpoint = note(*latest) if latest else None
    assert refusals(checkpoint=checkpoint, earlier=[note(5, "one"), note(5, "other")]) == [REWRITTEN]


def test_the_same_checkpoint_twice_shows_nothing():
    assert refusals(checkpoint=note(9, "later"), earlier=[note(5, "one"), note(5, "one")]) == []


def test_two_logs_may_have_one_size():
    other = note(5, "other", origin="elsewhere.example/log")
    assert refusals(earlier=[note(5, "one"), other]) == []


@pytest.mark.parametrize("hashes", [b"no hash\n" * 3, b"\xff\xfe\n" * 3, b"abcd\n" * 3])
def test_leaf_hashes_that_are_none_hide_no_change(tmp_path, hashes):
    """Who changed the log serves the hashes, too."""
    export, listed = tmp_path / "export.jsonl", tmp_path / "hashes.txt"
    export.write_bytes(b'{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    listed.write_bytes(hashes)
    changed = "At least among lines 1 to 3 one is not what was signed: changed, added, removed or moved."
    assert refusals(export=export, hashes=listed, checkpoint=note(3, "another root")) == [changed]
