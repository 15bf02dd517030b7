"""People of an institution: asking to join, codes of invitations, handing over, roles that exclude each other."""

import re
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import joining, memberships, services
from portal.institutions.models import Invitation, JoinRequest, Membership
from portal.notifications import outbox
from tests import factories
from tests.mail_server import mail_server

Role = Membership.Role


@pytest.fixture
def investigator(institution):
    return factories.person_of(institution)


def invite(institution, email: str, role: str = "member"):
    return memberships.invite(
        institution, email=email, role=role, by=factories.person_of(institution), now=timezone.now()
    )


def code_of(mailoutbox) -> str:
    return re.search(r"code (\d{6})", mailoutbox[-1].body)[1]


# Requests to join


@pytest.fixture
def asked(institution, researcher) -> JoinRequest:
    return joining.ask(institution, role="member", message="I run the lab.", by=researcher, now=timezone.now())


def test_a_request_goes_to_the_managers_and_is_accepted(
    sign_in, institution, researcher, investigator, steward, member, mailoutbox, django_capture_on_commit_callbacks
):
    url = reverse("institutions:ask", args=[institution.slug])
    outbox.send_due(now=timezone.now())  # what the way here told
    mailoutbox.clear()
    with django_capture_on_commit_callbacks(execute=True):
        sign_in(researcher).post(url, {"role": "member", "message": "I run the lab."})
    assert {address for mail in mailoutbox for address in mail.to} == {investigator.email, steward.email}
    assert all(researcher.name not in mail.subject + mail.body for mail in mailoutbox)
    people = reverse("institutions:people", args=[institution.slug])
    assert "I run the lab." in sign_in(steward).get(people).text
    assert "I run the lab." not in sign_in(member).get(people).text
    row = JoinRequest.objects.get()
    answer = reverse("institutions:answer_join_request", args=[institution.slug, row.pk])
    sign_in(steward).post(answer, {"answer": "accept", "role": "steward"})
    row.refresh_from_db()
    assert (row.state, row.answered_by) == ("accepted", steward)
    assert services.is_member(researcher, institution, Role.STEWARD)
    assert list(AuditEvent.objects.filter(verb__startswith="join").order_by("pk").values_list("verb", flat=True)) == [
        "join_request.asked",
        "join_request.accepted",
    ]
    assert not AuditEvent.objects.filter(subject__contains=researcher.name, verb__startswith="join").exists()


def test_a_refused_request_says_why_to_the_person(sign_in, institution, asked, steward, researcher):
    answer = reverse("institutions:answer_join_request", args=[institution.slug, asked.pk])
    sign_in(steward).post(answer, {"answer": "decline", "reason": " "})
    asked.refresh_from_db()
    assert asked.state == "asked"
    sign_in(steward).post(answer, {"answer": "decline", "reason": "We do not know you."})
    assert "We do not know you." in sign_in(researcher).get(reverse("institutions:mine")).text
    assert not services.is_member(researcher, institution)
    with pytest.raises(joining.JoinRefused):  # answered
        joining.accept(asked, role="member", by=steward, now=timezone.now())
    joining.ask(institution, role="member", message="", by=researcher, now=timezone.now())  # and may ask again


def test_a_request_is_answered_by_managers_only(sign_in, institution, asked, member, outsider, operator):
    answer = reverse("institutions:answer_join_request", args=[institution.slug, asked.pk])
    for person in (member, outsider, operator):
        assert sign_in(person).post(answer, {"answer": "accept", "role": "member"}).status_code == 403
    assert sign_in(outsider).post(answer.replace(institution.slug, "andes-retina")).status_code == 404
    asked.refresh_from_db()
    assert asked.state == "asked"


def test_nobody_asks_twice_or_where_they_belong(institution, asked, researcher, member):
    for person in (researcher, member):
        with pytest.raises(joining.JoinRefused):
            joining.ask(institution, role="member", message="", by=person, now=timezone.now())


def test_a_domain_in_common_is_a_hint(institution, asked, researcher):
    assert joining.shares_domain(asked)
    researcher.email = "rosa@elsewhere.example"
    researcher.save()
    assert not joining.shares_domain(JoinRequest.objects.get())


# Invitations


def test_a_code_is_as_good_as_the_link(sign_in, institution, mailoutbox, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        row, secret = invite(institution, "nia@example.org")
    code = code_of(mailoutbox)
    assert secret not in {row.digest, row.code_hmac}
    assert code not in row.code_hmac
    url = reverse("institutions:invitation_code")
    stranger = sign_in(factories.user("Sam Stranger"))
    assert stranger.post(url, {"code": code}).status_code == 422
    nia = factories.user("Nia New", email="nia@example.org")
    client = sign_in(nia)
    assert client.post(url, {"code": "12345"}).status_code == 422
    assert client.post(url, {"code": f" {code} "}).status_code == 302
    assert services.is_member(nia, institution)
    assert client.post(url, {"code": code}).status_code == 422  # single use


def test_five_wrong_codes_kill_the_code_and_not_the_link(
    sign_in, institution, mailoutbox, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        row, secret = invite(institution, "nia@example.org")
    code, nia = code_of(mailoutbox), factories.user("Nia New", email="nia@example.org")
    client, url = sign_in(nia), reverse("institutions:invitation_code")
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    assert [client.post(url, {"code": wrong}).status_code for _ in range(5)] == [422] * 5
    assert client.post(url, {"code": code}).status_code == 422
    row.refresh_from_db()
    assert row.code_attempts == 5
    assert client.post(reverse("institutions:invitation", args=[secret])).status_code == 302


def test_sending_again_kills_the_old_link_and_code(
    sign_in, institution, investigator, mailoutbox, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        row, old = invite(institution, "nia@example.org")
    old_code = code_of(mailoutbox)
    Invitation.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(days=1), code_attempts=5)
    with django_capture_on_commit_callbacks(execute=True):
        sign_in(investigator).post(reverse("institutions:resend_invitation", args=[institution.slug, row.pk]))
    client = sign_in(factories.user("Nia New", email="nia@example.org"))
    assert client.post(reverse("institutions:invitation", args=[old])).status_code == 409
    assert (
        code_of(mailoutbox) == old_code
        or client.post(reverse("institutions:invitation_code"), {"code": old_code}).status_code == 422
    )
    assert client.post(reverse("institutions:invitation_code"), {"code": code_of(mailoutbox)}).status_code == 302
    with pytest.raises(memberships.InvitationInvalid):
        memberships.resend_invitation(row, by=investigator, now=timezone.now())


def test_a_forwarded_invitation_fails_on_record(sign_in, institution):
    row, secret = invite(institution, "nia@example.org")
    friend = factories.user("Fred Forwarded")
    page = sign_in(friend).post(reverse("institutions:invitation", args=[secret]))
    assert page.status_code == 409
    assert "for another address" in page.text
    event = AuditEvent.objects.get(verb="invitation.refused")
    assert (event.actor_id, event.subject_id) == (friend.pk, row.pk)
    row.refresh_from_db()
    assert row.accepted_at is None


# Roles


def test_the_investigator_cannot_sign_for_the_institution(sign_in, institution, investigator, signing_official):
    url = reverse("institutions:add_role", args=[institution.slug])
    page = sign_in(investigator).post(url, {"person": investigator.pk, "role": "signing_official"}, follow=True)
    assert "must be another person" in page.text
    for person, role in ((investigator, Role.SIGNING_OFFICIAL), (signing_official, Role.PRINCIPAL_INVESTIGATOR)):
        with pytest.raises(services.RolesExclude):
            services.start_membership(institution, person, role, by=investigator, now=timezone.now())
    with pytest.raises(IntegrityError, match="investigator_is_not_signing_official"), transaction.atomic():
        Membership.objects.create(user=investigator, institution=institution, role="signing_official")
    services.start_membership(institution, investigator, Role.STEWARD, by=investigator, now=timezone.now())


def test_an_invitation_to_the_excluded_role_stays_open(institution, investigator):
    _, secret = invite(institution, investigator.email, "signing_official")
    with pytest.raises(services.RolesExclude):
        memberships.accept_invitation(secret, by=investigator, verified_emails={investigator.email}, now=timezone.now())
    assert Invitation.objects.get(email=investigator.email).accepted_at is None


def test_the_only_manager_hands_over_and_leaves_in_one_step(sign_in, programme):
    institution = factories.admitted_institution("Lake Hospital")
    lead, heir = factories.person_of(institution), factories.person_of(institution, Role.MEMBER)
    membership = lead.memberships.get()
    with pytest.raises(NotAllowed, match="only one who manages"):
        memberships.end_membership(membership, by=lead, now=timezone.now())
    url = reverse("institutions:hand_over", args=[institution.slug])
    assert sign_in(heir).post(url, {"person": heir.pk}).status_code == 403
    answer = sign_in(lead).post(url, {"person": heir.pk, "sure": "on"})
    assert answer.headers["Location"] == reverse("institutions:mine")
    assert services.is_member(heir, institution, Role.PRINCIPAL_INVESTIGATOR)
    assert not services.is_member(lead, institution)
    assert lead.memberships.get().ended_at is not None  # history stays


def test_a_hand_over_to_the_signing_official_changes_nothing(sign_in, institution, investigator, signing_official):
    url = reverse("institutions:hand_over", args=[institution.slug])
    sign_in(investigator).post(url, {"person": signing_official.pk, "sure": "on"})
    assert services.is_member(investigator, institution, Role.PRINCIPAL_INVESTIGATOR)
    assert not services.is_member(signing_official, institution, Role.PRINCIPAL_INVESTIGATOR)


def test_the_checklist_says_whose_mail_comes_back(sign_in, institution, investigator, signing_official, settings):
    with mail_server() as server:
        server.refusals[signing_official.email] = ["550 no such mailbox"] * 9
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        factories.told(signing_official)
        factories.told(investigator)
        outbox.send_due(now=timezone.now())
    page = sign_in(investigator).get(reverse("institutions:onboarding", args=[institution.slug]))
    assert page.context["unreachable"] == [signing_official]
    assert "comes back" in page.text


# Constraints of the database


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("join_request_role_known", {"role": "friend"}),
        ("join_request_answered_iff_by", {"state": "accepted"}),
        ("join_request_answered_iff_by", {"state": "lost"}),
        ("join_request_answered_iff_by", {"answered_at": timezone.now()}),
    ],
)
def test_the_database_refuses_an_impossible_request(asked, constraint, changes):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        JoinRequest.objects.filter(pk=asked.pk).update(**changes)


def test_the_database_refuses_a_second_open_request_and_a_silent_refusal(asked, institution, researcher, steward):
    with pytest.raises(IntegrityError, match="one_open_join_request"), transaction.atomic():
        JoinRequest.objects.create(institution=institution, person=researcher, role="member")
    with pytest.raises(IntegrityError, match="join_request_declined_says_why"), transaction.atomic():
        JoinRequest.objects.filter(pk=asked.pk).update(
            state="declined", answered_by=steward, answered_at=timezone.now()
        )
    row, _ = invite(institution, "nia@example.org")
    with pytest.raises(IntegrityError, match="invitation_code_attempts"), transaction.atomic():
        Invitation.objects.filter(pk=row.pk).update(code_attempts=6)
