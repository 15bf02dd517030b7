"""A contribution's life: the table, the races, the constraints, what submission asks, what the pages show."""

import itertools
import threading

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from contributions import drafts, lifecycle, services
from contributions.lifecycle import Status
from contributions.models import CheckResult, Contribution
from portal import storage
from portal.accounts.models import User
from portal.agreements.services import AgreementRequired
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.lifecycle import TransitionNotAllowed
from portal.notifications import outbox
from tests import contributing, factories
from tests.log import verbs_of

Verdict = CheckResult.Verdict


# The table


def do(target: Status, contribution: Contribution, by: User) -> Contribution:
    """Call the service that leads to `target`; the database says whether it may."""
    now = timezone.now()
    match target:
        case Status.SUBMITTED if contribution.status == Status.VALIDATING:
            return services.requeue(contribution.pk, now=now)
        case Status.SUBMITTED:
            return services.submit(contribution, by=by, now=now)
        case Status.VALIDATING:
            return services.begin_validation(contribution.pk, now=now)
        case Status.REVIEW:
            return services.refer(contribution.pk, now=now)
        case Status.APPROVED:
            return services.approve(contribution.pk, by=None, now=now)
        case Status.REJECTED if contribution.status == Status.VALIDATING:
            return services.find_invalid(contribution.pk, reason="No.", now=now)
        case Status.REJECTED:
            return services.reject(contribution.pk, by=None, reason="No.", now=now)
        case Status.RETURNED:
            return services.return_for_changes(contribution.pk, reason="Which camera?", now=now)
    return services.withdraw(contribution, by=by, reason="No.", now=now)


# Nothing leads back to a draft; what is rejected may be checked again or not: test_faults.
ELSEWHERE = (Status.REJECTED, Status.SUBMITTED)
PAIRS = [pair for pair in itertools.product(Status, Status) if pair[1] != Status.DRAFT and pair != ELSEWHERE]


@pytest.mark.parametrize(("before", "target"), PAIRS)
def test_only_the_moves_of_the_table_are_possible(at_status, steward, before, target):
    contribution = at_status(before)
    if (before, target) in lifecycle.TRANSITIONS:
        moved = do(target, contribution, steward)
        told = lifecycle.TRANSITIONS[before, target].removeprefix("contribution.")
        assert (moved.status, verbs_of(moved)[-1]) == (target, told)
        return
    seen = verbs_of(contribution)
    with pytest.raises(TransitionNotAllowed):
        do(target, contribution, steward)
    contribution.refresh_from_db()
    assert (contribution.status, verbs_of(contribution)) == (before, seen)


@pytest.mark.parametrize(
    ("status", "service"),
    [
        (Status.VALIDATING, lambda c, by: services.submit(c, by=by, now=timezone.now())),
        (Status.DRAFT, lambda c, by: services.requeue(c.pk, now=timezone.now())),
        (Status.REJECTED, lambda c, by: services.submit(c, by=by, now=timezone.now())),
        (Status.REJECTED, lambda c, by: services.requeue(c.pk, now=timezone.now())),
        (Status.VALIDATING, lambda c, by: services.reject(c.pk, by=None, reason="No.", now=timezone.now())),
        (Status.REVIEW, lambda c, by: services.find_invalid(c.pk, reason="No.", now=timezone.now())),
    ],
    ids=["submit", "requeue", "submit_rejected", "requeue_rejected", "reject", "find_invalid"],
)
def test_verbs_with_the_same_target_are_kept_apart(at_status, steward, status, service):
    contribution = at_status(status)
    with pytest.raises(TransitionNotAllowed):
        service(contribution, steward)


def test_a_life_is_told_by_the_log(at_status):
    assert verbs_of(at_status(Status.APPROVED)) == [
        "drafted",
        "file_added",
        "file_uploaded",
        "submitted",
        "validation_started",
        "validated",
        "approved",
    ]


@pytest.mark.django_db(transaction=True)
def test_one_of_eight_workers_begins(at_status):
    contribution = at_status(Status.SUBMITTED)
    barrier, outcomes = threading.Barrier(8), []

    def begin() -> None:
        try:
            connection.ensure_connection()  # so that they really meet at the row
            barrier.wait(timeout=10)
            services.begin_validation(contribution.pk, now=timezone.now())
            outcomes.append("began")
        except TransitionNotAllowed:
            outcomes.append("refused")
        finally:
            connection.close()

    connection.close()  # the pool has eight, one for each worker
    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(outcomes) == ["began", *["refused"] * 7]
    assert verbs_of(contribution).count("validation_started") == 1


# Drafting and submitting


def test_only_stewards_and_principal_investigators_draft(
    institution, base, steward, member, signing_official, outsider
):
    investigator = factories.person_of(institution)
    root = User.objects.create_superuser("root@example.org", name="Root")
    assert [contributing.draft(institution, base, by=by).status for by in (steward, investigator)] == ["draft", "draft"]
    for person in (member, signing_official, outsider, root):
        with pytest.raises(NotAllowed):
            contributing.draft(institution, base, by=person)


def test_photographs_are_not_open_yet(institution, base, steward):
    with pytest.raises(services.KindNotOpen):
        contributing.draft(institution, base, by=steward, kind="images")


def test_a_small_group_is_never_stored(draft, steward):
    with pytest.raises(services.CardRefused, match="Patients is 7: .* Write <10 instead"):
        services.change(draft, training_card={"patients": 7}, by=steward, now=timezone.now())
    draft.refresh_from_db()
    assert draft.training_card == contributing.CARD


def test_a_card_that_postgresql_could_not_hold_is_kept(draft, steward):
    odd = {**contributing.CARD, "final_loss": float("nan"), "note": "a\0b\ud800"}
    services.change(draft, training_card=odd, by=steward, now=timezone.now())
    draft.refresh_from_db()
    assert (draft.training_card["final_loss"], draft.training_card["note"]) == ("nan", "a\N{REPLACEMENT CHARACTER}b?")


def test_a_change_is_told_by_its_fields(draft, steward):
    services.change(draft, title="Another title", training_card=contributing.CARD, by=steward, now=timezone.now())
    assert AuditEvent.objects.get(verb="contribution.changed").facts == {"fields": ["title"]}


def test_submission_needs_a_signed_agreement(programme, base):
    institution = factories.admitted_institution("Volta Hospital")
    investigator = factories.person_of(institution)
    contribution = contributing.draft(institution, base, by=investigator)
    sign_url = f"/agreements/sign/{institution.slug}/retina/data-use-agreement/"
    for attempt in (
        lambda: contributing.upload(contribution, b"weights", by=investigator),
        lambda: services.submit(contribution, by=investigator, now=timezone.now()),
    ):
        with pytest.raises(AgreementRequired) as refusal:
            attempt()
        assert (refusal.value.code, refusal.value.next_url) == ("agreement_required", sign_url)
    factories.sign_agreement(institution)
    contributing.upload(contribution, b"weights", by=investigator)
    assert services.submit(contribution, by=investigator, now=timezone.now()).status == "submitted"


@pytest.mark.parametrize("missing", ["images", "steps", "learning_rate", "dp", "demographics", "deduplication"])
def test_submission_needs_a_complete_card(institution, base, steward, missing):
    card = {key: value for key, value in contributing.CARD.items() if key != missing}
    contribution = contributing.draft(institution, base, by=steward, training_card=card)
    contributing.upload(contribution, b"weights", by=steward)
    with pytest.raises(services.CardIncomplete, match="The training card is not complete. Missing: "):
        services.submit(contribution, by=steward, now=timezone.now())


def test_submission_needs_the_card_of_the_chosen_base(institution, base, steward):
    card = {**contributing.CARD, "base": {"slug": "other", "sha256": "0" * 64}}
    contribution = contributing.draft(institution, base, by=steward, training_card=card)
    contributing.upload(contribution, b"weights", by=steward)
    with pytest.raises(services.CardIncomplete, match="another base generator"):
        services.submit(contribution, by=steward, now=timezone.now())


def test_submission_needs_a_whole_file(draft, steward):
    assert [type(found) for found in services.obstacles(draft)] == [services.FilesIncomplete]
    contributing.announce(draft, b"weights", by=steward)
    with pytest.raises(services.FilesIncomplete):
        services.submit(draft, by=steward, now=timezone.now())


def test_submission_fixes_the_manifest(draft, steward):
    contributing.upload(draft, b"weights", by=steward, name="w.safetensors")
    submitted = services.submit(draft, by=steward, now=timezone.now())
    text = f"{contributing.sha256_hex(b'weights')}  w.safetensors\n"
    assert services.manifest(submitted) == text
    assert submitted.manifest_sha256 == contributing.sha256_hex(text.encode())
    assert (submitted.submitted_by, submitted.status) == (steward, "submitted")


def test_the_same_files_twice_name_the_other(at_status, institution, base, steward):
    first = at_status(Status.REVIEW)
    second = contributing.draft(institution, base, by=steward, title="The same again")
    contributing.upload(second, b"w" * 100, by=steward)
    with pytest.raises(services.Duplicate) as refusal:
        services.submit(second, by=steward, now=timezone.now())
    assert str(refusal.value).startswith(
        f"The same files are in C-{first.pk} Generator of the eye clinic, which is before"
    )
    assert refusal.value.next_url == first.get_absolute_url()
    services.withdraw(first, by=steward, reason="Superseded.", now=timezone.now())
    assert services.submit(second, by=steward, now=timezone.now()).status == "submitted"


def test_submission_rings_after_the_commit(draft, steward, django_capture_on_commit_callbacks):
    contributing.upload(draft, b"weights", by=steward)
    with django_capture_on_commit_callbacks() as callbacks:
        services.submit(draft, by=steward, now=timezone.now())
    assert "enqueue.<locals>.send" in {callback.__qualname__ for callback in callbacks}


# After the checks


def test_a_referred_file_is_in_the_vault(at_status):
    contribution = at_status(Status.VALIDATING, b"the very bytes")
    for _ in range(2):  # safe to repeat
        services.promote_files(contribution.pk)
    services.refer(contribution.pk, now=timezone.now())
    file = contribution.files.get()
    assert (file.state, storage.get(storage.VAULT, file.storage_key)) == ("verified", b"the very bytes")


def test_an_invalid_file_is_refused_with_the_reason(at_status, django_capture_on_commit_callbacks):
    contribution = at_status(Status.VALIDATING)
    outbox.send_due(now=timezone.now())  # what its way here told
    mail.outbox.clear()
    with django_capture_on_commit_callbacks(execute=True):
        found = services.find_invalid(contribution.pk, reason="A value is\0 not finite.", now=timezone.now())
    assert (found.status, found.reason, found.files.get().state) == (
        "rejected",
        "A value is\N{REPLACEMENT CHARACTER} not finite.",
        "refused",
    )
    assert (found.decided_at is not None, found.referred_at, verbs_of(found)[-1]) == (True, None, "found_invalid")
    assert {message.subject for message in mail.outbox} == {f"{found} did not pass its checks"}


@pytest.mark.parametrize(
    ("status", "subject"),
    [("review", "passed its checks"), ("approved", "was approved"), ("rejected", "was not approved")],
)
def test_the_institution_is_told(at_status, institution, django_capture_on_commit_callbacks, status, subject):
    with django_capture_on_commit_callbacks(execute=True):
        contribution = at_status(status)
    told = {message.to[0] for message in mail.outbox if message.subject == f"{contribution} {subject}"}
    assert told == {person.email for person in User.objects.filter(memberships__institution=institution)}


def test_a_withdrawal_needs_a_reason(draft, steward):
    with pytest.raises(services.ReasonMissing):
        services.withdraw(draft, by=steward, reason="  ", now=timezone.now())


def test_a_withdrawal_keeps_what_is_verified_and_gives_up_what_is_not(
    at_status, institution, base, steward, django_capture_on_commit_callbacks
):
    verified, unfinished = at_status(Status.REVIEW), contributing.draft(institution, base, by=steward)
    begun = contributing.announce(unfinished, b"x" * 5, by=steward)
    contributing.send(begun, b"x" * 5, by=steward)
    with django_capture_on_commit_callbacks(execute=True):
        for contribution in (verified, unfinished):
            services.withdraw(contribution, by=steward, reason="Consent revoked.", now=timezone.now())
    assert storage.size(storage.VAULT, verified.files.get().storage_key) == 100
    assert services.parts_uploaded(begun) == []


def test_a_draft_that_was_withdrawn_stays_its_institutions_own(at_status, steward, outsider, chair, operator, auditor):
    never_sent, sent = at_status(Status.WITHDRAWN), at_status(Status.SUBMITTED)
    services.withdraw(sent, by=steward, reason="Consent revoked.", now=timezone.now())
    seen = {
        person: list(Contribution.objects.visible_to(person).order_by("pk"))
        for person in (steward, operator, auditor, chair, outsider)
    }
    assert seen == {steward: [never_sent, sent], operator: [sent], auditor: [sent], chair: [sent], outsider: []}


@pytest.mark.parametrize("title", ["a\nBcc: x", "\x1b]0;x\x07", "evil \u202etxt", "\ud800", "a\u2028b"])
def test_a_title_is_one_line_that_can_be_shown_anywhere(draft, institution, base, steward, title):
    with pytest.raises(drafts.TitleRefused):
        services.change(draft, title=title, by=steward, now=timezone.now())
    with pytest.raises(drafts.TitleRefused):
        contributing.draft(institution, base, by=steward, title=title)
    joined = "\u0634\u0628\u06a9\u06cc\u0647\u200c\u0647\u0627"  # Persian, with the joiner that its spelling asks for
    assert services.change(draft, title=joined, by=steward, now=timezone.now()).title == joined


def test_a_rejected_contribution_is_corrected_once(at_status, steward):
    rejected = at_status(Status.REJECTED)
    correction = services.replace(rejected, by=steward, now=timezone.now())
    assert (correction.supersedes, correction.training_card, correction.files.count(), correction.status) == (
        rejected,
        rejected.training_card,
        0,
        "draft",
    )
    with pytest.raises(services.CannotReplace) as refusal:
        services.replace(rejected, by=steward, now=timezone.now())
    assert refusal.value.next_url == correction.get_absolute_url()


def test_what_is_before_the_board_is_not_replaced(at_status, steward):
    with pytest.raises(services.CannotReplace):
        services.replace(at_status(Status.REVIEW), by=steward, now=timezone.now())


@pytest.mark.parametrize(
    ("status", "actions"),
    [
        ("draft", ["change", "submit", "withdraw"]),
        ("submitted", ["withdraw"]),
        ("validating", ["withdraw"]),
        ("review", ["withdraw"]),
        ("approved", ["withdraw"]),
        ("rejected", ["delete_files", "replace"]),
        ("withdrawn", ["replace"]),  # as a draft: it never had a file
    ],
)
def test_actions_follow_the_state(at_status, steward, member, status, actions):
    contribution = at_status(status)
    assert services.available_actions(contribution, steward) == actions
    assert services.available_actions(contribution, member) == []


# Reports


def test_the_newest_attempt_is_the_report(at_status):
    contribution = at_status(Status.VALIDATING)
    contributing.check(contribution, 0, "pass", run_id=1)
    contributing.check(contribution, 1, "fail", run_id=1)
    contributing.check(contribution, 0, "pass", run_id=2)
    results, _ = services.latest_results(contribution)
    assert [(row.run_id, row.number) for row in results] == [(2, 0)]


def test_the_same_check_again_replaces_its_result(at_status):
    contribution = at_status(Status.VALIDATING)
    contributing.check(contribution, 1, "fail", sentence="first")
    contributing.check(contribution, 1, "pass", sentence="second")
    assert [(row.verdict, row.sentence) for row in contribution.check_results.all()] == [("pass", "second")]


def test_what_a_file_says_of_itself_can_be_stored(at_status):
    evidence = {"nan": float("nan"), "name\0": "a\0b\ud800", "deep": [{"inf": float("-inf")}], "long": "x" * 9000}
    row = contributing.check(at_status(Status.VALIDATING), 5, "warn", evidence=evidence)
    row.refresh_from_db()
    nul = "\N{REPLACEMENT CHARACTER}"
    assert row.evidence == {
        "nan": "nan",
        f"name{nul}": f"a{nul}b?",
        "deep": [{"inf": "-inf"}],
        "long": "x" * 4000,
    }
