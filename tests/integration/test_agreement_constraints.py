"""What the database refuses about agreements: each constraint broken once, past the services."""

from datetime import UTC, date, datetime

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.agreements import services
from portal.agreements.models import Agreement, AgreementVersion, CoveredInstitution, Signature, SigningRequest
from tests import factories

Role = factories.Role


# What the database refuses


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("agreement_version_once", {}),
        ("agreement_sha256", {"version": 2, "sha256": "A" * 64}),
        ("agreement_sha256_of_text", {"version": 2, "text": "y"}),
    ],
)
def test_the_database_refuses_an_impossible_version(agreement, constraint, changes):
    fields = {"agreement": agreement, "version": 1, "text": "x", "sha256": services.text_sha256("x")}
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        AgreementVersion.objects.create(**fields | changes)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("agreement_translation_once", {}),
        ("agreement_translation_sha256", {"language": "es", "sha256": "x"}),
        ("agreement_translation_sha256_of_text", {"language": "es", "text": "y"}),
    ],
)
def test_the_database_refuses_an_impossible_translation(agreement, constraint, changes):
    rows = agreement.versions.get().translations
    fields = {"language": "fr", "text": "x", "sha256": services.text_sha256("x")}
    rows.create(**fields)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        rows.create(**fields | changes)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("agreement_slug_once", {"slug": "full"}),
        ("agreement_valid_for_some_time", {"months_valid": 0}),
        ("agreement_has_a_signer", {"signing_order": []}),
    ],
)
def test_the_database_refuses_an_impossible_agreement(agreement, constraint, changes):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Agreement.objects.create(**{"programme": agreement.programme, "slug": "x", "title": "x"} | changes)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("request_status_known", {"status": "lost"}),
        ("request_sha256_of_text", {"text": "y"}),
        ("request_sha256", {"text_sha256": "x"}),
        ("request_receipt_code", {"receipt_code": "short"}),
        ("request_activated_at_iff_activated", {"activated_at": timezone.now()}),
        ("request_ended_at_iff_ended", {"status": "withdrawn"}),
        ("request_end_has_a_reason", {"status": "declined", "ended_at": timezone.now()}),
        ("request_ended_by_a_side_with_a_reason", {"ended_by": "consortium"}),
        ("request_ended_by_a_side_with_a_reason", {"ended_by": "nobody", "reason": "?"}),
        ("request_notice_is_of_the_consortium", {"ends_on": timezone.now().date()}),
    ],
)
def test_the_database_refuses_an_impossible_case(agreement, volta, constraint, changes):
    case = factories.draft_case(volta, agreement)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        SigningRequest.objects.filter(pk=case.pk).update(**changes)


def test_the_database_refuses_a_second_open_case_and_a_version_of_another_agreement(agreement, volta):
    case = factories.draft_case(volta, agreement)
    other = Agreement.objects.exclude(pk=agreement.pk).earliest("pk")
    with pytest.raises(IntegrityError, match="request_version_of_agreement"), transaction.atomic():
        SigningRequest.objects.filter(pk=case.pk).update(agreement=other)
    case.pk, case.receipt_code = None, "0" * 20
    with pytest.raises(IntegrityError, match="one_open_request"), transaction.atomic():
        case.save(force_insert=True)


def test_the_database_refuses_two_cases_in_force(case, volta, agreement):
    factories.signed_case(case)
    second = factories.signed_case(factories.sent_case(volta, agreement), times=2)
    signature = Signature.objects.filter(request=second).last()
    signature.pk, signature.position, signature.role, signature.institution = None, 3, "consortium", None
    signature.signer, signature.audit_index, signature.previous_sha256 = factories.signatory(), 0, "0" * 64
    signature.save(force_insert=True)
    with pytest.raises(IntegrityError, match="one_active_request"), transaction.atomic():
        SigningRequest.objects.filter(pk=second.pk).update(status="active", activated_at=timezone.now())


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("one_signature_per_role", {"role": "principal_investigator"}),
        ("nobody_signs_twice", {"signer": "first"}),
        ("signature_sha256", {"text_sha256": "x"}),
        ("signature_of_this_text", {"text_sha256": "0" * 64}),
        ("signature_role_known", {"role": "king"}),
        ("signature_chained", {"previous_sha256": ""}),
        ("signature_of_an_institution_or_the_consortium", {"institution": None}),
        ("signature_has_a_printed_name", {"printed_name": ""}),
        ("audit_index", {"audit_index": "first"}),
    ],
)
def test_the_database_refuses_an_impossible_signature(case, volta, constraint, changes):
    first = factories.sign_next(case)
    fields = {
        field.name: getattr(first, field.name) for field in Signature._meta.fields if field.name not in {"id"}
    } | {
        "position": 2,
        "role": "signing_official",
        "signer": factories.person_of(volta, Role.SIGNING_OFFICIAL),
        "previous_sha256": first.sha256,
        "audit_index": 0,
    }
    taken = {name: getattr(first, name) for name, value in changes.items() if value == "first"}
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Signature.objects.create(**fields | changes | taken)


def test_the_database_refuses_a_position_that_is_taken(case):
    first = factories.sign_next(case)
    first.pk = None
    with pytest.raises(IntegrityError, match="at the end of a case"), transaction.atomic():
        first.save(force_insert=True)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [("institution_covered_once", {}), ("cover_confirmed_at_iff_by", {"confirmed_at": timezone.now()})],
)
def test_the_database_refuses_an_impossible_cover(agreement, volta, institution, constraint, changes):
    case = factories.draft_case(volta, agreement, covered=[institution] if not changes else [])
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        CoveredInstitution.objects.create(request=case, institution=institution, **changes)


@pytest.mark.parametrize(
    ("prepared", "months", "last"),
    [((2026, 1, 31), 1, (2026, 2, 28)), ((2027, 8, 31), 6, (2028, 2, 29)), ((2026, 11, 24), 24, (2028, 11, 24))],
)
def test_an_agreement_ends_on_the_same_day_or_the_last_of_a_shorter_month(volta, programme, prepared, months, last):
    row = factories.agreement(programme, slug="short", months_valid=months)
    case = factories.draft_case(volta, row, now=datetime(*prepared, tzinfo=UTC))
    assert case.expires_on == date(*last)
