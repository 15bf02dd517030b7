"""Refused attempts on record: which, of whom, what is kept of them, and that nothing hides the answer."""

import json

import pytest
from django.db import connection
from django.test import Client
from django.test.client import MULTIPART_CONTENT
from django.urls import reverse
from django.utils import timezone

from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.models import AuditEvent
from portal.institutions import memberships
from portal.institutions.models import Membership
from tests import contributing, factories

SECRET = "hunter2-never-in-the-log"


@pytest.fixture
def contribution(institution):
    return factories.draft_contribution(institution)


@pytest.fixture
def kit():
    """Return a client that signs in by a token of a person, as the kit does."""

    def _kit(person: User, *, scope: str = "manage") -> Client:
        token = accounts.create_token(person, name="kit", now=timezone.now(), scope=scope)
        return Client(headers={"Authorization": f"Bearer {token}"})

    return _kit


def attempts() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(verb="attempt.refused").order_by("pk"))


def facts() -> list[dict]:
    return [event.facts for event in attempts()]


def test_a_refused_page_is_on_record_once_with_who_and_what(sign_in, contribution, member):
    url = reverse("contributions:withdraw", args=[contribution.pk])
    response = sign_in(member).post(f"{url}?q={SECRET}", {"reason": SECRET})
    assert response.status_code == 403
    (event,) = attempts()
    assert (event.actor_id, event.subject_type, event.subject_id) == (member.pk, "user", member.pk)
    assert event.facts == {
        "method": "POST",
        "route": "contributions:withdraw",
        "status": 403,
        "code": "not_allowed",
        "ids": {"pk": contribution.pk},
    }
    assert audit.sentence(event) == "Member of Moi Eye Clinic tried what was refused"
    assert SECRET not in json.dumps(list(AuditEvent.objects.values_list("facts", "subject")))


def test_a_refused_program_is_on_record_by_the_person_of_its_token(kit, contribution, member, outsider):
    url = reverse("api:contribution_withdraw", args=[contribution.pk])
    ids = {"pk": contribution.pk}
    for person, status in ((member, 403), (outsider, 404)):
        answer = kit(person).post(url, {"reason": "Ours."}, content_type="application/json")
        assert answer.status_code == status
    assert [(event.actor_id, event.facts["status"], event.facts["ids"]) for event in attempts()] == [
        (member.pk, 403, ids),
        (outsider.pk, 404, ids),
    ]


def test_a_token_that_is_too_narrow_is_on_record(kit, steward, institution):
    answer = kit(steward, scope="read").post(reverse("api:institution_withdraw", args=[institution.slug]))
    assert (answer.status_code, answer.json()["code"]) == (403, facts()[0]["code"])
    assert [event.actor_id for event in attempts()] == [steward.pk]


def test_signing_with_a_token_is_an_attempt(kit, programme, institution, signing_official):
    annex = factories.agreement(programme, slug="annex", covers=["images"])
    case = factories.sent_case(institution, annex)
    answer = kit(signing_official).post(reverse("api:case_sign", args=[case.pk]))
    assert (answer.status_code, answer.json()["code"]) == (403, facts()[0]["code"])
    assert [(event.actor_id, event.facts["ids"]) for event in attempts()] == [
        (signing_official.pk, {"case_id": case.pk})
    ]


def test_a_second_factor_that_is_owed_is_a_refusal(kit, investigator, institution):
    investigator.authenticator_set.all().delete()
    kit(investigator).post(reverse("api:institution_withdraw", args=[institution.slug]))
    assert [row["code"] for row in facts()] == ["second_factor_required"]


def test_a_refusal_that_a_page_tells_on_the_way_back_is_on_record(sign_in, operator):
    role = operator.consortium_roles.get()
    response = sign_in(operator).post(reverse("people_end_role", args=[role.pk]))
    assert response.status_code == 302
    assert [(row["status"], row["code"]) for row in facts()] == [(409, "last_operator")]


def test_what_a_service_has_put_on_record_is_not_there_twice(sign_in, institution, steward, researcher):
    _, secret = memberships.invite(
        institution, email="new@example.org", role=Membership.Role.MEMBER, by=steward, now=timezone.now()
    )
    before = AuditEvent.objects.count()
    assert sign_in(researcher).post(reverse("institutions:invitation", args=[secret])).status_code == 409
    kit_answer = sign_in(researcher).post(
        reverse("api:accept_invitation"), {"secret": secret}, content_type="application/json"
    )
    assert kit_answer.status_code == 409
    verbs = AuditEvent.objects.order_by("pk").values_list("verb", flat=True)[before:]
    assert list(verbs) == ["invitation.refused", "invitation.refused"]


def test_reading_strangers_forms_and_wrong_methods_are_no_attempts(client, sign_in, contribution, member, steward):
    url = reverse("contributions:withdraw", args=[contribution.pk])
    api = reverse("api:contribution_withdraw", args=[contribution.pk])
    assert sign_in(member).get(url).status_code == 403
    assert client.post(url).status_code == 302
    assert client.post(api, {"reason": "x"}, content_type="application/json").status_code == 401
    assert sign_in(steward).post(url, {"reason": ""}).status_code in {200, 422}
    assert sign_in(steward).put(url).status_code == 405
    assert sign_in(steward).put(api, content_type="application/json").status_code == 405
    assert sign_in(steward).post(api, "x", content_type="text/plain").status_code == 415
    assert sign_in(steward).post("/no/such/page/").status_code == 404
    assert attempts() == []


def test_a_form_from_another_site_is_nobodys_attempt(contribution, member):
    client = Client(enforce_csrf_checks=True)
    client.force_login(member, backend="django.contrib.auth.backends.ModelBackend")
    page, api = (
        client.post(reverse(url, args=[contribution.pk]), {"reason": "x"}, content_type=content_type)
        for url, content_type in (
            ("contributions:withdraw", MULTIPART_CONTENT),
            ("api:contribution_withdraw", "application/json"),
        )
    )
    assert (page.status_code, api.status_code) == (403, 403)
    assert "This page is out of date Nothing was done: this page was opened before" in contributing.text(page)
    assert attempts() == []


def test_a_log_that_cannot_be_written_does_not_hide_the_refusal(sign_in, contribution, member, caplog):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_auditevent ADD CONSTRAINT full_disk CHECK (verb <> 'attempt.refused')")
    response = sign_in(member).post(reverse("contributions:withdraw", args=[contribution.pk]))
    assert response.status_code == 403
    assert attempts() == []
    assert [row.getMessage() for row in caplog.records if row.name == "portal.refusals"] == [
        "A refused attempt is not on record."
    ]
