"""
ORCID as a way to sign in, and the iD that it proves.

Only the iD is kept: neither ORCID's tokens nor what else it tells. An address from ORCID is verified like any other.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import requests
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from portal.accounts import traces
from portal.accounts.models import User
from portal.errors import DomainError

PROVIDER = "orcid"
_SHAPE = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]", re.ASCII)


def is_valid(orcid: str) -> bool:
    """Test if the text is an ORCID iD whose check digit is right. Source: ISO/IEC 7064:2003, MOD 11-2."""
    if not _SHAPE.fullmatch(orcid):
        return False
    total = 0
    for digit in orcid.replace("-", "")[:-1]:
        total = (total + int(digit)) * 2
    return "0123456789X"[(12 - total % 11) % 11] == orcid[-1]


def orcid_of(user: User) -> str:
    """Return the iD that the person has proved to be theirs, or nothing."""
    return orcids_of([user]).get(user.pk, "")


def orcids_of(users: Iterable[User]) -> dict[int, str]:
    """Return the proved iD of each person who has one, in one query."""
    return dict(SocialAccount.objects.filter(provider=PROVIDER, user__in=users).values_list("user_id", "uid"))


def url_of(orcid: str) -> str:
    """Return the iD as the address that ORCID wants it shown as."""
    return f"{settings.ORCID_ISSUER}/{orcid}"


class OrcidUnreachable(DomainError):
    """ORCID's server is down, slow, or answers nonsense."""

    code = "orcid_unreachable"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class _Session(requests.Session):
    """A session that waits ten seconds at most and fails with a sentence."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            return super().request(*args, **{"timeout": 10, **kwargs})
        except requests.RequestException as error:
            raise OrcidUnreachable(
                _("ORCID does not answer just now, so nothing was changed. Try again later, or another way."),
                next_url=reverse("account_login"),
            ) from error


class SocialAdapter(DefaultSocialAccountAdapter):
    """Refuse what is no iD, keep the iD only, and one for each person."""

    def get_requests_session(self) -> requests.Session:
        return _Session()

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        account = sociallogin.account
        if not is_valid(account.uid):
            raise _stop(request, _("ORCID did not tell a valid iD, so nothing was changed. Try again later."))
        if request.user.is_authenticated and orcid_of(request.user) not in {"", account.uid}:
            raise _stop(request, _("Your account has another ORCID iD. Disconnect that one first."))
        account.extra_data, sociallogin.email_addresses = {}, []

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> User:
        user = super().populate_user(request, sociallogin, data)
        given = " ".join(filter(None, [data.get("first_name"), data.get("last_name")]))
        user.name = (data.get("name") or given)[:200]
        return user

    def get_signup_form_initial_data(self, sociallogin: SocialLogin) -> dict[str, str]:
        return {**super().get_signup_form_initial_data(sociallogin), "name": sociallogin.user.name}


def _stop(request: HttpRequest, text: str) -> ImmediateHttpResponse:
    messages.error(request, text)
    return ImmediateHttpResponse(redirect("accounts:profile" if request.user.is_authenticated else "account_login"))


# What allauth tells when an account is connected or disconnected (its signals, not ours; see apps.py)


def on_connected(sender: object, *, sociallogin: SocialLogin, **kwargs: object) -> None:
    traces.record("account.orcid_connected", sociallogin.account.user)


def on_disconnected(sender: object, *, socialaccount: SocialAccount, **kwargs: object) -> None:
    traces.record("account.orcid_disconnected", socialaccount.user)
