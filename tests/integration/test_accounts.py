"""One's own account: name, API tokens, letting a kit sign in; base models; the read-only admin."""

import hashlib
import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone

from portal.accounts import services
from portal.accounts.models import ApiToken, ConsortiumRole, DeviceLogin, User
from portal.admin import ReadOnlyAdmin
from portal.audit.models import AuditEvent, AuditNode
from portal.programmes.models import BaseModel, Programme
from tests import factories

TOKEN_FORM = {"name": "GPU server", "scope": "contribute", "days": "30"}
DEVICE, TOKEN = "/api/v1/device", "/api/v1/device/token"


@pytest.fixture(autouse=True)
def _empty_throttles():
    cache.clear()


def post(client, url, **body):
    return client.post(url, body, content_type="application/json")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


# Profile


def test_the_name_changes_and_is_on_record(sign_in, researcher):
    client = sign_in(researcher)
    assert client.post(reverse("accounts:profile"), {"name": "Роза Исследователь"}).status_code == 302
    researcher.refresh_from_db()
    assert researcher.name == "Роза Исследователь"
    client.post(reverse("accounts:profile"), {"name": "Роза Исследователь"})
    assert AuditEvent.objects.filter(verb="account.renamed", actor_id=researcher.pk).count() == 1
    assert client.post(reverse("accounts:profile"), {"name": ""}).status_code == 422


def test_the_profile_shows_own_roles(sign_in, steward, institution, outsider):
    page = sign_in(steward).get(reverse("accounts:profile"))
    assert [row.institution for row in page.context["memberships"]] == [institution]
    assert "Andes Retina" not in page.text


@pytest.mark.parametrize("name", ["profile", "tokens", "device"])
def test_account_pages_ask_to_sign_in(client, db, name):
    url = reverse(f"accounts:{name}")
    assert client.get(url).headers["Location"] == f"{reverse('account_login')}?next={url}"


# Tokens


@pytest.fixture
def person(db) -> User:
    return factories.user("Rosa Researcher", password=factories.PASSWORD)


def make_token(client):
    return client.post(reverse("accounts:tokens"), TOKEN_FORM | {"password": factories.PASSWORD})


def test_a_token_is_shown_once_after_the_password_and_works(client, sign_in, person):
    browser = sign_in(person)
    page = make_token(browser)
    token = page.context["new_token"]
    assert page.text.count(token) > 0
    assert "no-store" in page.headers["Cache-Control"]
    assert token not in browser.get(reverse("accounts:tokens")).text
    assert ApiToken.objects.get().digest == hashlib.sha256(token.encode()).hexdigest()
    assert client.get("/api/v1/me", headers=bearer(token)).json()["email"] == person.email


def test_a_token_without_the_password_is_not_made(sign_in, person):
    for proof in ({}, {"password": "wrong"}):
        page = sign_in(person).post(reverse("accounts:tokens"), TOKEN_FORM | proof)
        assert (page.status_code, list(page.context["form"].errors)) == (422, ["password"])
    assert ApiToken.objects.count() == 0


def test_a_revoked_token_is_refused(client, sign_in, person):
    browser = sign_in(person)
    token = make_token(browser).context["new_token"]
    browser.post(reverse("accounts:revoke_token", args=[ApiToken.objects.get().pk]))
    answer = client.get("/api/v1/me", headers=bearer(token))
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")


def test_nobody_revokes_or_sees_a_token_of_others(sign_in, person, outsider):
    services.create_token(person, name="GPU server of Rosa", now=timezone.now())
    browser = sign_in(outsider)
    assert browser.post(reverse("accounts:revoke_token", args=[ApiToken.objects.get().pk])).status_code == 404
    assert "GPU server of Rosa" not in browser.get(reverse("accounts:tokens")).text
    assert ApiToken.objects.get().revoked_at is None


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer ", "Token x"])
def test_a_wrong_token_is_refused(client, db, header):
    answer = client.get("/api/v1/me", headers={"Authorization": header})
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/problem+json")


def test_an_expired_token_and_an_inactive_person_are_refused(client, person):
    old = services.create_token(person, name="old", now=timezone.now() - timedelta(days=services.TOKEN_DAYS))
    new = services.create_token(person, name="new", now=timezone.now())
    assert [client.get("/api/v1/me", headers=bearer(token)).status_code for token in (old, new)] == [401, 200]
    person.is_active = False
    person.save()
    assert client.get("/api/v1/me", headers=bearer(new)).status_code == 401


# Me


def test_me_lists_own_institutions_and_roles(client, institution, steward, outsider):
    services_token = services.create_token(steward, name="kit", now=timezone.now())
    assert client.get("/api/v1/me", headers=bearer(services_token)).json() == {
        "email": steward.email,
        "name": steward.name,
        "institutions": [{"slug": institution.slug, "name": institution.name, "roles": ["steward"]}],
    }


# A kit signs in


def test_a_kit_signs_in_once_its_person_approves(client, sign_in, person, settings):
    begun = post(client, DEVICE, client_name="consortium on eye-1")
    body = begun.json()
    assert (begun.status_code, sorted(body)) == (
        201,
        ["device_code", "expires_in_seconds", "interval_seconds", "user_code", "verification_url"],
    )
    assert body["verification_url"] == f"{settings.PORTAL_URL}/account/device/?user_code={body['user_code']}"
    pending = post(client, TOKEN, device_code=body["device_code"])
    assert (pending.status_code, pending.json()["code"]) == (400, "authorization_pending")
    browser = sign_in(person)
    typed = body["user_code"].replace("-", "").lower()
    page = browser.get(reverse("accounts:device"), {"user_code": typed})
    assert "consortium on eye-1" in page.text
    assert DeviceLogin.objects.get().approved_by is None  # a GET approves nothing
    approval = {"user_code": typed, "answer": "approve"}
    for proof in ({}, {"password": "wrong"}):  # whoever finds an open browser lets no kit in
        page = browser.post(reverse("accounts:device"), approval | proof)
        assert (page.status_code, list(page.context["proof"].errors)) == (422, ["password"])
    assert post(client, TOKEN, device_code=body["device_code"]).json()["code"] == "authorization_pending"
    browser.post(reverse("accounts:device"), approval | {"password": factories.PASSWORD})
    token = post(client, TOKEN, device_code=body["device_code"]).json()["token"]
    assert client.get("/api/v1/me", headers=bearer(token)).json()["email"] == person.email
    again = post(client, TOKEN, device_code=body["device_code"])
    assert (again.status_code, again.json()["code"]) == (400, "expired")


def test_a_person_with_a_second_factor_lets_a_kit_in(client, sign_in, person):
    """The page asks for two codes, that of the kit and that of the second factor."""
    factories.enrol(person)
    body = post(client, DEVICE, client_name="kit").json()
    browser = sign_in(person)
    page = browser.get(reverse("accounts:device"), {"user_code": body["user_code"]}).text
    form = re.search(r'<form class="stack" method="post".*?</form>', page, re.DOTALL)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[0]))
    proof = {"password": factories.PASSWORD, "code": factories.totp_code(person)}
    assert browser.post(reverse("accounts:device"), hidden | proof | {"answer": "approve"}).status_code == 200
    token = post(client, TOKEN, device_code=body["device_code"]).json()["token"]
    assert client.get("/api/v1/me", headers=bearer(token)).json()["email"] == person.email


def test_a_refused_kit_gets_no_token(client, sign_in, researcher):
    body = post(client, DEVICE, client_name="kit").json()
    sign_in(researcher).post(reverse("accounts:device"), {"user_code": body["user_code"], "answer": "deny"})
    answer = post(client, TOKEN, device_code=body["device_code"])
    assert (answer.status_code, answer.json()["code"]) == (400, "denied")
    assert ApiToken.objects.count() == 0


def test_an_old_code_and_an_unknown_code_are_refused(client, sign_in, researcher):
    login, device_code = services.begin_device_login(client_name="kit", now=timezone.now() - timedelta(hours=1))
    browser = sign_in(researcher)
    for code in (login.user_code, "ZZZZ-ZZZZ"):
        response = browser.post(reverse("accounts:device"), {"user_code": code, "answer": "approve"})
        assert (response.status_code, list(response.context["form"].errors)) == (422, ["user_code"])
    for code in (device_code, "nonsense"):
        assert post(client, TOKEN, device_code=code).json()["code"] == "expired"
    assert ApiToken.objects.count() == 0


def test_a_malformed_request_says_which_field(client, db):
    answer = post(client, DEVICE)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == ["client_name"]


@pytest.mark.parametrize("body", ["[]", '"x"', "{}", "nonsense", '{"device_code": {}}'])
def test_a_poll_that_is_not_one_is_refused(client, db, body):
    answer = client.post(TOKEN, body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_new_codes_are_limited_and_polling_is_limited_by_code(client, db):
    statuses = [post(client, DEVICE, client_name="kit").status_code for _ in range(31)]
    assert statuses == [201] * 30 + [429]
    polls = [post(client, TOKEN, device_code="one").status_code for _ in range(31)]
    assert polls == [400] * 30 + [429]
    assert post(client, TOKEN, device_code="two").status_code == 400


# Base models


def test_base_models_are_listed_and_downloaded_from_the_store(client, sign_in, researcher, programme):
    row = BaseModel.objects.create(
        programme=programme,
        slug="fundus-64",
        version="1",
        config={"sample_size": 64},
        card="# Card",
        sha256="a" * 64,
        size_bytes=7,
        storage_key="base-models/retina/fundus-64-1.safetensors",
    )
    assert client.get("/api/v1/base-models").status_code == 401
    browser = sign_in(researcher)
    assert browser.get("/api/v1/base-models").json() == [
        {
            "id": row.pk,
            "slug": "fundus-64",
            "version": "1",
            "programme": "retina",
            "sha256": "a" * 64,
            "size_bytes": 7,
            "config": {"sample_size": 64, "checks_run": [0, 1, 4, 5, 7]},
            "licence": "CC-BY-NC-4.0",
            "download_url": f"/api/v1/base-models/{row.pk}/download",
        }
    ]
    refusal = browser.get(f"/api/v1/base-models/{row.pk}/download")
    assert (refusal.status_code, refusal.json()["code"]) == (403, "not_member")
    institution = factories.member_institution("Moi Eye Clinic")
    answer = sign_in(factories.person_of(institution)).get(f"/api/v1/base-models/{row.pk}/download")
    assert answer.status_code == 307
    assert "fundus-64-1.safetensors" in answer.headers["Location"]
    assert browser.get("/api/v1/base-models/0/download").json()["code"] == "not_found"


# Constraints of the database


def test_the_database_refuses_impossible_roles(board, auditor):
    rows = ConsortiumRole.objects.all()
    for constraint, row, changes in [
        ("consortium_role_known", rows.get(user=auditor), {"role": "king"}),
        ("one_current_chair", rows.get(user=board[1]), {"role": "chair"}),
        ("one_current_role_per_person", rows.get(user=auditor), {"user": board[1], "role": "board_member"}),
    ]:
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            rows.filter(pk=row.pk).update(**changes)


def test_the_database_refuses_the_same_secret_or_address_twice(person, researcher, now):
    for name in ("one", "two"):
        services.create_token(person, name=name, now=now)
        services.begin_device_login(client_name=name, now=now)
    for model, field in [(ApiToken, "digest"), (DeviceLogin, "digest"), (DeviceLogin, "user_code"), (User, "email")]:
        first, last = model.objects.earliest("pk"), model.objects.latest("pk")
        with pytest.raises(IntegrityError, match=field), transaction.atomic():
            model.objects.filter(pk=last.pk).update(**{field: getattr(first, field)})


def test_the_database_refuses_an_impossible_base_model(programme):
    fields = {"programme": programme, "slug": "b", "version": "1", "config": {}, "size_bytes": 1, "sha256": "a" * 64}
    BaseModel.objects.create(**fields)
    for constraint, changes in [
        ("base_model_version_once", {}),
        ("base_model_sha256", {"version": "2", "sha256": "A"}),
    ]:
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            BaseModel.objects.create(**fields | changes)
    with pytest.raises(IntegrityError, match="slug"), transaction.atomic():
        Programme.objects.create(slug=programme.slug, name="x", modality="x")


# Django's admin


OWN_APPS = ("accounts", "audit", "notifications", "institutions", "programmes", "agreements")


def test_the_admin_shows_our_models_and_changes_none():
    models = [model for label in OWN_APPS for model in apps.get_app_config(label).get_models()]
    models.remove(AuditNode)  # Django's admin takes no composite keys
    registered = {model: admin.site._registry[model] for model in models}
    request = RequestFactory().get("/admin/")
    request.user = User(is_staff=True, is_superuser=True, is_active=True)
    for site in registered.values():
        assert isinstance(site, ReadOnlyAdmin)
        permissions = site.get_model_perms(request)
        assert permissions == {"add": False, "change": False, "delete": False, "view": True}


def test_the_admin_shows_no_secret(sign_in, person, now):
    root = factories.enrol(User.objects.create_superuser("root@example.org", None, name="Root"))
    services.create_token(person, name="kit", now=now)
    login, _ = services.begin_device_login(client_name="kit", now=now)
    token = ApiToken.objects.get()
    for url, secret in [
        (reverse("admin:accounts_apitoken_change", args=[token.pk]), token.digest),
        (reverse("admin:accounts_devicelogin_change", args=[login.pk]), login.user_code),
        (reverse("admin:accounts_user_change", args=[person.pk]), person.password),
    ]:
        page = sign_in(root).get(url)
        assert page.status_code == 200
        assert secret not in page.text
        assert sign_in(person).get(url).status_code == 302
