"""ORCID as a way to sign in: the whole dance with a real OpenID server on loopback."""

from urllib.parse import urlsplit

import oidc_provider_mock
import pytest
import urllib3
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from portal.accounts import orcid
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.middleware import content_security_policy
from tests import factories

ORCID, OTHER = "0000-0002-1825-0097", "0000-0001-5109-3700"
PROFILE, LOGIN = reverse("accounts:profile"), "/accounts/oidc/orcid/login/"


@pytest.fixture(scope="module")
def server():
    with oidc_provider_mock.run_server_in_thread() as running:
        yield f"http://localhost:{running.server_port}"


@pytest.fixture
def issuer(server, settings, db) -> str:
    """The portal set up with that server as its ORCID."""
    cache.clear()
    settings.ORCID_ISSUER, settings.ORCID_CLIENT_ID = server, "portal"
    app = {"provider_id": "orcid", "name": "ORCID", "client_id": "portal", "secret": "secret"}
    app["settings"] = {"server_url": server, "scope": ["openid"], "oauth_pkce_enabled": True}
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    return server


def dance(client: Client, issuer: str, uid: str = ORCID, *, process: str = "login", deny: bool = False):
    """Go to the server, sign in there as `uid`, and come back; return the portal's answer."""
    there = client.post(f"{LOGIN}?process={process}").headers["Location"]
    assert there.startswith(f"{issuer}/oauth2/authorize?")
    body = "action=deny" if deny else f"sub={uid}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    back = urllib3.request("POST", there, body=body, headers=form, redirect=False)
    parts = urlsplit(back.headers["Location"])
    assert parts.path == f"{LOGIN}callback/"
    return client.get(f"{parts.path}?{parts.query}")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (ORCID, True),
        (OTHER, True),
        ("0000-0002-1694-233X", True),
        ("0000-0002-1825-0098", False),
        ("0000-0002-1694-233x", False),
        ("0000000218250097", False),
        (f"https://orcid.org/{ORCID}", False),
        ("٠٠٠٠-0002-1825-0097", False),
        ("", False),
    ],
)
def test_the_check_digit_tells_an_id(text, valid):
    assert orcid.is_valid(text) is valid


def test_without_a_client_id_there_is_no_such_way(client, db):
    assert "ORCID" not in client.get(reverse("account_login")).text
    assert client.get(LOGIN).status_code == 404
    assert client.post(LOGIN).status_code == 404


def test_signing_up_asks_for_name_and_address_and_verifies_the_address(client, issuer):
    assert "Sign in with ORCID" in client.get(reverse("account_login")).text
    assert dance(client, issuer).headers["Location"] == reverse("socialaccount_signup")
    form = {"name": "Josiah Carberry", "email": "josiah@example.org"}
    answer = client.post(reverse("socialaccount_signup"), form)
    assert answer.headers["Location"] == reverse("account_email_verification_sent")
    assert client.get(PROFILE).status_code == 302
    user = User.objects.get(email="josiah@example.org")
    assert (user.name, orcid.orcid_of(user), user.has_usable_password()) == ("Josiah Carberry", ORCID, False)
    assert SocialAccount.objects.get().extra_data == {}
    EmailAddress.objects.filter(user=user).update(verified=True)
    assert dance(client, issuer).status_code == 302
    assert f"/{ORCID}" in client.get(PROFILE).text


def test_an_address_that_somebody_has_signs_nobody_in(client, issuer):
    owner = factories.user("Rosa", email="rosa@example.org")
    dance(client, issuer)
    client.post(reverse("socialaccount_signup"), {"name": "Thief", "email": "rosa@example.org"})
    assert client.get(PROFILE).status_code == 302
    assert orcid.orcid_of(owner) == ""
    assert User.objects.count() == 1


def test_connecting_and_disconnecting_is_on_record(sign_in, issuer):
    person = factories.user("Rosa", password=factories.PASSWORD)
    client = sign_in(person)
    assert dance(client, issuer, process="connect").status_code == 302
    assert (orcid.orcid_of(person), orcid.orcids_of([person])) == (ORCID, {person.pk: ORCID})
    assert "Your iD" in client.get(reverse("socialaccount_connections")).text
    account = SocialAccount.objects.get()
    client.post(reverse("socialaccount_connections"), {"account": account.pk})
    assert orcid.orcid_of(person) == ""
    verbs = AuditEvent.objects.filter(actor_id=person.pk).order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["account.orcid_connected", "account.orcid_disconnected"]


def test_the_last_way_in_cannot_be_disconnected(sign_in, issuer):
    person = factories.user("Rosa")  # no password
    client = sign_in(person)
    dance(client, issuer, process="connect")
    page = client.post(reverse("socialaccount_connections"), {"account": SocialAccount.objects.get().pk})
    assert (page.status_code, orcid.orcid_of(person)) == (200, ORCID)


def test_one_id_is_of_one_account_and_one_account_has_one_id(sign_in, issuer):
    first, second = (factories.user(name, password=factories.PASSWORD) for name in ("Rosa", "Rosa too"))
    dance(sign_in(first), issuer, process="connect")
    client = sign_in(second)
    dance(client, issuer, process="connect")
    assert (orcid.orcid_of(first), orcid.orcid_of(second)) == (ORCID, "")
    dance(sign_in(first), issuer, OTHER, process="connect")
    assert orcid.orcid_of(first) == ORCID


def test_what_is_no_id_is_refused(client, issuer):
    answer = dance(client, issuer, "not-an-id")
    assert answer.headers["Location"] == reverse("account_login")
    assert SocialAccount.objects.count() == 0


def test_who_turns_back_at_orcid_is_told_so(client, issuer):
    answer = dance(client, issuer, deny=True)
    page = client.get(answer.headers["Location"]) if answer.status_code == 302 else answer
    assert "nothing was changed" in page.text.lower()


def test_the_server_that_is_down_is_told(client, issuer, settings):
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["server_url"] = "http://localhost:1"
    page = client.post(LOGIN)
    assert (page.status_code, "ORCID does not answer just now" in page.text) == (503, True)


def test_forms_may_lead_to_orcid_only_where_it_is_set_up(rf, settings):
    def policy() -> str:
        return content_security_policy(lambda request: HttpResponse())(rf.get("/")).headers["Content-Security-Policy"]

    settings.ORCID_ISSUER = "https://orcid.example/path"
    assert "orcid.example" not in policy()
    settings.ORCID_CLIENT_ID = "portal"
    assert f"form-action 'self' {settings.S3_PUBLIC_URL} https://orcid.example;" in policy()
