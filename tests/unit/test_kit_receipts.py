"""The offline verifier: what holds, what does not, and that no change of a receipt goes unseen."""

import base64
import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.kit import cli, receipts
from jobs.kit.findings import verdict

PORTAL = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TEXT = "# Agreement\n\nBetween Ωmega Klinik and the Consortium.\n"
ROLES = ["principal_investigator", "signing_official", "consortium"]


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


KEY = public(PORTAL)


def signature(number: int, previous: str, **changes: Any) -> dict[str, Any]:
    record = {
        "position": number,
        "signer_id": 10 + number,
        "printed_name": ["Łukasz Ωmega", "جليلة الرشيد", "Grace O'Hara"][number - 1],
        "institution_id": None if number == 3 else 7,
        "institution_name": "Global RETFound" if number == 3 else "Ωmega Klinik",
        "role": ROLES[number - 1],
        "authority": "I have authority.",
        "meaning": "I agree.",
        "document_id": "data-use-agreement",
        "document_title": "Data-use agreement",
        "version": 2,
        "text_sha256": receipts.sha256(TEXT.encode()),
        "signed_at": f"2026-11-2{number}T10:00:00.000000Z",
        "authentication": ["password", "totp"],
        "ip_address": "192.0.2.4",
        "user_agent": "Firefox",
        "audit_index": 100 + number,
        "previous_sha256": previous,
    } | changes
    return record | {"sha256": receipts.sha256(receipts.canonical(record))}


def signatures(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, change in enumerate(changes or ({}, {}, {}), start=1):
        found.append(signature(number, found[-1]["sha256"] if found else "", **change))
    return found


def signed(facts: dict[str, Any], key: Ed25519PrivateKey = PORTAL) -> dict[str, Any]:
    facts = {name: value for name, value in facts.items() if name != "signature"}
    return facts | {"signature": base64.b64encode(key.sign(receipts.canonical(facts))).decode()}


def full(**changes: Any) -> dict[str, Any]:
    return signed(
        {
            "schema": "consortium-receipt/1",
            "form": "full",
            "receipt_code": "0123456789abcdef0123",
            "verify_at": "https://portal.example.org/agreements/receipts/0123456789abcdef0123/",
            "issued_at": "2026-11-25T12:00:00Z",
            "state": "active",
            "activated_at": "2026-11-23T10:00:00Z",
            "expires_on": "2028-11-23",
            "ended_at": None,
            "agreement": {
                "programme": "retina",
                "id": "data-use-agreement",
                "title": "Data-use agreement",
                "version": 2,
                "language": "en",
                "template_sha256": "0" * 64,
            },
            "text_sha256": receipts.sha256(TEXT.encode()),
            "institutions": [{"id": 7, "name": "Ωmega Klinik", "country": "DE"}],
            "signing_order": ROLES,
            "key": {"algorithm": "ed25519", "id": "0" * 16, "public_key": KEY},
            "signatures": signatures(),
            "text": TEXT,
        }
        | changes
    )


def public_form() -> dict[str, Any]:
    rows = [{"position": n, "role": role, "signed_on": f"2026-11-2{n}"} for n, role in enumerate(ROLES, start=1)]
    facts = full(form="public", signatures=rows)
    del facts["text"]
    return signed(facts)


def verdicts(document: dict[str, Any], **options: Any) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in receipts.verify(document, **options)}


def outcome(content: bytes) -> str:
    """What the whole command would say of these bytes, with the portal's key at hand."""
    try:
        return verdict(receipts.verify(receipts.load(content), keys=[KEY]))
    except receipts.ReceiptError:
        return "fail"


# What holds


def test_a_full_receipt_holds():
    assert verdicts(full(), keys=[KEY]) == dict.fromkeys(["portal", "text", "order", "chain", "agreement"], "pass")


def test_a_public_receipt_holds_and_says_what_it_leaves_out():
    found = verdicts(public_form(), keys=[KEY])
    assert found == {"portal": "pass", "text": "note", "order": "pass", "chain": "note", "agreement": "pass"}
    assert verdict(receipts.verify(public_form(), keys=[KEY])) == "pass"
    assert verdicts(public_form(), keys=[KEY], text=TEXT.encode())["text"] == "pass"
    assert verdicts(public_form(), keys=[KEY], text=TEXT.encode() + b"\n")["text"] == "fail"


def test_a_reprinted_document_is_the_same_document():
    assert outcome(json.dumps(full(), indent=4).encode()) == "pass"


def test_without_the_portals_key_it_cannot_be_told_who_signed():
    assert verdicts(full())["portal"] == "unknown"
    assert verdict(receipts.verify(full())) == "unknown"


def test_several_keys_may_be_given():
    assert verdicts(full(), keys=[public(STRANGER), KEY])["portal"] == "pass"


# What does not


def test_a_stranger_cannot_sign_for_the_portal():
    own = full(key={"algorithm": "ed25519", "id": "0" * 16, "public_key": public(STRANGER)})
    assert verdicts(signed(own, STRANGER), keys=[KEY])["portal"] == "fail"
    assert verdicts(signed(full(), STRANGER))["portal"] == "fail"


# The portal itself, or somebody with its key, cannot make a case that does not fit together


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"text": TEXT + " "}, "text"),
        ({"text": None}, "text"),
        ({"signing_order": ROLES[::-1]}, "order"),
        ({"signing_order": []}, "order"),
        ({"signatures": signatures()[:2]}, "order"),
        ({"signatures": []}, "order"),
        ({"signatures": signatures({"position": 2})}, "order"),
        ({"signatures": signatures({}, {"signed_at": "2026-11-20T10:00:00.000000Z"}, {})}, "order"),
        ({"signatures": [signatures()[0], *signatures({}, {"printed_name": "X"}, {})[1:2], signatures()[2]]}, "chain"),
        ({"signatures": [signatures()[0] | {"sha256": "0" * 64}, *signatures()[1:]]}, "chain"),
        ({"signatures": signatures({}, {"signer_id": 11}, {})}, "chain"),
        ({"signatures": signatures({"previous_sha256": "0" * 64}, {}, {})}, "chain"),
        ({"signatures": signatures({"version": 1}, {}, {})}, "agreement"),
        ({"signatures": signatures({}, {"document_id": "annex"}, {})}, "agreement"),
        ({"signatures": signatures({}, {}, {"text_sha256": "0" * 64})}, "agreement"),
        ({"signatures": signatures({"institution_id": 8}, {}, {})}, "agreement"),
        ({"signatures": signatures({}, {}, {"institution_id": 7})}, "agreement"),
        ({"institutions": []}, "form"),
        ({"agreement": "none"}, "form"),
        ({"signatures": 5}, "form"),
        ({"key": {}}, "form"),
    ],
)
def test_a_case_that_does_not_fit_together_fails(changes, broken):
    document = full(**changes)
    assert verdicts(document).get(broken) == "fail"
    assert verdict(receipts.verify(document, keys=[KEY])) == "fail"


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document that holds a single value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from fields(item, (*path, name)) if isinstance(item, dict | list) else ((*path, name),)


def other_than(value: Any) -> list[Any]:
    """Values that differ a little from this one."""
    if isinstance(value, str):
        return [value + "x", value[1:], value.swapcase(), None]
    return [value + 1, str(value), None] if isinstance(value, int) else [0, "", "None"]


@pytest.mark.parametrize("document", [full(), public_form()], ids=["full", "public"])
def test_every_change_of_a_single_field_is_found(document):
    tried = 0
    for *parents, last in fields(document):
        for make in (lambda row, name: row.pop(name), *(_setter(n) for n in range(4))):
            changed = copy.deepcopy(document)
            row: Any = changed
            for step in parents:
                row = row[step]
            make(row, last)
            if changed != document:
                tried += 1
                assert outcome(json.dumps(changed).encode()) == "fail", (*parents, last)
    assert tried > 100


def _setter(number: int):
    def change(row: Any, name: Any) -> None:
        values = other_than(row[name])
        row[name] = values[min(number, len(values) - 1)]

    return change


@pytest.mark.parametrize("document", [full(), public_form()], ids=["full", "public"])
def test_a_thousand_flipped_bytes_are_found(document):
    content = receipts.canonical(document)
    assert outcome(content) == "pass"
    dice = random.Random(20261125)
    for _ in range(1000):
        place, bit = dice.randrange(len(content)), dice.randrange(8)
        flipped = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
        assert outcome(flipped) == "fail", (place, bit, content[max(0, place - 20) : place + 20])


def test_every_bit_of_the_portals_signature_counts():
    document = public_form()
    content = receipts.canonical(document)
    start = content.index(document["signature"].encode())
    for place in range(start, start + len(document["signature"])):
        for bit in range(8):
            assert outcome(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]) == "fail"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"schema": "other"}',
        b"[" * 100_000,
        json.dumps(full()).encode("utf-16"),
        json.dumps(full()).replace('"state"', '"state": "active", "state"').encode(),
        json.dumps(full()).replace('"version": 2', '"version": 2.0').encode(),
        json.dumps(full()).replace('"version": 2', '"version": NaN').encode(),
        json.dumps(full()).replace('"version": 2', '"version": -0').encode(),
        json.dumps(full()).replace("I agree", "\\ud800").encode(),
    ],
)
def test_what_has_two_readings_is_not_read(content):
    with pytest.raises(receipts.ReceiptError):
        receipts.load(content)


# The command


@pytest.fixture
def receipt(tmp_path):
    def _write(document: dict[str, Any]) -> str:
        path = tmp_path / "receipt.json"
        path.write_bytes(receipts.canonical(document))
        return str(path)

    return _write


def test_the_command_says_what_holds(receipt, capsys):
    assert cli.main(["receipt", "verify", receipt(full()), "--key", KEY]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "holds  portal: Signed by the portal's key and unchanged since.",
        f"holds  text: The text is the one that was signed: SHA-256 {receipts.sha256(TEXT.encode())}.",
        "holds  order: Signed in the agreed order by the principal investigator, then the signing official, then the "
        "consortium.",
        "holds  chain: All 3 signatures are chained, each by another person.",
        "holds  agreement: Data-use agreement, version 2, for Ωmega Klinik: active when the receipt was issued "
        "(2026-11-25T12:00:00Z).",
        "Valid: everything in this receipt holds.",
    ]


def test_the_command_ends_with_3_when_it_cannot_tell(receipt, capsys):
    assert cli.main(["receipt", "verify", receipt(full())]) == 3
    out = capsys.readouterr().out
    assert "only you can tell whose key that is" in out
    assert out.endswith("but see above what is missing.\n")


def test_the_command_ends_with_2_when_it_is_not_valid(receipt, capsys):
    assert cli.main(["receipt", "verify", receipt(full() | {"state": "terminated"}), "--key", KEY, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "fail"
    assert [row["name"] for row in answer["findings"] if row["verdict"] == "fail"] == ["portal"]


def test_the_command_ends_with_2_when_it_cannot_read_the_receipt(tmp_path, capsys):
    path = tmp_path / "receipt.json"
    path.write_text("<html>")
    assert cli.main(["receipt", "verify", str(path)]) == 2
    assert "cannot be read as a receipt" in capsys.readouterr().err


def test_the_command_compares_the_text_given(receipt, tmp_path):
    text = tmp_path / "agreement.md"
    text.write_text(TEXT)
    assert cli.main(["receipt", "verify", receipt(public_form()), "--key", KEY, "--text", str(text)]) == 0
    text.write_text(TEXT + "More.\n")
    assert cli.main(["receipt", "verify", receipt(public_form()), "--key", KEY, "--text", str(text)]) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # the second as an editor of Windows saves it
def test_the_command_reads_the_portals_keys(receipt, tmp_path, encoding):
    keys = tmp_path / "keys.json"
    document = {"keys": [{"public_key": public(STRANGER)}, {"public_key": KEY}]}
    keys.write_text(json.dumps(document), encoding=encoding)
    assert cli.main(["receipt", "verify", receipt(full()), "--key", str(keys)]) == 0


@pytest.mark.parametrize("content", ["", "{}", "AAAA", '{"keys": []}', '{"keys": [{"public_key": "AAAA"}]}', "{"])
def test_a_key_that_is_none_cannot_tell(receipt, tmp_path, capsys, content):
    keys = tmp_path / "keys.json"
    keys.write_text(content)
    assert cli.main(["receipt", "verify", receipt(full()), "--key", str(keys)]) == 3
    assert "not an ed25519 public key" in capsys.readouterr().err
