"""Signing keys: registered by a signing official with a proof, revoked by whoever acts for the institution, once."""

import base64

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.audit import people
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import signing_keys
from portal.institutions.models import Institution, SigningKey
from tests import attesting, factories

PUBLIC = attesting.public_text("the clinic")


@pytest.fixture
def key(institution, signing_official):
    return registered(institution, signing_official)


def registered(institution, official, text=""):
    registration = text or attesting.registration("the clinic", institution.slug)
    return signing_keys.register(
        institution, registration=registration, label="The GPU machine", by=official, now=timezone.now()
    )


def test_a_key_in_force_is_what_the_checks_get(institution, key):
    assert signing_keys.in_force(institution) == {key.fingerprint: PUBLIC}
    assert set(attesting.known(attesting.key_of("the clinic"))) == {key.fingerprint}


def test_only_a_signing_official_registers(institution, investigator, steward, outsider, operator):
    for person in (investigator, steward, outsider, operator):
        with pytest.raises(NotAllowed):
            registered(institution, person)
    assert SigningKey.objects.count() == 0


def test_an_applicant_registers_none(programme):
    applicant = factories.applied_institution("Khmer Eye Hospital", country="KH")
    official = factories.person_of(applicant, "signing_official")
    with pytest.raises(NotAllowed):
        registered(applicant, official)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (".", "This holds no ed25519 public key"),
        ("abc", "This holds no ed25519 public key"),
        ("A" * 44, "This holds no ed25519 public key"),
        ("-----BEGIN PRIVATE KEY-----", "This looks like a private key"),
        (PUBLIC[:-4], "This holds no ed25519 public key"),
        (PUBLIC + "AAAA", "This holds no ed25519 public key"),
        (PUBLIC, "This is the public key alone"),
        (f"{PUBLIC}.", "This is the public key alone"),
        (f"{PUBLIC}.AAAA", "This was not made for"),
        (f"{PUBLIC}.é", "This was not made for"),
        (attesting.registration("the clinic", "another-clinic"), "This was not made for"),
        (f"{PUBLIC}.{attesting.registration('another', 'lake-clinic').partition('.')[2]}", "This was not made for"),
        (attesting.registration("the clinic", "")[:-4], "This was not made for"),
    ],
)
def test_what_proves_no_key_is_refused(institution, signing_official, text, sentence):
    with pytest.raises(signing_keys.KeyRefused) as refused:
        registered(institution, signing_official, text)
    assert str(refused.value).startswith(sentence)
    assert f"`consortium keys show --institution {institution.slug}`" in str(refused.value)
    assert SigningKey.objects.count() == 0


@pytest.mark.parametrize("before", ["", "Registration: "])
def test_a_registration_that_was_broken_into_lines_is_read(institution, signing_official, before):
    line = before + attesting.registration("the clinic", institution.slug)
    assert registered(institution, signing_official, f" {line[:60]}\r\n{line[60:]}\n").public_key == PUBLIC


def encoded(y: int, *, sign: int = 0) -> str:
    """Return a point as RFC 8032, section 5.1.2, encodes it, in base64."""
    return base64.b64encode((y | sign << 255).to_bytes(32, "little")).decode()


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize(
    "y",
    [*sorted(signing_keys.SMALL_ORDER), *range(signing_keys.FIELD, signing_keys.FIELD + 19)],
)
def test_a_key_of_small_order_or_written_otherwise_than_it_should_be_is_refused(sign, y):
    anywhere = Institution(slug="clinic", name="Clinic")
    with pytest.raises(signing_keys.KeyRefused) as refused:
        signing_keys.proven_key(f"{encoded(y, sign=sign)}.AAAA", anywhere)
    assert "a public key that no pair has" in str(refused.value)


def test_the_points_of_small_order_are_all_there():
    field, d = signing_keys.FIELD, -121665 * pow(121666, -1, signing_keys.FIELD)
    order_8 = [y for y in signing_keys.SMALL_ORDER if (d * y**4 + 2 * y**2 - 1) % field == 0]  # y of 2 P is 0
    assert (len(order_8), signing_keys.SMALL_ORDER - set(order_8)) == (2, {0, 1, field - 1})


def test_a_key_of_small_order_registers_nothing(institution, signing_official):
    any_message = base64.b64encode((1).to_bytes(64, "little")).decode()  # R is the neutral point, S is 0
    with pytest.raises(signing_keys.KeyRefused):
        registered(institution, signing_official, f"{encoded(1)}.{any_message}")
    assert SigningKey.objects.count() == 0


def test_a_key_belongs_to_one_institution_and_does_not_come_back(institution, signing_official, key, outsider):
    signing_keys.revoke(key, reason="Machine replaced.", by=signing_official, now=timezone.now())
    other = outsider.memberships.get().institution
    for place in (institution, other):
        official = factories.person_of(place, "signing_official")
        with pytest.raises(signing_keys.KeyKnown):
            registered(place, official)


def test_a_revoked_key_is_in_force_no_more_and_stays_on_record(institution, steward, outsider, key):
    with pytest.raises(NotAllowed):
        signing_keys.revoke(key, reason="x", by=outsider, now=timezone.now())
    signing_keys.revoke(key, reason="The laptop was stolen.", by=steward, now=timezone.now())
    assert signing_keys.in_force(institution) == {}
    with pytest.raises(signing_keys.KeyRevoked):
        signing_keys.revoke(key, reason="again", by=steward, now=timezone.now())
    verbs = AuditEvent.objects.filter(subject_type="signingkey", subject_id=key.pk).order_by("pk")
    assert list(verbs.values_list("verb", flat=True)) == ["signing_key.registered", "signing_key.revoked"]


def test_the_name_of_a_key_makes_no_mail_say_the_name_of_somebody(institution, signing_official, steward, researcher):
    signing_keys.register(
        institution,
        registration=attesting.registration("the clinic", institution.slug),
        label=f"{{person:{researcher.pk}}}",
        by=signing_official,
        now=timezone.now(),
    )
    [told] = steward.notifications.values_list("text", flat=True)
    assert people.named(told) == told


@pytest.mark.parametrize(
    "broken",
    [
        {"fingerprint": "AB" * 32},
        {"public_key": "x" * 44},
        {"revoked_at": timezone.now()},
        {"reason": "for nobody"},
    ],
)
def test_the_database_refuses_a_key_that_cannot_be(key, broken):
    with pytest.raises(IntegrityError), transaction.atomic():
        SigningKey.objects.filter(pk=key.pk).update(**broken)


# The page


def test_the_official_registers_on_the_page_with_a_proof(sign_in, institution, signing_official):
    client = sign_in(signing_official)
    url = f"/institutions/{institution.slug}/keys/"
    page = client.get(url)
    assert (page.status_code, "No key is registered yet" in page.content.decode()) == (200, True)
    given = {"registration": attesting.registration("the clinic", institution.slug), "label": "The GPU machine"}
    wrong = client.post(url, given | {"password": "wrong", "code": factories.totp_code(signing_official)})
    assert (wrong.status_code, SigningKey.objects.count()) == (422, 0)
    signing_official.set_password(factories.PASSWORD)
    signing_official.save()
    client = sign_in(signing_official)
    proof = {"password": factories.PASSWORD, "code": factories.totp_code(signing_official)}
    assert client.post(url, given | proof).status_code == 302
    key = institution.signing_keys.get()
    page = client.get(url).content.decode()
    assert (key.label in page, key.fingerprint[:12] in page) == (True, True)
    refused = client.post(url, {"registration": "nonsense", "label": "x"} | proof)
    assert (refused.status_code, "This holds no ed25519 public key" in refused.content.decode()) == (422, True)


def test_a_member_reads_the_page_and_a_stranger_does_not(sign_in, institution, member, outsider, key):
    url = f"/institutions/{institution.slug}/keys/"
    page = sign_in(member).get(url)
    assert (page.status_code, "Revoke" in page.content.decode()) == (200, False)
    assert sign_in(member).post(url, {}).status_code == 403
    assert sign_in(outsider).get(url).status_code == 403


def test_a_steward_revokes_on_the_page_after_saying_why(sign_in, institution, steward, key):
    client = sign_in(steward)
    url = f"/institutions/{institution.slug}/keys/{key.pk}/revoke/"
    assert client.post(url, {"reason": ""}).status_code == 422
    assert client.post(url, {"reason": "The laptop was stolen."}).status_code == 302
    assert "The laptop was stolen." in client.get(f"/institutions/{institution.slug}/keys/").content.decode()
    assert client.get(url).status_code == 404
