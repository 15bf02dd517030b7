"""
A fresh proof of who somebody is, in the same form as what it is for: signing, deleting an account.

Source: 21 CFR 11.200(a)(1): two distinct components. A passkey with user verification holds both by itself; otherwise
the password and, where a second factor is enrolled, its code. At most `ACCOUNT_REAUTHENTICATION_TIMEOUT` seconds old.
"""

import time
from http import HTTPStatus
from typing import Any

from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.login import record_authentication
from allauth.core import ratelimit
from allauth.mfa.base.internal.flows import post_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django import forms
from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.accounts.standing import FACTORS
from portal.audit import services as audit
from portal.errors import DomainError

Kind = Authenticator.Type
CODES = [Kind.TOTP, Kind.RECOVERY_CODES]

# What a proof is called on a receipt.
LABELS = {
    "password": "password",
    "totp": "code of an authenticator app",
    "recovery_codes": "recovery code",
    "webauthn": "passkey",
}


class ProofRefused(DomainError):
    """The password or the code is wrong, missing, or was tried too often; `field` says which of the two."""

    code = "proof_refused"
    status = HTTPStatus.FORBIDDEN
    on_record = True

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


def described(methods: list[str]) -> str:
    """Return methods as a receipt names them: "password and code of an authenticator app"."""
    return " and ".join(LABELS[method] for method in methods)


def has_second_factor(user: User) -> bool:
    """Test if the person has enrolled an authenticator app, a passkey or a security key."""
    return is_mfa_enabled(user, types=FACTORS)


def fresh(request: SignedInRequest) -> list[str]:
    """Return the methods by which the person proved in the last two minutes who they are; empty where not enough."""
    since = time.time() - settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
    records = get_authentication_records(request, request.user)
    proved = {row.get("type") or row["method"] for row in records if row.get("reauthenticated") and row["at"] >= since}
    if Kind.WEBAUTHN in proved:
        return ["webauthn"]
    methods = [method for method in ("password", *CODES) if method in proved]
    enough = "password" in methods and (len(methods) > 1 or not has_second_factor(request.user))
    return [str(method) for method in methods] if enough else []


def prove(request: SignedInRequest, *, password: str, code: str) -> list[str]:
    """
    Check password and code, and remember for two minutes that they were right. Call it outside a transaction.

    Returns:
        the methods, as `fresh` names them.
    Raises:
        ProofRefused: it is wrong or was tried too often; the attempt is on record.
    """
    user, limit = request.user, {"action": "login_failed", "key": f"mfa-auth-user-{request.user.pk}"}
    if not ratelimit.consume(request, **limit):
        raise _refused(user, "password", gettext("Too many wrong attempts. Wait five minutes, then try again."))
    if not user.check_password(password):
        raise _refused(user, "password", gettext("This is not the password of your account. Type it again."))
    authenticator = _of_code(user, code) if has_second_factor(user) else None
    ratelimit.clear(request, **limit)
    record_authentication(request, user, method="password", reauthenticated=True)
    if authenticator is not None:
        post_authentication(request, authenticator, reauthenticated=True)
    return fresh(request)


def _of_code(user: User, code: str) -> Authenticator:
    """Return the authenticator that this code is of; the code is used up."""
    for authenticator in Authenticator.objects.filter(user=user, type__in=CODES).order_by("-type"):  # app first
        if code and authenticator.wrap().validate_code(code):
            authenticator.user = user
            return authenticator
    raise _refused(user, "code", gettext("This code is wrong or was used already. Wait until your app shows the next."))


def _refused(user: User, field: str, message: str) -> ProofRefused:
    with transaction.atomic():
        audit.record("account.proof_refused", user, by=user, component=field)
    return ProofRefused(message, field=field)


class ProofForm(forms.Form):
    """
    The fields by which a person proves who they are; a form that needs it extends this one and includes
    `accounts/_proof_fields.html`. Where the proof is fresh the fields are gone.

    Once every other field is right the proof is checked; `methods` then says by what. A wrong one is a field's error.
    """

    password = forms.CharField(
        label=_("Your password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    code = forms.CharField(
        label=_("Code of your second factor"),
        max_length=20,
        help_text=_("Six digits of your authenticator app, or one of your recovery codes."),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def __init__(self, *args: Any, request: SignedInRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request, self.methods = request, fresh(request)
        self.lacks_password = not request.user.has_usable_password()
        self.passkey_url = _passkey_url(request)
        absent = [] if has_second_factor(request.user) else ["code"]
        if self.methods or self.lacks_password:
            absent = ["password", "code"]
        for name in absent:
            del self.fields[name]
        self.order_fields([*(name for name in self.fields if name not in {"password", "code"}), "password", "code"])

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if self.errors or self.methods:
            return given
        if self.lacks_password:
            self.add_error(None, _("First prove who you are with your passkey, or set a password on your account."))
            return given
        try:
            self.methods = prove(self.request, password=given["password"], code=given.get("code", ""))
        except ProofRefused as error:
            self.add_error(error.field, str(error))
        return given


def _passkey_url(request: SignedInRequest) -> str:
    """Return where a passkey is asked for, with the way back here; empty where none is enrolled."""
    if not is_mfa_enabled(request.user, types=[Kind.WEBAUTHN]):
        return ""
    return f"{reverse('mfa_reauthenticate_webauthn')}?{urlencode({'next': request.get_full_path()})}"
