"""Agreements from the library to their end: preparing, signing in turn, declining, renewing, terminating, expiring."""

import hashlib

import pytest
from django.core import mail
from django.utils import timezone

from portal.agreements import services
from portal.agreements.models import SigningRequest
from portal.agreements.rendering import VariablesWrong
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import factories
from tests.log import verbs_of

Role = factories.Role


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
        "deletion_days": None,
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
    assert (case.status, str(case.expires_on), verbs_of(case)) == ("draft", "2028-11-24", ["prepared"])


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
    services.publish(agreement, text=factories.FULL_TEXT + "More.\n", change_note="More.", by=None, now=timezone.now())
    with pytest.raises(services.NotReadyToSend, match="was published since"):
        services.send(case, by=factories.person_of(volta), now=timezone.now())


def test_sending_twice_tells_the_signer_once(case, volta, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        services.send(case, by=factories.person_of(volta), now=timezone.now())
    assert mail.outbox == []
    assert verbs_of(case) == ["prepared", "sent"]


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
