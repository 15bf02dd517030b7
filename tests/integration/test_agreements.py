"""The data-use agreement: reading, signing, the receipt, what cannot be changed."""

import hashlib
from pathlib import Path

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from portal.agreements import pdf, services
from portal.agreements.models import AgreementVersion, Signature
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import factories

TEXT = (Path(services.__file__).parent / "texts" / "dua-1.md").read_text(encoding="utf-8")


@pytest.fixture
def unsigned(programme):
    """A member institution whose signing official has a password and has not signed."""
    institution = factories.admitted_institution("Volta Teaching Hospital", country="GH")
    official = factories.person_of(institution, "signing_official")
    official.name = "Łukasz Ωmega"
    official.set_password(factories.PASSWORD)
    official.save()
    return institution


@pytest.fixture
def official(unsigned):
    return factories.person_of(unsigned, "signing_official")


def form(unsigned, **changes):
    agreement = AgreementVersion.objects.latest("version")
    return {"text_sha256": agreement.sha256, "typed_name": "łukasz  Ωmega", "agree": "on"} | changes


def publish(text="# Newer\n", **changes):
    programme = AgreementVersion.objects.latest("version").programme
    fields = {"title": "Data-use agreement", "text": text, "change_note": "", "by": None, "now": timezone.now()}
    return services.publish(programme, **fields | changes)


# Reading


def test_anybody_reads_the_agreement_and_can_hash_its_text(client, programme):
    agreement = publish(TEXT)
    page = client.get(reverse("agreements:read", args=["retina", agreement.version]))
    assert "<h2>2. Purpose</h2>" in page.text
    assert agreement.sha256 in page.text
    raw = client.get(reverse("agreements:text", args=["retina", agreement.version]))
    assert hashlib.sha256(raw.content).hexdigest() == agreement.sha256
    assert raw.content == TEXT.encode()


def test_a_replaced_text_says_so(client, programme):
    publish()
    assert "has replaced this text" in client.get(reverse("agreements:read", args=["retina", 1])).text
    assert "has replaced this text" not in client.get(reverse("agreements:read", args=["retina", 2])).text
    assert client.get(reverse("agreements:read", args=["retina", 3])).status_code == 404


def test_the_text_is_shown_without_what_could_run(client, programme):
    agreement = publish("# A\n\n<script>alert(1)</script> [x](javascript:alert(1)) ![y](https://z.example/p.png)\n")
    page = client.get(reverse("agreements:read", args=["retina", agreement.version])).text
    assert "<script>alert" not in page
    assert 'href="javascript' not in page
    assert "p.png" not in page.partition("document")[2].partition("</article>")[0]


def test_the_list_shows_own_institutions_only(sign_in, institution, steward, unsigned):
    page = sign_in(steward).get(reverse("agreements:list"))
    assert [row[0] for row in page.context["own"]] == [institution]
    assert "Volta" not in page.text


# Signing


def test_signing_asks_for_the_password_again_and_keeps_what_was_shown(sign_in, unsigned, official):
    client = sign_in(official)
    url = reverse("agreements:sign", args=[unsigned.slug])
    assert client.get(url).status_code == 200
    asked = client.post(url, form(unsigned), headers={"user-agent": "Browser 1"}, REMOTE_ADDR="192.0.2.7")
    assert asked.headers["Location"].startswith(reverse("account_reauthenticate"))
    assert Signature.objects.filter(institution=unsigned).count() == 0
    signed = client.post(asked.headers["Location"], {"password": factories.PASSWORD})
    signature = Signature.objects.get(institution=unsigned)
    assert signed.headers["Location"] == signature.get_absolute_url()
    assert (signature.typed_name, signature.role, signature.authentication) == (
        "łukasz  Ωmega",
        "signing_official",
        "password",
    )
    assert (signature.ip_address, signature.user_agent) == ("192.0.2.7", "Browser 1")
    assert signature.text_sha256 == hashlib.sha256(factories.AGREEMENT_TEXT.encode()).hexdigest()
    assert signature.meaning == services.MEANING
    event = AuditEvent.objects.get(verb="agreement.signed", institution_id=unsigned.pk)
    assert (event.actor_id, event.facts) == (official.pk, {"text_sha256": signature.text_sha256, "version": 1})


def test_a_wrong_password_signs_nothing(sign_in, unsigned, official):
    client = sign_in(official)
    asked = client.post(reverse("agreements:sign", args=[unsigned.slug]), form(unsigned))
    assert client.post(asked.headers["Location"], {"password": "wrong"}).status_code == 200
    assert not Signature.objects.filter(institution=unsigned).exists()


def test_an_account_that_can_prove_nothing_does_not_sign(sign_in, unsigned, official):
    official.set_unusable_password()
    official.save()
    response = sign_in(official).post(reverse("agreements:sign", args=[unsigned.slug]), form(unsigned))
    assert "/2fa/reauthenticate/" in response.headers["Location"]
    assert not Signature.objects.filter(institution=unsigned).exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"typed_name": "Lukas"}, "typed_name"), ({"agree": ""}, "agree"), ({"text_sha256": "0" * 64}, "text_sha256")],
)
def test_a_form_that_is_not_right_is_refused_before_the_password(sign_in, unsigned, official, changes, field):
    url = reverse("agreements:sign", args=[unsigned.slug])
    response = sign_in(official).post(url, form(unsigned, **changes))
    assert (response.status_code, list(response.context["form"].errors)) == (422, [field])


def test_a_text_published_while_one_reads_must_be_read(sign_in, unsigned, official):
    old = form(unsigned)
    publish()
    response = sign_in(official).post(reverse("agreements:sign", args=[unsigned.slug]), old)
    assert list(response.context["form"].errors) == ["text_sha256"]


@pytest.mark.parametrize("who", ["investigator", "superuser", "outsider", "applicant"])
def test_only_a_signing_official_of_a_member_signs(request, unsigned, who, now):
    institution = unsigned
    person = factories.person_of(unsigned)
    if who == "outsider":
        person = request.getfixturevalue("outsider")
    elif who == "superuser":
        person = factories.user("Root")
        person.is_superuser = True
        person.save()
    elif who == "applicant":
        institution = factories.applied_institution("Lake Hospital")
        person = factories.person_of(institution, "signing_official")
    with pytest.raises(NotAllowed):
        services.sign(
            AgreementVersion.objects.get(),
            institution,
            by=person,
            typed_name=person.name,
            authentication="password",
            ip_address=None,
            user_agent="",
            now=now,
        )
    assert not Signature.objects.filter(institution=institution).exists()


def test_the_sign_page_says_who_can_sign(sign_in, unsigned, official, outsider):
    url = reverse("agreements:sign", args=[unsigned.slug])
    page = sign_in(factories.person_of(unsigned)).get(url)
    assert "Only the signing official can sign: Łukasz Ωmega." in page.text
    assert "typed_name" not in page.text
    assert sign_in(outsider).get(url).status_code == 403


def test_signing_twice_leads_to_the_first_receipt(sign_in, institution, signing_official):
    signature = Signature.objects.get(institution=institution)
    response = sign_in(signing_official).post(reverse("agreements:sign", args=[institution.slug]), {})
    assert response.headers["Location"] == signature.get_absolute_url()
    assert factories.sign_agreement(institution) == signature


def test_a_replaced_version_cannot_be_signed(unsigned, official, now):
    first = AgreementVersion.objects.get()
    publish()
    with pytest.raises(services.AgreementSuperseded):
        services.sign(
            first,
            unsigned,
            by=official,
            typed_name=official.name,
            authentication="password",
            ip_address=None,
            user_agent="",
            now=now,
        )


def test_a_new_version_asks_for_a_new_signature(institution, programme):
    assert services.active_signature(institution, programme) is not None
    publish()
    assert services.active_signature(institution, programme) is None
    with pytest.raises(services.AgreementRequired) as caught:
        services.require_active(institution, programme)
    assert caught.value.next_url == reverse("agreements:sign", args=[institution.slug])


# Receipt


def test_the_public_receipt_names_no_person(client, sign_in, institution, signing_official, outsider):
    signature = Signature.objects.get(institution=institution)
    for visitor in (client, sign_in(outsider)):
        page = visitor.get(signature.get_absolute_url())
        assert page.status_code == 200
        assert signature.text_sha256 in page.text
        assert "Signing official" in page.text
        for secret in (signature.typed_name, signing_official.email, "127.0.0.1", signature.authentication):
            assert secret not in page.text.partition("<main")[2]
    assert signature.typed_name in sign_in(signing_official).get(signature.get_absolute_url()).text


def test_the_receipt_of_a_replaced_version_keeps_its_text(client, institution):
    publish()
    signature = Signature.objects.get(institution=institution)
    page = client.get(signature.get_absolute_url())
    assert "Replaced by version 2" in page.text
    assert page.context["text_matches"] is True


def test_the_pdf_is_for_the_institution_and_the_consortium(client, sign_in, institution, member, outsider, auditor):
    signature = Signature.objects.get(institution=institution)
    url = reverse("agreements:receipt_pdf", args=[signature.receipt_code])
    assert client.get(url).status_code == 302
    assert sign_in(outsider).get(url).status_code == 403
    for person in (member, auditor):
        response = sign_in(person).get(url)
        assert response.headers["Content-Type"] == "application/pdf"
        assert response.content.startswith(b"%PDF-")


@pytest.mark.parametrize(
    "name", ["Łukasz Müller", "Ярослав Ґанна", "Ζωή Παπαδοπούλου", "محمد علي", "מרים", "李华", "गंगा", "😀\u200d😀"]
)
def test_the_pdf_takes_names_in_any_script(institution, name):
    signature = Signature.objects.select_related("agreement", "institution").get(institution=institution)
    signature.typed_name = name
    first = pdf.receipt(signature)
    assert first == pdf.receipt(signature)


def test_a_letter_that_the_font_lacks_becomes_a_box():
    document = pdf._Document("")
    assert document.drawable("Ab李 жأ ग") == "Ab▯ жأ ग"


def test_the_first_agreement_says_what_it_must():
    for words in ("CC BY-NC 4.0", "does not un-train", "not as\nanonymous", "annex", "template", "fewer than ten"):
        assert words in TEXT


# What the database refuses


def test_a_version_and_a_signature_can_be_neither_changed_nor_deleted(institution):
    for rows in (AgreementVersion.objects.all(), Signature.objects.all()):
        assert rows.exists()
        changes = {"text": "x"} if rows.model is AgreementVersion else {"typed_name": "x"}
        with pytest.raises(DatabaseError, match="append-only: UPDATE refused"), transaction.atomic():
            rows.update(**changes)
        with pytest.raises(DatabaseError, match="append-only: DELETE refused"), transaction.atomic():
            rows._raw_delete(rows.db)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [("agreement_version_once", {}), ("agreement_sha256", {"version": 2, "sha256": "A" * 64})],
)
def test_the_database_refuses_an_impossible_version(programme, constraint, changes):
    row = AgreementVersion.objects.get()
    fields = {"programme": programme, "version": 1, "title": "x", "text": "x", "sha256": row.sha256} | changes
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        AgreementVersion.objects.create(**fields)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("one_signature_per_institution", {"same": True}),
        ("signature_sha256", {"text_sha256": "x"}),
        ("signature_by_signing_official", {"role": "member"}),
        ("receipt_code", {"same_code": True}),
    ],
)
def test_the_database_refuses_an_impossible_signature(institution, unsigned, official, now, constraint, changes):
    row = Signature.objects.get(institution=institution)
    fields = {
        "agreement": row.agreement,
        "institution": institution if changes.pop("same", False) else unsigned,
        "signer": official,
        "typed_name": "x",
        "role": "signing_official",
        "meaning": "x",
        "text_sha256": row.text_sha256,
        "authentication": "password",
        "signed_at": now,
    }
    if changes.pop("same_code", False):
        fields["receipt_code"] = row.receipt_code
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Signature.objects.create(**fields | changes)
