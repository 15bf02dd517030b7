"""A fresh proof of identity: what is enough, what is refused, what is kept."""

import time

import pytest
from allauth.account.internal.flows.login import record_authentication
from allauth.core import context
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django import forms
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.test import RequestFactory

from portal.accounts import crypto, proofs
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from tests import factories

SECRET_WORDS = [factories.PASSWORD, "wrong password"]


@pytest.fixture(autouse=True)
def _empty_limits():
    cache.clear()


@pytest.fixture
def person(db) -> User:
    return factories.user("Rosa Researcher", password=factories.PASSWORD)


@pytest.fixture
def request_of(person):
    """Return a function that makes a POST of the person, always in the same session."""
    session = SessionStore()

    def make(user: User = person):
        request = RequestFactory().post("/sign/?x=1")
        request.session, request.user = session, user
        return request

    with context.request_context(make()):
        yield make


class Form(proofs.ProofForm):
    text = forms.CharField()


def proved(request, **data) -> tuple[bool, list[str], list[str]]:
    """Return whether the form is valid, by what, and which fields have errors."""
    form = Form({"text": "x", **data}, request=request)
    return form.is_valid(), form.methods, sorted(form.errors)


def records(request, *rows: tuple[str, dict], age: float = 0) -> None:
    for method, extra in rows:
        record_authentication(request, request.user, method, **extra)
    for row in request.session["account_authentication_methods"]:
        row["at"] = time.time() - age


PASSWORD = ("password", {"reauthenticated": True})
TOTP = ("mfa", {"type": "totp", "reauthenticated": True})
RECOVERY = ("mfa", {"type": "recovery_codes", "reauthenticated": True})
PASSKEY = ("mfa", {"type": "webauthn", "reauthenticated": True})
SIGN_IN = ("mfa", {"type": "webauthn"})


@pytest.mark.parametrize(
    ("enrolled", "rows", "age", "methods"),
    [
        (False, [PASSWORD], 0, ["password"]),
        (False, [PASSWORD], 119, ["password"]),
        (False, [PASSWORD], 121, []),
        (False, [("password", {})], 0, []),  # signing in is no fresh proof
        (True, [PASSWORD], 0, []),
        (True, [TOTP], 0, []),
        (True, [PASSWORD, TOTP], 0, ["password", "totp"]),
        (True, [PASSWORD, RECOVERY], 0, ["password", "recovery_codes"]),
        (True, [PASSKEY], 0, ["webauthn"]),
        (True, [PASSKEY], 121, []),
        (True, [SIGN_IN], 0, []),
        (True, [], 0, []),
    ],
)
def test_what_is_enough(request_of, person, enrolled, rows, age, methods):
    if enrolled:
        factories.enrol(person)
    request = request_of()
    request.session["account_authentication_methods"] = []
    records(request, *rows, age=age)
    assert proofs.fresh(request) == methods


def test_a_proof_of_somebody_else_in_the_same_browser_is_none(request_of, person):
    records(request_of(), PASSWORD)
    assert proofs.fresh(request_of(factories.user("Other"))) == []


def test_the_password_alone_suffices_where_no_factor_is_enrolled(request_of):
    request = request_of()
    assert "code" not in Form(request=request).fields
    assert proved(request, password=factories.PASSWORD) == (True, ["password"], [])
    assert list(Form(request=request).fields) == ["text"]  # for two minutes nothing is asked again


def test_with_a_factor_both_are_asked_in_one_form(request_of, person):
    factories.enrol(person)
    request = request_of()
    assert list(Form(request=request).fields) == ["text", "password", "code"]
    assert proved(request, password=factories.PASSWORD) == (False, [], ["code"])
    assert proved(request, password=factories.PASSWORD, code="000000") == (False, [], ["code"])
    code = factories.totp_code(person)
    assert proved(request, password=factories.PASSWORD, code=code) == (True, ["password", "totp"], [])


def test_a_code_is_good_once(request_of, person):
    factories.enrol(person)
    request = request_of()
    code = factories.totp_code(person)
    assert proofs.prove(request, password=factories.PASSWORD, code=code) == ["password", "totp"]
    with pytest.raises(proofs.ProofRefused, match="used already") as refused:
        proofs.prove(request, password=factories.PASSWORD, code=code)
    assert refused.value.field == "code"


def test_a_recovery_code_stands_in_once(request_of, person):
    factories.enrol(person)
    code = RecoveryCodes.activate(person).get_unused_codes()[0]
    request = request_of()
    assert proofs.prove(request, password=factories.PASSWORD, code=code) == ["password", "recovery_codes"]
    with pytest.raises(proofs.ProofRefused):
        proofs.prove(request, password=factories.PASSWORD, code=code)


def test_a_wrong_password_uses_up_no_code(request_of, person):
    factories.enrol(person)
    request, code = request_of(), factories.totp_code(person)
    assert proved(request, password="wrong password", code=code) == (False, [], ["password"])
    assert proved(request, password=factories.PASSWORD, code=code) == (True, ["password", "totp"], [])


def test_nothing_is_proved_while_another_field_is_wrong(request_of, person):
    factories.enrol(person)
    request, code = request_of(), factories.totp_code(person)
    assert proved(request, text="", password=factories.PASSWORD, code=code) == (False, [], ["text"])
    assert proofs.fresh(request) == []
    assert proved(request, password=factories.PASSWORD, code=code) == (True, ["password", "totp"], [])


def test_five_wrong_attempts_close_the_door_and_are_on_record(request_of, person):
    request = request_of()
    for _ in range(5):
        assert proved(request, password="wrong password") == (False, [], ["password"])
    form = Form({"text": "x", "password": factories.PASSWORD}, request=request)
    assert not form.is_valid()
    assert form.errors["password"] == ["Too many wrong attempts. Wait five minutes, then try again."]
    events = AuditEvent.objects.filter(verb="account.proof_refused", actor_id=person.pk)
    assert [event.facts for event in events] == [{"component": "password"}] * 6
    assert not any(word in str(list(events.values())) for word in SECRET_WORDS)


def test_the_password_cannot_be_guessed_by_way_of_the_code(request_of, person):
    factories.enrol(person)
    request = request_of()
    for number in range(5):
        assert proved(request, password=factories.PASSWORD, code=f"00000{number}") == (False, [], ["code"])
    assert proved(request, password=factories.PASSWORD, code=factories.totp_code(person)) == (False, [], ["password"])


def test_without_a_password_the_person_is_told_to_set_one(request_of, db):
    request = request_of(factories.user("Came by ORCID"))
    assert proved(request) == (False, [], ["__all__"])


def test_the_passkey_page_leads_back(request_of, person):
    assert Form(request=request_of()).passkey_url == ""
    Authenticator.objects.create(user=person, type="webauthn", data={"name": "Key", "credential": {}})
    assert Form(request=request_of()).passkey_url == "/accounts/2fa/webauthn/reauthenticate/?next=%2Fsign%2F%3Fx%3D1"


def test_a_receipt_names_the_methods():
    assert proofs.described(["password", "totp"]) == "password and code of an authenticator app"
    assert proofs.described(["webauthn"]) == "passkey"


def test_secrets_are_encrypted_at_rest(person, settings):
    factories.enrol(person)
    RecoveryCodes.activate(person)
    kept = {row.type: row.data for row in Authenticator.objects.filter(user=person)}
    assert factories.SECRET not in str(kept)
    assert crypto.decrypt(kept["totp"]["secret"]) == factories.SECRET
    seed = crypto.decrypt(kept["recovery_codes"]["seed"])
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another " * 8, [settings.SECRET_KEY]
    assert crypto.decrypt(kept["recovery_codes"]["seed"]) == seed  # a key that was rotated still reads
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(crypto.InvalidToken):
        crypto.decrypt(kept["totp"]["secret"])
