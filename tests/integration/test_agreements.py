"""Agreements from the library to their end: preparing, signing in turn, declining, renewing, terminating, expiring."""

import hashlib
from datetime import timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.accounts.models import User
from portal.agreements import services
from portal.agreements.models import Agreement, AgreementVersion, CoveredInstitution, Signature, SigningRequest
from portal.agreements.rendering import VariablesWrong
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import memberships
from portal.institutions import services as institutions
from portal.lifecycle import TransitionNotAllowed
from portal.notifications import outbox
from tests import factories

TEXT = (
    "# Agreement\n\n{{ institution }}, {{ principal_investigator }}, {{ ethics_reference }}, {{ covered }}, "
    "{{ expires_on }}\n"
)
Role = factories.Role


@pytest.fixture
def agreement(programme) -> Agreement:
    """An agreement with variables that is valid for two years."""
    return factories.agreement(programme, slug="full", text=TEXT, months_valid=24)


@pytest.fixture
def volta(programme):
    """A member institution that has signed nothing."""
    return factories.admitted_institution("Volta Teaching Hospital", country="GH")


@pytest.fixture
def case(agreement, volta) -> SigningRequest:
    """Waits for its first signature."""
    return factories.sent_case(volta, agreement)


def verbs(case: SigningRequest) -> list[str]:
    events = AuditEvent.objects.filter(subject_type="signingrequest", subject_id=case.pk).order_by("pk")
    return [event.verb.removeprefix("agreement.") for event in events]


# The library


def test_publishing_numbers_and_hashes_each_version(agreement):
    second = services.publish(
        agreement, text="Zwei\r\n", change_note="Short.", is_material=False, by=None, now=timezone.now()
    )
    assert (second.version, second.text, second.is_material) == (2, "Zwei\n", False)
    assert second.sha256 == hashlib.sha256(b"Zwei\n").hexdigest()
    assert AuditEvent.objects.get(verb="agreement.published", subject_id=second.pk).facts == {
        "sha256": second.sha256,
        "is_material": False,
    }


def test_a_translation_is_kept_with_its_own_hash_and_never_binds(agreement):
    translations = {"fr": {"text": "Deux\n", "side_notes": {"1": "En clair."}}}
    version = services.publish(
        agreement, text="Two\n", change_note="x", translations=translations, by=None, now=timezone.now()
    )
    row = version.translations.get()
    assert (row.language, row.text, row.side_notes) == ("fr", "Deux\n", {"1": "En clair."})
    assert (version.language, version.text) == ("en", "Two\n")


@pytest.mark.parametrize(
    "terms", [{"signing_order": ["consortium", "consortium"]}, {"signing_order": ["king"]}, {"covers": ["recipes"]}]
)
def test_the_library_refuses_signers_and_kinds_that_nobody_knows(programme, terms):
    with pytest.raises(services.AgreementRefused, match="Odd names a signer twice"):
        services.create_agreement(programme, slug="odd", title="Odd", by=None, now=timezone.now(), **terms)


def test_the_library_refuses_a_name_that_is_taken(agreement):
    with pytest.raises(services.AgreementRefused, match="has an agreement called full already"):
        services.create_agreement(agreement.programme, slug="full", title="Full", by=None, now=timezone.now())


# Preparing


def test_preparing_writes_the_exact_text_with_its_hash(agreement, volta, now):
    case = factories.draft_case(volta, agreement, variables={"institution": "Volta Hospital Trust"}, now=now)
    investigator = factories.person_of(volta).name
    assert case.text == (
        f"# Agreement\n\nVolta Hospital Trust, {investigator}, some ethics\\_reference, none, 24 November 2028\n"
    )
    assert case.text_sha256 == hashlib.sha256(case.text.encode()).hexdigest()
    assert (case.status, str(case.expires_on), verbs(case)) == ("draft", "2028-11-24", ["prepared"])


def test_preparing_again_rewrites_the_draft(agreement, volta):
    first = factories.draft_case(volta, agreement)
    second = factories.draft_case(volta, agreement, variables={"institution": "Another name"})
    assert (second.pk, second.receipt_code) == (first.pk, first.receipt_code)
    assert second.text_sha256 != first.text_sha256


def test_a_missing_or_unknown_variable_is_named(agreement, volta):
    manager = factories.person_of(volta)
    given = {"institution": "Volta", "principal_investigator": manager.name}
    for variables, message in (
        (given, "needs a value for ethics reference"),
        (given | {"ethics_reference": "1", "colour": "red"}, "no place for colour"),
    ):
        with pytest.raises(VariablesWrong, match=message):
            services.prepare(agreement, volta, variables=variables, by=manager, now=timezone.now())
    assert not SigningRequest.objects.filter(institution=volta).exists()


def test_only_its_own_people_prepare_for_an_institution(agreement, volta, steward, researcher):
    for stranger in (steward, researcher, factories.person_of(volta, Role.MEMBER)):
        with pytest.raises(NotAllowed, match="Only a principal investigator, data steward or signing official"):
            services.prepare(agreement, volta, variables={}, by=stranger, now=timezone.now())


def test_an_applicant_cannot_prepare(agreement):
    applicant = factories.applied_institution("Applicant")
    with pytest.raises(services.CannotPrepare, match="once it is a member"):
        factories.draft_case(applicant, agreement)


def test_a_case_that_is_being_signed_is_not_prepared_anew(case, agreement, volta):
    with pytest.raises(services.CannotPrepare, match="Withdraw it first") as refusal:
        factories.draft_case(volta, agreement)
    assert refusal.value.next_url == case.get_absolute_url()


def test_sending_needs_somebody_for_every_signature(agreement, volta):
    case = factories.draft_case(volta, agreement)
    with pytest.raises(services.NotReadyToSend, match="is signing official yet") as refusal:
        services.send(case, by=factories.person_of(volta), now=timezone.now())
    assert refusal.value.next_url == f"/institutions/{volta.slug}/people/"


def test_a_text_that_was_replaced_since_is_not_sent(agreement, volta):
    factories.person_of(volta, Role.SIGNING_OFFICIAL)
    case = factories.draft_case(volta, agreement)
    services.publish(agreement, text=TEXT + "More.\n", change_note="More.", by=None, now=timezone.now())
    with pytest.raises(services.NotReadyToSend, match="was published since"):
        services.send(case, by=factories.person_of(volta), now=timezone.now())


def test_sending_twice_tells_the_signer_once(case, volta, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        services.send(case, by=factories.person_of(volta), now=timezone.now())
    assert mail.outbox == []
    assert verbs(case) == ["prepared", "sent"]


# Further hospitals


def test_a_further_hospital_confirms_before_the_case_is_sent(agreement, volta, institution, steward):
    factories.person_of(volta, Role.SIGNING_OFFICIAL)
    case = factories.draft_case(volta, agreement, covered=[institution])
    manager = factories.person_of(volta)
    assert institution.name in case.text
    with pytest.raises(services.NotReadyToSend, match="have not confirmed yet: Moi Eye Clinic"):
        services.send(case, by=manager, now=timezone.now())
    cover = case.covered.get()
    with pytest.raises(NotAllowed):
        services.confirm_cover(cover, by=manager, now=timezone.now())
    for _ in range(2):
        services.confirm_cover(cover, by=steward, now=timezone.now())
    factories.signed_case(services.send(case, by=manager, now=timezone.now()))
    assert services.standing(institution, agreement, now=timezone.now()).state == "active"
    assert AuditEvent.objects.filter(verb="agreement.covered").count() == 1


def test_a_hospital_covers_itself_and_applicants_never(agreement, volta):
    for wrong in (volta, factories.applied_institution("Applicant")):
        with pytest.raises(services.CannotPrepare, match="only other member institutions"):
            factories.draft_case(volta, agreement, covered=[wrong])


def test_a_further_hospital_can_decline_the_draft(agreement, volta, institution, steward):
    case = factories.draft_case(volta, agreement, covered=[institution])
    case = services.decline(case, by=steward, reason="We sign our own.", now=timezone.now())
    assert (case.status, case.reason) == ("declined", "We sign our own.")


# Signing


def test_three_people_sign_in_turn_and_the_last_puts_it_in_force(case, volta, now):
    signatures = [factories.sign_next(case) for _ in range(3)]
    case.refresh_from_db()
    assert [row.role for row in signatures] == ["principal_investigator", "signing_official", "consortium"]
    assert [row.institution for row in signatures] == [volta, volta, None]
    assert [row.previous_sha256 for row in signatures] == ["", signatures[0].sha256, signatures[1].sha256]
    assert {row.text_sha256 for row in signatures} == {case.text_sha256}
    assert (case.status, case.activated_at is not None) == ("active", True)
    assert verbs(case) == ["prepared", "sent", "signed", "signed", "signed", "activated"]
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
    services.publish(agreement, text=TEXT + "More.\n", change_note="More.", by=None, now=timezone.now())
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


# Declining, withdrawing, renewing, terminating


def test_any_signer_can_decline_with_a_reason_that_everybody_reads(case, volta, django_capture_on_commit_callbacks):
    official = factories.person_of(volta, Role.SIGNING_OFFICIAL)
    with pytest.raises(services.ReasonMissing):
        services.decline(case, by=official, reason="  ", now=timezone.now())
    outbox.send_due(now=timezone.now())  # what the way here told
    mail.outbox.clear()
    with django_capture_on_commit_callbacks(execute=True):
        declined = services.decline(case, by=official, reason="Clause 8 is not ours.", now=timezone.now())
    assert (declined.status, declined.reason, declined.ended_at is not None) == (
        "declined", "Clause 8 is not ours.", True,
    )  # fmt: skip
    assert {message.to[0] for message in mail.outbox} == {official.email, factories.person_of(volta).email}
    assert all("Clause 8 is not ours." in message.body for message in mail.outbox)
    assert factories.draft_case(volta, case.agreement).pk != case.pk  # it can be prepared again


def test_strangers_and_members_cannot_decline(case, volta, outsider, board_member):
    for person in (outsider, board_member, factories.person_of(volta, Role.MEMBER)):
        with pytest.raises(NotAllowed, match="Only those who are to sign"):
            services.decline(case, by=person, reason="No.", now=timezone.now())


def test_what_has_ended_does_not_move_again(case, volta):
    manager = factories.person_of(volta)
    services.withdraw(case, by=manager, now=timezone.now())
    for step in (
        lambda: services.send(case, by=manager, now=timezone.now()),
        lambda: services.decline(case, by=manager, reason="No.", now=timezone.now()),
        lambda: services.withdraw(case, by=manager, now=timezone.now()),
        lambda: services.terminate(case, by=manager, reason="No.", now=timezone.now()),
    ):
        with pytest.raises(TransitionNotAllowed, match="is withdrawn, so it cannot become"):
            step()


def test_a_renewal_takes_the_place_of_the_one_before_with_its_last_signature(case, volta, agreement):
    old = factories.signed_case(case)
    new = factories.sent_case(volta, agreement)
    factories.signed_case(new, times=2)
    old.refresh_from_db()
    assert (new.renews, old.status) == (old, "active")
    factories.sign_next(new)
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.status, new.status) == ("superseded", "active")
    assert old.signatures.count() == 3


def test_terminating_tells_its_effects_first_and_keeps_what_was_given(institution, steward, official, board):
    case = institution.signing_requests.get()
    contribution = factories.reviewed_contribution(institution)
    factories.draft_contribution(institution)
    effects = {effect.what: effect.count for effect in services.effects_of_termination(case)}
    assert effects == {
        "Institutions under it": 1,
        "Drafts": 1,
        "Contributions in checks or before the board": 1,
        "Approved contributions": 0,
        "Corpora that hold them": 0,
        "Training runs": 0,
        "Releases": 0,
    }
    with pytest.raises(NotAllowed, match="can terminate this agreement"):
        services.terminate(case, by=steward, reason="No.", now=timezone.now())
    ended = services.terminate(case, by=official, reason="The trial ended.", now=timezone.now())
    contribution.refresh_from_db()
    assert (ended.status, ended.reason, contribution.status) == ("terminated", "The trial ended.", "review")
    assert AuditEvent.objects.get(verb="agreement.terminated").facts["effects"] == effects


@pytest.fixture
def official(institution):
    return factories.person_of(institution, Role.SIGNING_OFFICIAL)


def test_the_consortium_can_terminate_and_a_stranger_cannot(institution, outsider):
    case = institution.signing_requests.get()
    with pytest.raises(NotAllowed):
        services.terminate(case, by=outsider, reason="No.", now=timezone.now())
    by = factories.signatory()
    assert services.terminate(case, by=by, reason="They left.", now=timezone.now()).status == "terminated"


# The calendar


def test_the_sweep_reminds_once_at_each_step_and_expires_after_the_last_day(case, volta, now):
    factories.signed_case(case)
    case.refresh_from_db()
    told = []
    for days in (61, 60, 59, 30, 29, 7, 0, -1, -2):
        moment = timezone.now().replace(hour=12) + (case.expires_on - timezone.now().date()) - timedelta(days=days)
        for _ in range(2):
            services.sweep(now=moment)
        told.append(AuditEvent.objects.filter(verb="agreement.reminded", subject_id=case.pk).count())
    case.refresh_from_db()
    assert told == [0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert (case.status, verbs(case)[-1]) == ("expired", "expired")
    assert services.standing(volta, case.agreement, now=timezone.now()).state == "expired"


def test_the_sweep_asks_for_re_consent_then_warns_then_says_that_work_stopped(case, agreement):
    factories.signed_case(case)
    published = timezone.now()
    services.publish(agreement, text=TEXT + "More.\n", change_note="More.", by=None, now=published)
    for days in (0, 1, 31, 53, 60, 61, 89, 91, 120):
        services.sweep(now=published + timedelta(days=days))
    due = (published + timedelta(days=60)).date()
    keys = list(
        AuditEvent.objects.filter(verb="agreement.reminded", subject_id=case.pk)
        .order_by("pk")
        .values_list("facts__key", flat=True)
    )
    assert keys == [*(f"reconsent-{due}-{step}" for step in (60, 30, 7)), f"grace-{due}", f"blocked-{due}"]


def test_a_minor_version_reminds_nobody(case, agreement):
    factories.signed_case(case)
    services.publish(
        agreement, text=TEXT + "\n", change_note="A comma.", is_material=False, by=None, now=timezone.now()
    )
    services.sweep(now=timezone.now())
    assert not AuditEvent.objects.filter(verb="agreement.reminded").exists()


def test_one_bad_row_stops_no_other(case, agreement, caplog, monkeypatch):
    other = factories.admitted_institution("Kumasi Eye Centre", country="GH")
    cases = [factories.signed_case(case), factories.signed_case(factories.sent_case(other, agreement))]
    from portal.agreements import calendar

    expire = calendar.expire

    def broken(row, *, now):
        if row.pk == case.pk:
            raise RuntimeError("broken")
        return expire(row, now=now)

    monkeypatch.setattr(calendar, "expire", broken)
    services.sweep(now=timezone.now() + timedelta(days=800))
    assert [SigningRequest.objects.get(pk=row.pk).status for row in cases] == ["active", "expired"]
    assert f"could not broken case {case.pk}" in caplog.text


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
