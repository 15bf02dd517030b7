"""What may hold identifiers is kept apart: nothing uses or shows it, until that is lifted or its files are deleted."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import actions, deletion, holds, incidents, isolation, reports
from contributions import services as contributions
from contributions.corpora import services as corpora
from contributions.lifecycle import Status
from contributions.models import Contribution, Isolation
from jobs import engine, forms, gather, health, pretrain, tasks, validate
from jobs.models import Run
from portal import storage
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.lifecycle import TransitionNotAllowed
from tests import contributing, factories

SENT = b"weights with a name in their header" * 100
FOUND = "The header names Wanjiru K., a patient."
PICTURE = b"\x89PNG\r\n\x1a\n"
pytestmark = pytest.mark.services


@pytest.fixture
def base(programme):
    return contributing.registered_base(programme)


@pytest.fixture
def at_status(institution, base, steward):
    return lambda status, content=SENT: contributing.at_status(status, institution, base, by=steward, content=content)


@pytest.fixture
def approved(at_status):
    """In use, with a picture that a check made of it."""
    row = at_status("approved")
    contributing.check(row, 1, "pass", sentence="The header names Wanjiru K.")
    reports.add_evidence(row, run_id=1, attempt=1, name="samples.png", content=PICTURE)
    return row


@pytest.fixture
def other(base):
    """In use too, and isolated by nobody."""
    place = factories.member_institution("Other Clinic")
    person = factories.person_of(place, "steward")
    return contributing.at_status("approved", place, base, by=person, content=SENT[1:])


@pytest.fixture
def sent(monkeypatch) -> list:
    """What workers are asked to do."""
    found: list = []
    monkeypatch.setattr(incidents, "enqueue", lambda name, **kwargs: found.append((name, kwargs)))
    return found


@pytest.fixture
def isolate(operator):
    def _isolate(row, reason: str = FOUND) -> Isolation:
        return incidents.isolate(row, reason=reason, files=list(row.files.all()), by=operator, now=timezone.now())

    return _isolate


def lift(row: Isolation, *, by: User) -> Isolation:
    return incidents.lift(row, reason="A device's name.", by=by, now=timezone.now())


def delete(row: Isolation, *, by: User) -> Isolation:
    return incidents.delete_files(row, by=by, now=timezone.now())


def bytes_of(row) -> list[str]:
    """Where the store holds something of it."""
    folders = [(storage.QUARANTINE, f"contributions/{row.pk}/"), (storage.VAULT, f"contributions/{row.pk}/")]
    folders.append((storage.VAULT, f"evidence/{row.pk}/"))
    return [one.key for bucket, folder in folders for one in storage.objects(bucket) if one.key.startswith(folder)]


def verbs_of(row) -> list[str]:
    events = AuditEvent.objects.filter(subject_type="contribution", subject_id=row.pk).order_by("pk")
    return [event.verb.removeprefix("contribution.") for event in events]


# Deletion after the incident


def test_the_files_go_after_the_incident_and_that_is_on_record(approved, other, steward, operator, isolate, sent):
    row = isolate(approved, f" {FOUND} ")
    assert (row.reason, row.file_names, len(bytes_of(approved))) == (FOUND, ["weights.safetensors"], 3)
    delete(row, by=steward)
    assert sent == [("jobs.delete_files", {"contribution_id": approved.pk})]
    tasks.delete_files(contribution_id=approved.pk)
    approved.refresh_from_db()
    row.refresh_from_db()
    assert (approved.status, approved.files.get().state, bytes_of(approved)) == ("withdrawn", "deleted", [])
    assert len(bytes_of(other)) == 2
    assert (row.deletion_ordered_by, row.lifted_at, list(incidents.current())) == (steward, None, [])
    assert verbs_of(approved)[-4:] == ["isolated", "removed", "incident_deletion", "files_deleted"]
    assert [event.facts for event in AuditEvent.objects.all() if "Wanjiru" in str(event.facts)] == []
    told = steward.notifications.order_by("pk")
    assert list(told.values_list("subject", flat=True))[-3:] == [
        f"{approved} is isolated",
        f"The files of {approved} are being deleted after an incident",
        f"The files of {approved} are deleted",
    ]
    secret = ("Wanjiru", "weights.safetensors")
    assert [one.pk for one in told if any(word in one.text + one.subject for word in secret)] == []


@pytest.mark.parametrize("status", [status.value for status in Status if status != Status.DRAFT])
def test_it_works_wherever_the_contribution_stands(at_status, steward, operator, isolate, status):
    row = at_status("approved" if status == "withdrawn" else status)
    if status == "withdrawn":
        row = contributions.withdraw(row, by=steward, reason="A patient asked.", now=timezone.now())
    delete(isolate(row), by=operator)
    tasks.delete_files(contribution_id=row.pk)
    row.refresh_from_db()
    ends_as = status if status in {"rejected", "returned"} else "withdrawn"
    assert (row.status, row.files.get().state, bytes_of(row)) == (ends_as, "deleted", [])
    assert "incident_deletion" in verbs_of(row)


def test_a_hold_goes_before_the_deletion(approved, steward, operator, isolate):
    row = isolate(approved)
    hold = holds.place(approved, reason="A court asked.", by=operator, now=timezone.now())
    for person in (steward, operator):
        with pytest.raises(incidents.FilesHeldBack, match="are held back from deletion") as refused:
            delete(row, by=person)
        assert "court asked" not in str(refused.value)
    row.refresh_from_db()
    approved.refresh_from_db()
    assert (approved.status, row.deletion_ordered_at, len(bytes_of(approved))) == ("approved", None, 3)
    holds.release(hold, reason="Settled.", by=operator, now=timezone.now())
    delete(row, by=operator)
    hold = holds.place(approved, reason="Another court.", by=operator, now=timezone.now())  # just in time
    tasks.delete_files(contribution_id=approved.pk)
    assert len(bytes_of(approved)) == 3
    holds.release(hold, reason="Settled.", by=operator, now=timezone.now())
    tasks.delete_files(contribution_id=approved.pk)
    assert bytes_of(approved) == []


def test_who_may_not_and_when(approved, at_status, steward, member, outsider, board, auditor, operator, isolate):
    files = list(approved.files.all())
    for person in (member, steward, outsider, *board, auditor):
        with pytest.raises(NotAllowed, match="Only an operator"):
            incidents.isolate(approved, reason=FOUND, files=files, by=person, now=timezone.now())
    with pytest.raises(holds.Unexplained):
        isolate(approved, "  ")
    foreign = list(at_status("submitted", SENT[2:]).files.all())
    for wrong in ([], foreign, [*files, *foreign]):
        with pytest.raises(incidents.FilesNotNamed):
            incidents.isolate(approved, reason=FOUND, files=wrong, by=operator, now=timezone.now())
    draft = at_status("draft", SENT[3:])
    with pytest.raises(incidents.CannotIsolate, match="was never submitted"):
        isolate(draft)
    contributions.withdraw(draft, by=steward, reason="Wrong folder.", now=timezone.now())
    with pytest.raises(incidents.CannotIsolate, match="was never submitted"):
        isolate(draft)
    row = isolate(approved)
    with pytest.raises(incidents.CannotIsolate, match="is isolated already"):
        isolate(approved)
    for person in (member, outsider, *board, auditor):
        with pytest.raises(NotAllowed):
            delete(row, by=person)
    for person in (member, steward, outsider, *board, auditor):
        with pytest.raises(NotAllowed):
            lift(row, by=person)
    delete(row, by=operator)
    for refused in (lift, delete):
        with pytest.raises(incidents.NotIsolated, match="was ordered already"):
            refused(row, by=operator)
    tasks.delete_files(contribution_id=approved.pk)
    gone = at_status("rejected", SENT[4:])
    deletion.ask(gone, by=steward, now=timezone.now())
    tasks.delete_files(contribution_id=gone.pk)
    with pytest.raises(incidents.CannotIsolate, match="there is nothing to isolate"):
        isolate(gone)
    assert Isolation.objects.count() == 1


def test_nobody_acts_for_the_consortium_on_the_own_institution(approved, other, operator, isolate):
    row = isolate(approved)
    factories.join(approved.institution, operator, "member")
    for refused in (lift, delete):
        with pytest.raises(NotAllowed, match="who does not belong to the institution"):
            refused(row, by=operator)
    lift(isolate(other), by=operator)
    with pytest.raises(NotAllowed):
        isolate(approved)


def test_its_institution_has_them_deleted_on_the_way_of_the_incident(at_status, steward, operator, isolate):
    rejected = at_status("rejected")
    row = isolate(rejected)
    assert "delete_files" not in contributions.available_actions(rejected, steward)
    with pytest.raises(deletion.NothingToDelete, match="deletion of the files after the incident"):
        deletion.ask(rejected, by=steward, now=timezone.now())
    offered = {row.name: row for row in actions.available(rejected, steward, now=timezone.now())}
    sentence = f"{rejected} is isolated. Its page leads to the deletion of the files after the incident."
    found = offered["delete_files"]
    assert (found.allowed, found.reason, found.code) == (False, sentence, "nothing_to_delete")
    lift(row, by=operator)
    assert "delete_files" in contributions.available_actions(rejected, steward)


# Nothing uses it


def offered(programme) -> set[Contribution]:
    return set(forms.PretrainForm(programme=programme, now=timezone.now()).fields["generators"].queryset)


def test_no_corpus_and_no_training_takes_it_in(approved, other, programme, operator, isolate):
    now = timezone.now()
    frozen, drafted = (corpora.draft_corpus(programme, slug=s, title=s, by=None, now=now) for s in ("one", "two"))
    for corpus in (frozen, drafted):
        corpora.add_generator(corpus, approved, image_count=2, seed=1, now=timezone.now())
        corpora.add_generator(corpus, other, image_count=2, seed=1, now=timezone.now())
    frozen = corpora.freeze(frozen, by=None, now=now)
    asked = {"name": "E", "description": "", "steps": 1, "by": None}
    run = pretrain.queue(frozen, slug="first", **asked)
    row = isolate(approved)
    third = corpora.draft_corpus(programme, slug="three", title="three", by=None, now=now)
    refused = [
        lambda: corpora.add_generator(third, approved, image_count=2, seed=1, now=timezone.now()),
        lambda: pretrain.queue(frozen, slug="second", **asked),
        lambda: pretrain.pretrain(engine.Attempt(run)),
    ]
    for use in refused:
        with pytest.raises(isolation.Isolated, match=f"^{approved} has been isolated since"):
            use()
    assert offered(programme) == {other}
    corpora.freeze(drafted, by=None, now=now)
    assert [part.contribution for part in drafted.parts.all()] == [other]
    lift(row, by=operator)
    corpora.add_generator(third, approved, image_count=2, seed=1, now=timezone.now())
    corpora.require_trainable(frozen, now=timezone.now())
    assert offered(programme) == {approved, other}


def test_the_chair_is_told_where_corpora_hold_it(approved, other, programme, chair, operator, isolate):
    corpus = corpora.draft_corpus(programme, slug="one", title="one", by=None, now=timezone.now())
    corpora.add_generator(corpus, approved, image_count=2, seed=1, now=timezone.now())
    isolate(approved)
    isolate(other)
    subjects = list(chair.notifications.values_list("subject", flat=True))
    assert (f"{approved} is isolated" in subjects, f"{other} is isolated" in subjects) == (True, False)
    assert [one.pk for one in chair.notifications.all() if "Wanjiru" in one.text] == []


def test_no_worker_begins_to_read_it_and_once_lifted_it_waits_again(at_status, operator, isolate, sent):
    contribution = at_status("submitted")
    tasks.validate_contribution(contribution_id=contribution.pk)
    row = isolate(contribution)
    engine.execute(work=tasks.WORK)
    contribution.refresh_from_db()
    run = Run.objects.get(subject_id=contribution.pk)
    assert (contribution.status, run.status, run.code) == ("submitted", "cancelled", "subject_gone")
    assert "has been isolated since" in run.error
    assert contribution.check_results.count() == 0
    tasks.validate_contribution(contribution_id=contribution.pk)
    assert (Run.objects.count(), tasks._unchecked()) == (1, [])
    lift(row, by=operator)
    assert sent == [("jobs.validate_contribution", {"contribution_id": contribution.pk})]
    assert tasks._unchecked() == [contribution.pk]
    tasks.validate_contribution(contribution_id=contribution.pk)
    assert list(Run.objects.values_list("status", flat=True).order_by("pk")) == ["cancelled", "queued"]


def test_what_a_worker_is_at_stops_at_its_next_word(at_status, isolate, monkeypatch):
    contribution, real = at_status("submitted"), validate.may_contribute
    tasks.validate_contribution(contribution_id=contribution.pk)

    def found_meanwhile(row):
        isolate(row)
        return real(row)

    monkeypatch.setattr(validate, "may_contribute", found_meanwhile)
    monkeypatch.setattr(storage, "stream", None)  # nobody reads
    engine.execute(work=tasks.WORK)
    contribution.refresh_from_db()
    assert (contribution.status, Run.objects.get().status) == ("submitted", "cancelled")
    with pytest.raises(TransitionNotAllowed):
        contributions.refer(contribution.pk, now=timezone.now())
    with pytest.raises(isolation.Isolated):
        reports.add_evidence(contribution, run_id=1, attempt=1, name="samples.png", content=PICTURE)


def test_nothing_is_held_against_it_nor_is_it_checked_again(approved, at_status, other, isolate, operator, tmp_path):
    rejected = contributing.at_status("validating", other.institution, other.base_model, content=SENT[5:],
        by=factories.person_of(other.institution, "steward"))  # fmt: skip
    contributions.find_invalid(rejected.pk, reason="No.", now=timezone.now())
    isolate(rejected)
    with pytest.raises(isolation.Isolated):
        contributions.reopen(rejected.pk, reason="Too little memory.", by=operator, now=timezone.now())
    isolate(approved)
    assert list(gather.generators(at_status("submitted", SENT[6:]), tmp_path).iterdir()) == []


def test_one_that_stands_long_is_looked_at_again(approved, operator, isolate):
    row = isolate(approved)
    days = [timedelta(days=30), timedelta(days=31)]
    found = [{finding.code for finding in health.findings(now=row.placed_at + wait)} for wait in days]
    assert ["isolation_is_old" in codes for codes in found] == [False, True]
    delete(row, by=operator)
    later = {finding.code for finding in health.findings(now=row.placed_at + days[1])}
    assert "isolation_is_old" not in later


# The database


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"reason": ""}, "isolation_has_a_reason"),
        ({"file_names": []}, "isolation_names_files"),
        ({"lifted_at": timezone.now()}, "isolation_lifted_by_somebody_for_a_reason"),
        ({"lift_reason": "No."}, "isolation_lifted_by_somebody_for_a_reason"),
        ({"deletion_ordered_at": timezone.now()}, "isolation_deletion_ordered_by_somebody_or_lifted"),
    ],
)
def test_an_isolation_is_whole(approved, isolate, changes, constraint):
    row = isolate(approved)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Isolation.objects.filter(pk=row.pk).update(**changes)


def test_what_is_lifted_was_not_deleted_and_there_is_one_at_a_time(approved, operator, isolate):
    row = lift(isolate(approved), by=operator)
    wrong = {"deletion_ordered_at": timezone.now(), "deletion_ordered_by": operator}
    with pytest.raises(IntegrityError, match="isolation_deletion_ordered_by_somebody_or_lifted"), transaction.atomic():
        Isolation.objects.filter(pk=row.pk).update(**wrong)
    isolate(approved)
    with pytest.raises(IntegrityError, match="one_isolation_at_a_time"), transaction.atomic():
        Isolation.objects.create(contribution=approved, reason="No.", file_names=["w"], placed_by=operator)
