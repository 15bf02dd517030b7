"""A signed statement is believed only as it was signed, by a known key, of the file at hand; and keys are kept well."""

import base64
import json
import stat

import pytest

from jobs.kit import keys, statements
from jobs.kit.statements import PRIVACY, WEIGHTS, StatementError, open_statement, require_subject, unverified
from tests.attesting import key_of, known

OURS, THEIRS = key_of("ours"), key_of("theirs")
SHA256 = "ab" * 32


def envelope(**changes):
    return statements.sign(WEIGHTS, "w.safetensors", SHA256, {"size_bytes": 3}, OURS) | changes


def code_of(document, *, kind=WEIGHTS, trusted=(OURS,)):
    with pytest.raises(StatementError) as caught:
        open_statement(document, kind, known(*trusted))
    assert caught.value.sentence
    assert caught.value.fix
    return caught.value.code


def test_what_was_signed_is_what_is_opened():
    found = open_statement(envelope(), WEIGHTS, known(OURS, THEIRS))
    name = statements.fingerprint(statements.public_bytes(OURS))
    assert found == statements.Statement(WEIGHTS, SHA256, {"size_bytes": 3}, name)
    assert unverified(envelope(), WEIGHTS) == found


def test_the_encoding_to_sign_is_that_of_dsse():
    assert statements._to_sign(b"hello world").endswith(b" 11 hello world")
    assert statements._to_sign(b"x").startswith(b"DSSEv1 28 application/vnd.in-toto+json ")


def test_every_byte_of_the_payload_is_under_the_signature():
    good = envelope()
    payload = base64.b64decode(good["payload"])
    for place in range(len(payload)):
        changed = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
        assert code_of(good | {"payload": base64.b64encode(changed).decode()}) == "bad_signature"


def test_another_key_is_told_from_a_false_signature():
    assert code_of(envelope(), trusted=(THEIRS,)) == "unknown_key"
    assert code_of(envelope(), trusted=()) == "unknown_key"
    borrowed = statements.sign(WEIGHTS, "w", SHA256, {}, THEIRS)["signatures"][0]["sig"]
    named = envelope()["signatures"][0]["keyid"]
    assert code_of(envelope(signatures=[{"keyid": named, "sig": borrowed}])) == "bad_signature"


def test_a_statement_of_one_kind_is_none_of_another():
    assert code_of(envelope(), kind=PRIVACY) == "statement_malformed"


def test_a_statement_of_another_file_is_refused():
    with pytest.raises(StatementError) as caught:
        require_subject(open_statement(envelope(), WEIGHTS, known(OURS)), "cd" * 32)
    assert caught.value.code == "other_file"


MALFORMED = [
    None,
    [],
    "text",
    {},
    envelope(payloadType="application/json"),
    envelope(payload="***"),
    envelope(payload=""),
    envelope(payload=5),
    envelope(signatures=[]),
    envelope(signatures={}),
    envelope(signatures=[None]),
    envelope(signatures=[{"keyid": 5, "sig": "AA=="}]),
    envelope(signatures=[{"keyid": "a", "sig": ""}]),
    envelope(signatures=envelope()["signatures"] * 9),
]


@pytest.mark.parametrize("document", MALFORMED)
def test_what_is_no_envelope_is_malformed(document):
    assert code_of(document) == "statement_malformed"


@pytest.mark.parametrize(
    "payload",
    [
        b"no json",
        b"[" * 100_000,
        b"[]",
        b'{"_type": "other"}',
        json.dumps({"_type": statements.STATEMENT_TYPE, "predicateType": WEIGHTS, "subject": []}).encode(),
        json.dumps(
            {"_type": statements.STATEMENT_TYPE, "predicateType": WEIGHTS, "predicate": {}, "subject": [
                {"name": "a", "digest": {"sha256": "AB"}}]}
        ).encode(),
    ],
)  # fmt: skip
def test_a_signed_payload_that_states_nothing_is_malformed(payload):
    raw = OURS.sign(statements._to_sign(payload))
    named = statements.fingerprint(statements.public_bytes(OURS))
    signatures = [{"keyid": named, "sig": base64.b64encode(raw).decode()}]
    document = envelope(payload=base64.b64encode(payload).decode(), signatures=signatures)
    assert code_of(document) == "statement_malformed"


# Key files


def code_of_key(path, passphrase=""):
    with pytest.raises(keys.KeyFileError) as caught:
        keys.load(path, passphrase)
    assert caught.value.fix
    return caught.value.code


@pytest.mark.parametrize("passphrase", ["", "a long passphrase"])
def test_a_key_is_kept_for_its_owner_alone_and_never_overwritten(tmp_path, passphrase):
    path = tmp_path / "config" / "key.pem"
    key = keys.create(path, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.public_text(keys.load(path, passphrase)) == keys.public_text(key)
    content = path.read_bytes()
    with pytest.raises(keys.KeyFileError) as caught:
        keys.create(path)
    assert (caught.value.code, path.read_bytes()) == ("key_exists", content)


def test_a_key_that_cannot_be_used_says_why(tmp_path):
    path = tmp_path / "key.pem"
    assert code_of_key(path) == "key_missing"
    keys.create(path, "secret")
    assert code_of_key(path) == "passphrase_wrong"
    assert code_of_key(path, "another") == "key_unusable"
    path.chmod(0o644)
    assert code_of_key(path, "secret") == "key_open_to_others"
    path.write_text("no key")
    path.chmod(0o600)
    assert code_of_key(path) == "key_unusable"


def test_a_key_of_another_kind_is_refused(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "key.pem"
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    assert code_of_key(path) == "key_unusable"
