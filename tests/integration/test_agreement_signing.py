"""Signing: in order, each person once, bound to the exact text."""

from datetime import timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.accounts.models import User
from portal.agreements import services
from portal.agreements.models import Signature, SigningRequest
from portal.audit.models import AuditEvent
from portal.institutions import memberships
from portal.institutions import services as institutions
from portal.notifications import outbox
from tests import factories
from tests.log import verbs_of

Role = factories.Role


# Signing


def test_three_people_sign_in_turn_and_the_last_puts_it_in_force(case, volta, now):
    signatures = [factories.sign_next(case) for _ in range(3)]
    case.refresh_from_db()
    assert [row.role for row in signatures] == ["principal_investigator", "signing_official", "consortium"]
    assert [row.institution for row in signatures] == [volta, volta, None]
    assert [row.previous_sha256 for row in signatures] == ["", signatures[0].sha256, signatures[1].sha256]
    assert {row.text_sha256 for row in signatures} == {case.text_sha256}
    assert (case.status, case.activated_at is not None) == ("active", True)
    assert verbs_of(case) == ["prepared", "sent", "signed", "signed", "signed", "activated"]
    events = AuditEvent.objects.filter(verb="agreement.signed", subject_id=case.pk).order_by("pk")
    assert [row.audit_index for row in signatures] == [event.pk for event in events]


def test_a_signature_keeps_everything_about_itself(case, volta):
    investigator = factories.person_of(volta)
    row = factories.sign_next(case)
    row.refresh_from_db()
    assert row.record() | {"signed_at": "", "audit_index": 0} == {
        "position": 1,
        "signer_id": investigator.pk,
        "printed_name": investigator.name,
        "institution_id": volta.pk,
        "institution_name": "Volta Teaching Hospital",
        "role": "principal_investigator",
        "authority": "I sign as principal investigator, not for the institution.",
        "meaning": services.MEANING["principal_investigator"],
        "document_id": "full",
        "document_title": "Full",
        "version": 1,
        "text_sha256": case.text_sha256,
        "signed_at": "",
        "authentication": ["password"],
        "ip_address": "127.0.0.1",
        "user_agent": "tests",
        "audit_index": 0,
        "previous_sha256": "",
    }


def test_signing_twice_returns_the_first_signature(case, volta):
    first = factories.sign_next(case)
    again = factories.sign_next(case, by=factories.person_of(volta))
    assert (again, Signature.objects.filter(request=case).count()) == (first, 1)
    assert AuditEvent.objects.filter(verb="agreement.signed", subject_id=case.pk).count() == 1


def test_nobody_signs_out_of_turn_and_no_superuser_at_all(case, volta, chair, outsider, board_member):
    official = factories.person_of(volta, Role.SIGNING_OFFICIAL)
    superuser = factories.user("Super")
    User.objects.filter(pk=superuser.pk).update(is_superuser=True, is_staff=True)
    superuser.refresh_from_db()
    for person in (official, chair, outsider, board_member, superuser, factories.person_of(volta, Role.MEMBER)):
        assert services.may_sign(person, case) is False
        with pytest.raises(services.NotYourTurn, match="Principal investigator signs next"):
            factories.sign_next(case, by=person)
    assert case.signatures.count() == 0


def test_a_principal_investigator_cannot_countersign_as_the_official(agreement, volta):
    investigator = factories.person_of(volta)
    with pytest.raises(institutions.RolesExclude):
        memberships.add_role(volta, investigator, Role.SIGNING_OFFICIAL, by=investigator, now=timezone.now())
    factories.person_of(volta, Role.SIGNING_OFFICIAL)
    factories.signatory()
    case = services.send(factories.draft_case(volta, agreement), by=investigator, now=timezone.now())
    factories.sign_next(case)
    assert services.may_sign(investigator, case) is False
    assert factories.sign_next(case, by=investigator).position == 1  # the signature that is there, not a second one
    row = Signature.objects.get(request=case)
    row.pk, row.position, row.role, row.audit_index = None, 2, "signing_official", 0
    row.previous_sha256 = "0" * 64
    with pytest.raises(IntegrityError, match="nobody_signs_twice"), transaction.atomic():
        row.save(force_insert=True)


def test_whoever_belongs_to_the_institution_does_not_countersign_for_the_consortium(case, volta):
    factories.signed_case(case, times=2)
    signatory = factories.signatory()
    memberships.start = None

    institutions.start_membership(volta, signatory, Role.MEMBER, by=signatory, now=timezone.now())
    assert services.may_sign(signatory, case) is False


def test_a_person_who_left_cannot_sign_any_more(case, volta):
    manager = factories.person_of(volta)
    factories.signed_case(case, times=1)
    official = factories.person_of(volta, Role.SIGNING_OFFICIAL)
    memberships.end_membership(official.memberships.get(), by=manager, now=timezone.now())
    assert services.may_sign(official, case) is False


@pytest.mark.parametrize("typed", ["volta  TEACHING hospital", "\uff36olta Teaching Hospital"])
def test_the_name_may_be_typed_on_another_keyboard(case, volta, typed):
    typed = f"Principal Investigator of {typed}"
    row = services.sign(
        case, by=factories.person_of(volta), typed_name=typed, authority=services.AUTHORITY["principal_investigator"],
        authentication=["password"], ip_address=None, user_agent="", now=timezone.now(),
    )  # fmt: skip
    assert row.printed_name == " ".join(typed.split())


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"typed_name": "Somebody"}, services.NameMismatch),
        ({"typed_name": ""}, services.NameMismatch),
        ({"authority": "I may."}, services.NotProved),
        ({"authority": services.AUTHORITY["signing_official"]}, services.NotProved),
        ({"authentication": []}, services.NotProved),
    ],
)
def test_a_signature_needs_name_authority_and_proof(case, volta, changes, error):
    investigator = factories.person_of(volta)
    given = {
        "typed_name": investigator.name,
        "authority": services.AUTHORITY["principal_investigator"],
        "authentication": ["password"],
    }
    with pytest.raises(error):
        services.sign(case, by=investigator, **given | changes, ip_address=None, user_agent="", now=timezone.now())
    assert case.signatures.count() == 0


def test_the_text_names_who_signs_as_principal_investigator(agreement, volta):
    factories.person_of(volta, Role.SIGNING_OFFICIAL)
    case = factories.draft_case(volta, agreement, variables={"principal_investigator": "Dr Somebody Else"})
    services.send(case, by=factories.person_of(volta), now=timezone.now())
    case.refresh_from_db()
    with pytest.raises(services.CannotSign, match="names Dr Somebody Else as principal investigator"):
        factories.sign_next(case)


def test_a_text_replaced_before_the_first_signature_is_not_signed_and_after_it_goes_on(agreement, case, volta):
    other = factories.admitted_institution("Kumasi Eye Centre", country="GH")
    begun = factories.signed_case(factories.sent_case(other, agreement), times=1)
    services.publish(agreement, text=factories.FULL_TEXT + "More.\n", change_note="More.", by=None, now=timezone.now())
    with pytest.raises(services.CannotSign, match="has replaced this text"):
        factories.sign_next(case)
    assert factories.signed_case(begun).status == "active"


def test_what_would_have_expired_already_is_not_signed(case, now):
    with pytest.raises(services.CannotSign, match="would have expired already"):
        factories.sign_next(case, now=timezone.now() + timedelta(days=900))


def test_a_late_link_does_nothing(case, volta):
    services.withdraw(case, by=factories.person_of(volta), now=timezone.now())
    case.refresh_from_db()
    assert services.next_party(case) is None
    with pytest.raises(services.CannotSign, match="is withdrawn: there is nothing to sign"):
        factories.sign_next(case, by=factories.person_of(volta))


def test_each_next_signer_is_told_and_in_the_end_everybody(case, volta, django_capture_on_commit_callbacks):
    told = []
    outbox.send_due(now=timezone.now())  # what the way here told
    for _ in range(3):
        mail.outbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            factories.sign_next(case)
        told.append([(message.to[0], message.subject.rpartition(" ")[2]) for message in mail.outbox])
    official, signatory = factories.person_of(volta, Role.SIGNING_OFFICIAL), factories.signatory()
    assert told[0] == [(official.email, "signature")]
    assert told[1] == [(signatory.email, "signature")]
    assert {address for address, _ in told[2]} == {factories.person_of(volta).email, official.email, signatory.email}
    assert f"/agreements/receipts/{case.receipt_code}/" in mail.outbox[0].body


def test_changing_the_template_leaves_what_was_signed_as_it_was(case, agreement):
    before = factories.signed_case(case)
    services.publish(agreement, text="# Other\n", change_note="All.", by=None, now=timezone.now())
    after = SigningRequest.objects.get(pk=case.pk)
    assert (after.text, after.text_sha256, after.agreement_version.version) == (before.text, before.text_sha256, 1)
