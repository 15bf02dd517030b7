"""Receipts: what the public sees, what the parties get, and that the kit verifies it."""

import base64
import hashlib
import json
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from jobs.kit import cli
from jobs.kit import receipts as kit
from portal import signing
from portal.agreements import pdf, receipts, rendering, services, shipped
from portal.agreements.models import Agreement, SigningRequest
from tests import factories

ROLES = ["principal_investigator", "signing_official", "consortium"]


@pytest.fixture
def case(programme) -> SigningRequest:
    """The shipped agreement, signed by three people whose names could leak."""
    institution = factories.admitted_institution("Volta Teaching Hospital", country="GH")
    official = factories.person_of(institution, "signing_official")
    official.name = "Łukasz Ωmega"
    official.save()
    row = services.create_agreement(
        programme, slug="shipped", title="Data-use agreement", months_valid=24, by=None, now=timezone.now()
    )
    services.publish(row, **shipped.entry("dua-1").fields(), change_note="", by=None, now=timezone.now())
    prepared = factories.sent_case(institution, row, variables={"ethics_reference": "KNUST_2026/17 *draft*"})
    return factories.signed_case(prepared)


@pytest.fixture
def party(case):
    return factories.person_of(case.institution)


def address(name: str, case: SigningRequest) -> str:
    return reverse(f"agreements:{name}", args=[case.receipt_code])


def names(case: SigningRequest) -> list[str]:
    return [row.printed_name for row in case.signatures.all()]


# What the public sees


def test_anybody_can_check_a_receipt_and_learns_no_name(client, case):
    page = client.get(address("receipt", case))
    for fact in (
        "Data-use agreement, version 1",
        case.text_sha256,
        "Volta Teaching Hospital",
        "In force",
        "3 signatures",
    ):
        assert fact in page.text
    assert "Equal to what was signed" in page.text
    assert "Whole" in page.text
    for secret in (*names(case), *(row.signer.email for row in case.signatures.all()), "KNUST", "127.0.0.1"):
        assert secret not in page.text


def test_public_json_is_signed_and_holds_no_personal_data(client, case):
    answer = client.get(address("receipt_json", case))
    document = json.loads(answer.content)
    assert answer.headers["Content-Type"] == "application/json"
    assert document["form"] == "public"
    assert [set(row) for row in document["signatures"]] == [{"position", "role", "signed_on"}] * 3
    for secret in (*names(case), "KNUST", "ip_address", "signer", "previous_sha256"):
        assert secret not in answer.content.decode()
    facts = {name: value for name, value in document.items() if name != "signature"}
    assert signing.is_valid(facts, document["signature"], public_key=signing.public_key())
    assert set(document) == {
        *(
            "schema",
            "form",
            "receipt_code",
            "verify_at",
            "issued_at",
            "state",
            "activated_at",
            "expires_on",
            "ended_at",
        ),
        *("agreement", "text_sha256", "institutions", "signing_order", "signatures", "key", "signature"),
    }


def test_a_case_that_was_never_in_force_has_no_receipt(client, sign_in, institution, steward):
    row = factories.agreement(institution.signing_requests.get().agreement.programme, slug="annex")
    waiting = factories.signed_case(factories.sent_case(institution, row), times=2)
    for name in ("receipt", "receipt_json", "receipt_full", "receipt_pdf"):
        assert sign_in(steward).get(address(name, waiting)).status_code == 404
    assert sign_in(steward).get(address("receipt_text", waiting)).content.decode() == waiting.text
    assert client.get(address("receipt", waiting)).status_code == 404


@pytest.mark.parametrize("code", ["0" * 20, "x", "a-b"])
def test_a_code_that_is_not_there_is_not_found(client, case, code):
    assert client.get(reverse("agreements:receipt", args=[code])).status_code == 404
    assert client.get(reverse("agreements:receipt_json", args=[code])).status_code == 404


def behind_the_portals_back(table: str, change: str, pk: int) -> None:
    """Run what only the owner of the tables can: a change without triggers, and without the check of the hash."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS request_sha256_of_text")
        cursor.execute(f"UPDATE {table} SET {change} WHERE id = %s", [pk])
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def test_a_text_that_was_changed_behind_the_portals_back_is_told(client, case):
    behind_the_portals_back("agreements_signingrequest", "text = text || ' '", case.pk)
    assert "Different from what was signed" in client.get(address("receipt", case)).text


def test_a_signature_that_was_changed_behind_the_portals_back_is_told(client, case):
    behind_the_portals_back("agreements_signature", "meaning = 'x'", case.signatures.get(position=2).pk)
    assert "Broken" in client.get(address("receipt", case)).text


# State


def test_state_follows_the_days(case):
    expires = case.expires_on
    noon = timezone.now().replace(hour=12)
    found = [
        receipts.state_of(case, now=noon + (expires - noon.date()) - timedelta(days=days)) for days in (61, 60, 0, -1)
    ]
    assert found == ["active", "expiring", "expiring", "expired"]
    case.expires_on = None
    assert receipts.state_of(case, now=noon + timedelta(days=9000)) == "active"


def test_a_terminated_agreement_says_so_and_keeps_its_proof(client, case, party):
    official = factories.person_of(case.institution, "signing_official")
    services.terminate(case, reason="We close the eye unit.", by=official, now=timezone.now())
    page = client.get(address("receipt", case))
    assert "Terminated" in page.text
    assert "Equal to what was signed" in page.text
    assert "eye unit" not in page.text
    assert json.loads(client.get(address("receipt_json", case)).content)["state"] == "terminated"


def test_a_later_version_leaves_the_receipt_as_it_is(client, case):
    before = client.get(address("receipt_json", case)).json()
    services.publish(case.agreement, text="# Other\n", change_note="", by=None, now=timezone.now())
    after = client.get(address("receipt_json", case)).json()
    varying = {"issued_at", "signature"}
    assert {k: v for k, v in before.items() if k not in varying} == {k: v for k, v in after.items() if k not in varying}


# What the parties get


@pytest.mark.parametrize("name", ["receipt_full", "receipt_pdf", "receipt_text"])
def test_only_parties_and_the_consortium_get_names(client, sign_in, case, party, outsider, researcher, chair, name):
    assert client.get(address(name, case)).status_code == 302  # to sign in
    found = [sign_in(user).get(address(name, case)).status_code for user in (outsider, researcher, party, chair)]
    assert found == [404, 404, 200, 200]


def test_a_superuser_is_no_party(sign_in, case):
    admin = factories.user("Root")
    admin.is_superuser = admin.is_staff = True
    admin.save()
    assert sign_in(admin).get(address("receipt_full", case)).status_code == 404


def test_parties_see_the_signatures_on_the_page(sign_in, case, party, outsider):
    page = sign_in(party).get(address("receipt", case))
    assert page.context["sees_more"] is True
    assert all(name in page.text for name in names(case)[1:2])
    assert page.context["signatures"] == list(case.signatures.all())
    page = sign_in(outsider).get(address("receipt", case))
    assert page.context["sees_more"] is False
    assert "Łukasz" not in page.text


def test_the_exact_text_has_the_hash_that_was_signed(sign_in, case, party):
    raw = sign_in(party).get(address("receipt_text", case))
    assert hashlib.sha256(raw.content).hexdigest() == case.text_sha256
    assert raw.headers["Cache-Control"] == "private, no-store"
    assert "KNUST\\_2026/17 \\*draft\\*" in raw.content.decode()


def test_the_full_receipt_is_what_the_chain_was_made_of(sign_in, case, party):
    document = json.loads(sign_in(party).get(address("receipt_full", case)).content)
    assert document["text"] == case.text
    assert [row["role"] for row in document["signatures"]] == ROLES
    assert [row["printed_name"] for row in document["signatures"]] == names(case)
    assert document["signatures"][0]["previous_sha256"] == ""
    assert document["signatures"][1]["previous_sha256"] == document["signatures"][0]["sha256"]


# The kit


def test_the_kit_verifies_both_forms_with_the_portals_published_key(client, sign_in, case, party, tmp_path, capsys):
    keys, public, full = tmp_path / "keys.json", tmp_path / "receipt.json", tmp_path / "full.json"
    text = tmp_path / "agreement.md"
    keys.write_bytes(client.get(reverse("agreements:keys")).content)
    public.write_bytes(client.get(address("receipt_json", case)).content)
    full.write_bytes(sign_in(party).get(address("receipt_full", case)).content)
    text.write_bytes(sign_in(party).get(address("receipt_text", case)).content)
    assert cli.main(["receipt", "verify", str(full), "--key", str(keys)]) == 0
    assert cli.main(["receipt", "verify", str(public), "--key", str(keys), "--text", str(text)]) == 0
    assert "version 1, for Volta Teaching Hospital: active" in capsys.readouterr().out
    full.write_bytes(full.read_bytes().replace("Łukasz".encode(), b"Lukasz"))
    assert cli.main(["receipt", "verify", str(full), "--key", str(keys)]) == 2


def test_what_an_earlier_key_signed_is_still_verified(client, case, tmp_path, settings):
    """The published keys are today's, then those before it."""
    receipt, keys, newest = tmp_path / "receipt.json", tmp_path / "keys.json", tmp_path / "newest.json"
    receipt.write_bytes(client.get(address("receipt_json", case)).content)
    settings.SIGNING_PUBLIC_KEYS_BEFORE = [signing.public_key()]
    settings.SIGNING_KEY = base64.b64encode(bytes(range(32))).decode()
    published = client.get(reverse("agreements:keys")).json()["keys"]
    keys.write_text(json.dumps({"keys": published}))
    newest.write_text(json.dumps({"keys": published[:1]}))
    assert [key["public_key"] for key in published] == [signing.public_key(), *settings.SIGNING_PUBLIC_KEYS_BEFORE]
    found = [cli.main(["receipt", "verify", str(receipt), "--key", str(file)]) for file in (keys, newest)]
    assert found == [0, 2]
    settings.SIGNING_PUBLIC_KEYS_BEFORE = ["not a key"]
    with pytest.raises(ImproperlyConfigured, match="SIGNING_PUBLIC_KEYS_BEFORE"):
        signing.public_keys()


def test_portal_and_kit_write_the_same_canonical_json(case):
    document = receipts.full_form(case, now=timezone.now())
    assert signing.canonical(document) == kit.canonical(document)
    assert kit.load(signing.canonical(document)) == document
    assert kit.SCHEMA == receipts.SCHEMA


def test_covered_hospitals_are_named_once_they_have_confirmed(programme, institution):
    other = factories.member_institution("Second Hospital")
    row = factories.agreement(programme, slug="group", text="# Group\n\nOf {{ institution }}, for {{ covered }}.\n")
    case = factories.draft_case(institution, row, covered=[other])
    services.confirm_cover(case.covered.get(), by=factories.person_of(other), now=timezone.now())
    case = services.send(case, by=factories.person_of(institution), now=timezone.now())
    document = receipts.public_form(factories.signed_case(case), now=timezone.now())
    assert [entry["name"] for entry in document["institutions"]] == [institution.name, "Second Hospital"]


# The PDF


def test_pdf_is_the_same_bytes_each_time(case):
    first = pdf.receipt(case)
    assert first.startswith(b"%PDF-")
    assert pdf.receipt(SigningRequest.objects.get(pk=case.pk)) == first


@pytest.mark.parametrize(
    ("name", "needs_shaping", "has_boxes"),
    [("Grace O'Hara", False, False), ("جليلة الرشيد", True, False), ("नमस्ते", True, False), ("李小龍", False, True)],
)
def test_pdf_prints_names_in_any_script(case, name, needs_shaping, has_boxes):
    signatures = list(case.signatures.all())
    signatures[0].printed_name = name
    assert pdf._needs_shaping(case, signatures) is needs_shaping
    document = pdf._Document("x")
    assert (document.drawable(name) == name) is not has_boxes
    assert document.has_boxes is has_boxes


def test_arabic_letters_join_in_the_text_too():
    """fpdf2 leaves them apart and reversed in paragraphs; the document corrects that."""
    document = pdf._Document("x")
    document.set_text_shaping(True)
    document.add_page()
    document.set_font(pdf.FAMILY, size=10)
    fragments = document._preload_font_styles("Between جليلة الرشيد and us", False)
    assert [fragment.fragment_direction.value for fragment in fragments] == ["LTR", "RTL", "LTR"]


def test_every_field_of_the_regulation_is_printed(case, monkeypatch):
    """21 CFR 11.50: printed name, date and time, meaning."""
    drawn: list[tuple[str, str]] = []
    monkeypatch.setattr(pdf._Document, "rows", lambda self, rows: drawn.extend(rows))
    pdf.receipt(case)
    for row in case.signatures.all():
        assert ("Printed name", row.printed_name) in drawn
        assert ("Signed at", f"{row.signed_at:%d %B %Y, %H:%M:%S} UTC") in drawn
        assert ("Meaning", row.meaning) in drawn
    assert ("SHA-256 of the text", case.text_sha256) in drawn
    assert ("Verify at", receipts.verify_url(case)) in drawn


def test_rendered_text_is_what_was_hashed(case):
    assert rendering.text_sha256(case.text) == case.text_sha256
    assert Agreement.objects.get(slug="shipped").versions.get().text != case.text
