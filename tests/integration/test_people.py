"""What tokens may do; the operators' page of people; the demonstration's authenticator page."""

import pytest
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from portal.accounts import devices, scopes, services
from portal.accounts.models import ApiToken, ConsortiumRole
from portal.audit.models import AuditEvent
from tests import factories
from tests.races import while_locked

PEOPLE, APPOINT = reverse("people"), reverse("people_appoint")
CODES = reverse("notifications:authenticator")


@pytest.fixture(autouse=True)
def _empty_limits():
    cache.clear()


# Scopes


def call(token: str, method: str, path: str) -> tuple[int, str]:
    answer = Client().generic(
        method, path, "{}", content_type="application/json", headers={"Authorization": f"Bearer {token}"}
    )
    return answer.status_code, answer.json().get("code", "") if answer.status_code >= 400 else ""


@pytest.mark.parametrize(
    ("scope", "method", "path", "expected"),
    [
        ("read", "GET", "/api/v1/me", (200, "")),
        ("read", "GET", "/api/v1/contributions", (200, "")),
        ("read", "POST", "/api/v1/contributions", (403, "scope_missing")),
        ("read", "PATCH", "/api/v1/contributions/1", (403, "scope_missing")),
        ("contribute", "POST", "/api/v1/contributions", (400, "invalid")),
        ("contribute", "POST", "/api/v1/models/none/accept", (404, "not_found")),
        ("contribute", "POST", "/api/v1/me", (403, "scope_missing")),
        ("contribute", "POST", "/api/v1/contributions/1/withdraw", (404, "not_found")),
        ("contribute", "POST", "/api/v1/contributions/1/holds", (403, "scope_missing")),
        ("contribute", "POST", "/api/v1/contributions/1/holds/1/release", (403, "scope_missing")),
        ("manage", "POST", "/api/v1/contributions/1/holds", (404, "not_found")),
        ("manage", "POST", "/api/v1/me", (405, "method_not_allowed")),
        ("manage", "POST", "/api/v1/contributions", (400, "invalid")),
    ],
)
def test_a_token_may_what_its_scope_says(steward, scope, method, path, expected):
    token = services.create_token(steward, name="t", now=timezone.now(), scope=scope)
    assert call(token, method, path) == expected


@pytest.mark.parametrize("path", ["/api/v1/agreements/1/sign", "/api/v1/x/countersign/", "/api/v1/motions/1/vote"])
def test_no_token_signs_or_votes(steward, path):
    services.create_token(steward, name="t", now=timezone.now(), scope="manage")
    token = ApiToken.objects.get()
    with pytest.raises(scopes.SigningNeedsAPerson):
        scopes.require(token, method="POST", path=path)
    request = RequestFactory().post(path)
    request.auth = token
    with pytest.raises(scopes.SigningNeedsAPerson):
        scopes.require_person(request)
    request.auth = None
    scopes.require_person(request)


def test_a_token_that_begins_like_a_contribution_is_not_one():
    token = ApiToken(scope="contribute")
    with pytest.raises(scopes.ScopeMissing):
        scopes.require(token, method="POST", path="/api/v1/contributions-of-others")


def test_a_token_lives_as_long_as_was_chosen_and_shows_its_beginning(sign_in):
    person = factories.user("Rosa", password=factories.PASSWORD)
    form = {"name": "Cluster", "scope": "read", "days": "7", "password": factories.PASSWORD}
    page = sign_in(person).post(reverse("accounts:tokens"), form)
    row = ApiToken.objects.get()
    assert (row.scope, (row.expires_at - row.created_at).days) == ("read", 7)
    assert page.context["new_token"].startswith(row.prefix)
    assert f"{row.prefix}…" in page.text
    event = AuditEvent.objects.get(verb="token.created")
    assert (event.facts, event.subject) == (
        {"scope": "read", "days": 7},
        f"API token {row.prefix} of {{person:{person.pk}}}",
    )
    again = sign_in(person).post(reverse("accounts:tokens"), form | {"days": "3650"})
    assert list(again.context["form"].errors)[0] == "days"


def test_the_kit_s_token_may_contribute_and_no_more(steward):
    login, device_code = services.begin_device_login(client_name="kit", now=timezone.now())
    services.answer_device_login(login.user_code, approve=True, by=steward, now=timezone.now())
    services.redeem_device_login(device_code, now=timezone.now())
    assert ApiToken.objects.get().scope == "contribute"


def test_the_database_knows_the_scopes(steward):
    services.create_token(steward, name="t", now=timezone.now())
    with pytest.raises(IntegrityError, match="token_scope_known"), transaction.atomic():
        ApiToken.objects.update(scope="root")


# The operators' page


@pytest.mark.parametrize(
    ("who", "read", "appoint"),
    [("operator", 200, 422), ("auditor", 200, 403), ("chair", 403, 403), ("steward", 403, 403)],
)
def test_operators_and_auditors_read_and_operators_appoint(request, sign_in, who, read, appoint):
    client = sign_in(request.getfixturevalue(who))
    assert (client.get(PEOPLE).status_code, client.post(APPOINT, {"role": "auditor"}).status_code) == (read, appoint)


def test_a_role_is_given_and_ended_after_asking(sign_in, operator, researcher):
    client = sign_in(operator)
    form = {"email": researcher.email.upper(), "role": "auditor", "confirm": "on"}
    assert list(client.post(APPOINT, form | {"confirm": ""}).context["form"].errors) == ["confirm"]
    assert client.post(APPOINT, form).status_code == 302
    role = researcher.consortium_roles.get()
    assert list(client.post(APPOINT, form).context["form"].errors) == ["role"]
    url = reverse("people_end_role", args=[role.pk])
    assert "Rosa Researcher" in client.get(url).text
    assert researcher.consortium_roles.current().count() == 1  # a GET ends nothing
    assert client.post(url).status_code == 302
    assert client.post(url).status_code == 404
    events = AuditEvent.objects.filter(verb__startswith="role.", subject_id=researcher.pk).order_by("pk")
    assert [(event.verb, event.actor_id, event.facts) for event in events] == [
        ("role.given", operator.pk, {"role": "auditor", "programme": None, "role_id": role.pk}),
        ("role.ended", operator.pk, {"role": "auditor", "role_id": role.pk}),
    ]


def test_one_chair_and_nobody_unknown(sign_in, operator, chair):
    client = sign_in(operator)
    for form, field in [
        ({"email": operator.email, "role": "chair", "confirm": "on"}, "role"),
        ({"email": "nobody@example.org", "role": "auditor", "confirm": "on"}, "email"),
    ]:
        assert list(client.post(APPOINT, form).context["form"].errors) == [field]


def test_the_last_operator_stays(sign_in, operator):
    role = operator.consortium_roles.get()
    page = sign_in(operator).post(reverse("people_end_role", args=[role.pk]), follow=True)
    assert "the only operator" in page.text
    assert ConsortiumRole.objects.current().filter(pk=role.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_operators_who_end_each_others_role_at_once_one_stays():
    roles = [factories.consortium_person(f"Operator {n}", "operator").consortium_roles.get() for n in range(2)]
    first, second = [
        lambda role=role, by=by: services.end_role(role, by=by.user, now=timezone.now())
        for role, by in zip(roles, reversed(roles), strict=True)
    ]
    assert isinstance(while_locked(first, second), services.LastOperator)
    assert ConsortiumRole.objects.current().get().user == roles[1].user


def test_accounts_that_look_alike_are_shown(sign_in, operator):
    for name, email in [
        ("Dr. José Núñez", "jose@clinic.example"),
        ("jose  nunez", "j.nunez@CLINIC.example"),
        ("José Núñez", "jose@other.example"),
        ("गंगा", "a@clinic.example"),
    ]:
        factories.user(name, email=email)
    (group,) = sign_in(operator).get(PEOPLE).context["alike"]
    assert [person.email for person in group] == ["jose@clinic.example", "j.nunez@clinic.example"]


@pytest.mark.parametrize("item_count", [1, 30])
def test_the_list_costs_the_same_for_any_number(sign_in, operator, item_count, django_assert_num_queries):
    for number in range(item_count):
        factories.consortium_person(f"Person {number}", "auditor")
    client = sign_in(operator)
    with django_assert_num_queries(11):
        page = client.get(PEOPLE)
    assert len(page.context["people"]) == item_count + 1


def test_the_list_is_searched_and_paged(sign_in, operator, monkeypatch):
    monkeypatch.setattr("portal.accounts.ops.PAGE_SIZE", 2)
    people = [factories.user(f"Maria {number}") for number in range(3)]
    client = sign_in(operator)
    page = client.get(PEOPLE, {"q": "maria"})
    assert [person.pk for person, _ in page.context["people"]] == [person.pk for person in people[:2]]
    page = client.get(PEOPLE, {"q": "maria", "after": page.context["after"]})
    assert [person.pk for person, _ in page.context["people"]] == [people[2].pk]


# The demonstration's codes


def test_codes_are_shown_for_the_demonstration_s_accounts_only(client, settings, db):
    settings.MAILBOX_PAGE = True
    demo = factories.enrol(factories.user("Demo", email="demo@demo.example"))
    factories.enrol(factories.user("Visitor", email="visitor@example.org"))
    page = client.get(CODES)
    ((person, code),) = page.context["codes"]
    assert (person, len(code), "visitor@example.org" in page.text) == (demo, 6, False)
    settings.MAILBOX_PAGE = False
    assert client.get(CODES).status_code == 404


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit Chrome/142 Safari/537 Edg/142", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18) AppleWebKit Version/18 Safari", "Safari on iPhone"),
        ("curl/8.5", "curl"),
        ("Netscape", "Netscape"),
        ("", "Unknown program"),
    ],
)
def test_browsers_are_named_as_people_name_them(agent, words):
    assert devices.described(agent) == words


def test_a_seat_of_one_programme_hinders_no_role_of_the_consortium(sign_in, operator, programme):
    own = factories.user("Chair of Retina")
    services.appoint(own, "chair", programme=programme, by=None, now=timezone.now())
    client = sign_in(operator)
    assert "Chair of the board, Retina" in client.get(PEOPLE).text
    assert client.post(APPOINT, {"email": own.email, "role": "chair", "confirm": "on"}).status_code == 302
    assert list(services.seated(None)) == [own]
