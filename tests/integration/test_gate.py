"""What must be done before any other page opens: a second factor for binding roles, new terms of the site."""

import pytest
from django.core.cache import cache
from django.db import DatabaseError, IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.accounts import services, terms
from portal.accounts.models import SiteTerms, TermsAcceptance, User
from portal.accounts.standing import standing_of
from portal.audit.models import AuditEvent
from portal.institutions.models import Membership
from tests import factories

LIST = reverse("institutions:list")
SECOND_FACTOR = reverse("accounts:second_factor")
ACCEPT = reverse("terms_accept")


def client_of(user: User) -> Client:
    """Sign in as somebody as they are: the fixture `sign_in` would give an authenticator app."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def plain(db) -> User:
    return factories.user("Petra Plain", password=factories.PASSWORD)


# Second factor


@pytest.mark.parametrize(
    ("role", "needs"),
    [("board_member", True), ("chair", True), ("operator", True), ("signatory", True), ("auditor", False)],
)
def test_roles_of_the_consortium_that_bind_need_a_second_factor(plain, role, needs):
    services.appoint(plain, role, by=None, now=timezone.now())
    assert services.needs_second_factor(plain) is needs


@pytest.mark.parametrize(
    ("role", "needs"),
    [("principal_investigator", True), ("signing_official", True), ("steward", False), ("member", False)],
)
def test_roles_of_an_institution_that_bind_need_a_second_factor(institution, plain, role, needs):
    membership = Membership.objects.create(user=plain, institution=institution, role=role)
    assert services.needs_second_factor(plain) is needs
    membership.ended_at = timezone.now()
    membership.save()
    assert services.needs_second_factor(plain) is False


def test_who_needs_one_sees_why_and_nothing_else_until_it_is_there(plain, django_assert_num_queries):
    services.appoint(plain, "chair", by=None, now=timezone.now())
    client = client_of(plain)
    asked = client.get(LIST, {"page": "2"})
    assert asked.headers["Location"] == f"{SECOND_FACTOR}?next=%2Finstitutions%2F%3Fpage%3D2"
    page = client.get(asked.headers["Location"])
    assert "Chair of the board" in page.text
    for name in ("accounts:profile", "mfa_index", "account_email", "account_logout", "terms", "healthz"):
        assert client.get(reverse(name)).status_code == 200
    for name in ("accounts:tokens", "accounts:device", "board:docket", "home"):
        assert client.get(reverse(name)).headers["Location"].startswith(SECOND_FACTOR)
    factories.enrol(plain)
    assert client.get(SECOND_FACTOR).headers["Location"] == f"{LIST}?page=2"
    with django_assert_num_queries(1):
        standing_of(plain)
    assert client.get(LIST).status_code == 200


def test_a_fragment_and_a_program_learn_it_too(plain):
    services.appoint(plain, "operator", by=None, now=timezone.now())
    client = client_of(plain)
    assert client.get(LIST, headers={"HX-Request": "true"}).headers["HX-Redirect"].startswith(SECOND_FACTOR)
    token = services.create_token(plain, name="t", now=timezone.now())
    for answer in (
        client.get("/api/v1/me"),
        Client().get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}),
        Client().get("/dl/a/b", headers={"Authorization": f"Bearer {token}"}),
    ):
        assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/problem+json")
        assert (answer.json()["code"], answer.json()["next_url"]) == ("second_factor_required", SECOND_FACTOR)


@pytest.mark.parametrize("url", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_the_way_back_is_never_to_another_site(plain, url):
    services.appoint(plain, "operator", by=None, now=timezone.now())
    client = client_of(plain)
    client.get(SECOND_FACTOR, {"next": url})
    factories.enrol(plain)
    assert client.get(SECOND_FACTOR).headers["Location"] == reverse("mfa_index")


# Terms


def publish(text: str = "# Terms\n\nBe kind.\n", note: str = "First.") -> SiteTerms:
    return terms.publish(text, change_note=note, by=None, now=timezone.now())


def test_new_terms_are_accepted_before_the_next_page(plain):
    client = client_of(plain)
    assert client.get(LIST).status_code == 200
    publish()
    asked = client.get(LIST, {"page": "2"})
    assert asked.headers["Location"] == f"{ACCEPT}?next=%2Finstitutions%2F%3Fpage%3D2"
    assert "Be kind." in client.get(asked.headers["Location"]).text
    refused = client.post(ACCEPT, {"version": "1", "next": LIST})
    assert (refused.status_code, list(refused.context["form"].errors)) == (422, ["agree"])
    done = client.post(ACCEPT, {"version": "1", "agree": "on", "next": f"{LIST}?page=2"})
    assert done.headers["Location"] == f"{LIST}?page=2"
    assert client.get(LIST).status_code == 200
    event = AuditEvent.objects.get(verb="terms.accepted")
    assert (event.actor_id, event.facts["version"]) == (plain.pk, 1)
    publish("# Terms\n\nBe kinder.\n", "Kinder.")
    assert "Kinder." in client.get(client.get(LIST).headers["Location"]).text


def test_what_was_read_is_what_is_accepted(plain):
    client = client_of(plain)
    publish()
    publish("# New", "Second.")
    answer = client.post(ACCEPT, {"version": "1", "agree": "on"})
    assert answer.status_code == 409
    assert TermsAcceptance.objects.count() == 0


def test_accepting_leads_to_no_other_site(plain):
    publish()
    answer = client_of(plain).post(ACCEPT, {"version": "1", "agree": "on", "next": "https://evil.example/"})
    assert answer.headers["Location"] == reverse("home")


def test_everybody_reads_the_terms_and_their_history(client, db):
    assert client.get(reverse("terms")).status_code == 200
    publish()
    publish("# New", "Second.")
    page = client.get(reverse("terms"))
    assert page.context["terms"].version == 2
    old = client.get(reverse("terms_version", args=[1]))
    assert ("Be kind." in old.text, "not in force any more" in old.text) == (True, True)
    assert client.get(reverse("terms_version", args=[3])).status_code == 404


def test_the_shipped_texts_are_published_once(db):
    assert [row.version for row in terms.publish_shipped(now=timezone.now())] == [1]
    assert terms.publish_shipped(now=timezone.now()) == []
    row = terms.current()
    assert (row.change_note, row.text.startswith("# Terms of the site")) == ("The first version.", True)


def test_the_terms_are_accepted_when_signing_up(client, db):
    cache.clear()
    publish()
    form = {"name": "Ana", "email": "ana@example.org", "password1": factories.PASSWORD}
    refused = client.post(reverse("account_signup"), form)
    assert list(refused.context["form"].errors) == ["agree"]
    assert client.post(reverse("account_signup"), form | {"agree": "on"}).status_code == 302
    assert User.objects.get(email="ana@example.org").terms_acceptances.get().terms.version == 1


def test_terms_and_acceptances_cannot_be_changed(plain):
    acceptance = terms.accept(publish(), by=plain, now=timezone.now())
    for rows, changes in [
        (SiteTerms.objects.all(), {"text": "other"}),
        (TermsAcceptance.objects.filter(pk=acceptance.pk), {"accepted_at": timezone.now()}),
    ]:
        with pytest.raises(DatabaseError, match="append-only: UPDATE refused"), transaction.atomic():
            rows.update(**changes)
        with pytest.raises(DatabaseError, match="append-only: DELETE refused"), transaction.atomic():
            rows._raw_delete(rows.db)
    with pytest.raises(IntegrityError, match="terms_accepted_once"), transaction.atomic():
        TermsAcceptance.objects.create(user=plain, terms=acceptance.terms, accepted_at=timezone.now())
    with pytest.raises(IntegrityError, match="terms_sha256"), transaction.atomic():
        SiteTerms.objects.create(version=9, text="x", sha256="X", change_note="x")
