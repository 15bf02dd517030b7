"""Files of closed contributions: gone when the agreement or their institution says so, and nothing else with them."""

import os
import time
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import deletion, reports, room
from contributions import services as contributions
from contributions.corpora import services as corpora
from contributions.models import ContributionFile, Evidence
from jobs import cache, disk, engine, fixity, health, leftovers, pretrain, services, tasks
from portal import storage
from portal.agreements import services as agreements
from portal.agreements.models import Agreement
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import contributing, factories
from tests.contributing import text

HELD = b"weights that were sent" * 100
OTHERS = b"weights of somebody else" * 100
pytestmark = pytest.mark.services


@pytest.fixture
def base(programme):
    return contributing.registered_base(programme)


@pytest.fixture
def two_weeks(programme) -> Agreement:
    """The agreement, whose newest text has withdrawn files deleted within two weeks."""
    row = programme.agreements.get()
    say(row, 14)
    return row


def say(agreement: Agreement, days: int | None) -> None:
    """Publish a text that gives so many days."""
    newest = agreements.newest_of(agreement)
    text = f"# The text after version {newest.version}\n"
    agreements.publish(
        agreement, text=text, change_note="N.", is_material=False, deletion_days=days, by=None, now=timezone.now()
    )


@pytest.fixture
def approved(institution, base, steward, two_weeks):
    """A contribution in quarantine and, in two versions, in the vault; its checks drew a picture."""
    row = contributing.at_status("approved", institution, base, by=steward, content=HELD)
    key = row.files.get().storage_key
    storage.promote((storage.QUARANTINE, key), (storage.VAULT, key))  # as a second attempt of its check does
    reports.add_evidence(row, run_id=1, attempt=1, name="samples.png", content=b"a picture of the samples")
    storage.put(
        storage.VAULT, f"evidence/{row.pk}/1-0/samples.png", b"of an attempt whose worker was lost before its row"
    )
    return row


@pytest.fixture
def withdrawn(approved, steward):
    return contributions.withdraw(approved, by=steward, reason="A patient asked.", now=timezone.now())


@pytest.fixture
def other(base):
    """An approved contribution of another institution, which stays as it is."""
    place = factories.member_institution("Other Clinic")
    return contributing.at_status("approved", place, base, by=factories.person_of(place, "steward"), content=OTHERS)


def versions(bucket: str, key: str) -> list[str]:
    found = storage._s3().list_object_versions(Bucket=storage.bucket_name(bucket), Prefix=key)
    return [row["VersionId"] for kind in ("Versions", "DeleteMarkers") for row in found.get(kind, [])]


def delete_due(now) -> None:
    """Do what the workers do that the sweep calls."""
    for row in deletion.due(now=now):
        deletion.delete_files(row.pk, now=now)


def kept(contribution) -> list[int]:
    """Return how many versions of its file lie in quarantine and in the vault, and of its picture."""
    key = f"contributions/{contribution.pk}/"
    pictures = versions(storage.VAULT, f"evidence/{contribution.pk}/")
    return [len(versions(storage.QUARANTINE, key)), len(versions(storage.VAULT, key)), len(pictures)]


def verbs(contribution) -> list[str]:
    rows = AuditEvent.objects.filter(subject_type="contribution", subject_id=contribution.pk)
    return [verb for verb in rows.order_by("pk").values_list("verb", flat=True) if "delet" in verb]


def test_withdrawn_files_go_in_time_and_leave_their_record(withdrawn, other, institution, steward, settings):
    now = timezone.now()
    assert kept(withdrawn) == [1, 2, 2]
    assert room.of(institution).used_bytes == len(HELD)

    delete_due(withdrawn.status_since + timedelta(days=12) - timedelta(seconds=1))
    assert (kept(withdrawn), verbs(withdrawn)) == ([1, 2, 2], [])

    delete_due(withdrawn.status_since + timedelta(days=12))
    assert kept(withdrawn) == [0, 0, 0]
    assert kept(other) == [1, 1, 0]
    file = withdrawn.files.get()
    assert (file.state, file.name, file.sha256) == ("deleted", "weights.safetensors", contributing.sha256_hex(HELD))
    assert (file.vault_version, file.deleted_at) == ("", withdrawn.status_since + timedelta(days=12))
    assert not Evidence.objects.filter(contribution=withdrawn).exists()
    assert (room.of(institution).used_bytes, room.of(other.institution).used_bytes) == (0, len(OTHERS))
    assert {row.institution: row.files for row in room.rooms()} == {"Other Clinic": 1}
    assert verbs(withdrawn) == ["contribution.files_deleted"]
    (event,) = AuditEvent.objects.filter(verb="contribution.files_deleted")
    assert (event.actor_id, event.facts) == (None, {"sha256": [file.sha256]})
    assert steward.notifications.filter(subject=f"The files of {withdrawn} are deleted").count() == 1

    delete_due(now + timedelta(days=99))
    assert (kept(other), verbs(withdrawn)) == ([1, 1, 0], ["contribution.files_deleted"])


def test_where_no_agreement_says_so_they_stay_until_they_are_asked_for(institution, base, steward):
    row = contributing.at_status("approved", institution, base, by=steward, content=HELD)
    contributions.withdraw(row, by=steward, reason="A patient asked.", now=timezone.now())
    row.refresh_from_db()
    delete_due(timezone.now() + timedelta(days=999))
    assert (kept(row), deletion.due_at(row)) == ([1, 1, 0], None)
    deletion.ask(row, by=steward, now=timezone.now())
    tasks.delete_files(contribution_id=row.pk)
    assert kept(row) == [0, 0, 0]
    assert verbs(row) == ["contribution.deletion_asked", "contribution.files_deleted"]


def test_the_shortest_time_of_the_agreements_of_that_kind_counts(withdrawn, programme, two_weeks):
    say(factories.agreement(programme, slug="annex", covers=["images"]), 3)
    assert [agreements.days_to_delete(programme, kind) for kind in ("weights", "images")] == [14, 3]
    say(two_weeks, 1)
    say(two_weeks, None)  # the newest text is silent, and earlier ones were signed
    assert deletion.due_at(withdrawn) == withdrawn.status_since


@pytest.mark.parametrize("status", ["rejected", "returned"])
def test_closed_contributions_keep_theirs_until_their_institution_asks(institution, base, steward, status):
    row = contributing.at_status(status, institution, base, by=steward, content=HELD)
    delete_due(timezone.now() + timedelta(days=999))
    assert kept(row)[:2] == [1, 1]
    deletion.ask(row, by=steward, now=timezone.now())
    delete_due(timezone.now())
    assert (kept(row), row.files.get().state) == ([0, 0, 0], "deleted")


def test_who_may_not_ask_and_when(approved, other, steward, member, operator):
    with pytest.raises(deletion.NothingToDelete, match="is approved, so its files are needed"):
        deletion.ask(approved, by=steward, now=timezone.now())
    row = contributions.withdraw(approved, by=steward, reason="Ours.", now=timezone.now())
    for person in (member, operator, factories.person_of(other.institution, "steward")):
        with pytest.raises(NotAllowed):
            deletion.ask(row, by=person, now=timezone.now())
    deletion.ask(row, by=steward, now=timezone.now())
    with pytest.raises(deletion.NothingToDelete, match="was asked for already"):
        deletion.ask(row, by=steward, now=timezone.now())
    assert (kept(row), verbs(row)) == ([1, 2, 2], ["contribution.deletion_asked"])


def test_the_checks_are_not_made_again_of_files_that_go(institution, base, steward, operator):
    row = contributing.draft(institution, base, by=steward)
    contributing.upload(row, HELD, by=steward)
    contributions.submit(row, by=steward, now=timezone.now())
    contributions.begin_validation(row.pk, now=timezone.now())
    contributions.find_invalid(row.pk, reason="No weights.", now=timezone.now())
    deletion.ask(row, by=steward, now=timezone.now())
    with pytest.raises(contributions.CannotReopen, match="had the files of .* deleted"):
        contributions.reopen(row.pk, reason="Our disk was full.", by=operator, now=timezone.now())


def test_an_upload_that_never_ended_leaves_nothing(institution, base, steward, two_weeks):
    row = contributing.draft(institution, base, by=steward)
    file = contributing.announce(row, HELD, by=steward)
    contributing.send(file, HELD, by=steward)
    assert room.of(institution).used_bytes == len(HELD)
    contributions.withdraw(row, by=steward, reason="Wrong folder.", now=timezone.now())
    assert (row.files.count(), kept(row), room.of(institution).used_bytes) == (0, [0, 0, 0], 0)
    delete_due(timezone.now() + timedelta(days=12))
    assert not AuditEvent.objects.filter(verb="contribution.files_deleted").exists()


def test_a_store_that_is_away_loses_no_deletion(withdrawn, steward, settings, monkeypatch):
    deletion.ask(withdrawn, by=steward, now=timezone.now())
    erase = storage.erase

    def away(bucket, folder):
        if bucket == storage.VAULT:
            raise storage.Unavailable("The object store did not answer.")
        erase(bucket, folder)

    monkeypatch.setattr(storage, "erase", away)
    with pytest.raises(storage.Unavailable):
        delete_due(timezone.now())
    assert (kept(withdrawn), withdrawn.files.get().state) == ([0, 2, 2], "verified")
    later = timezone.now() + timedelta(days=1, hours=1)
    assert "files_kept_too_long" in {finding.code for finding in health.findings(now=later)}

    monkeypatch.setattr(storage, "erase", erase)
    delete_due(timezone.now())
    assert (kept(withdrawn), withdrawn.files.get().state) == ([0, 0, 0], "deleted")
    assert "files_kept_too_long" not in {finding.code for finding in health.findings(now=later)}


def test_the_look_through_the_store_agrees(withdrawn, other, settings, monkeypatch):
    settings.S3_BUCKET_PREFIX += "-deletion"
    storage.ensure_buckets()
    storage.put(storage.VAULT, withdrawn.base_model.storage_key, b"fundus-64")
    file = other.files.get()
    storage.put(storage.QUARANTINE, file.storage_key, OTHERS)
    file.vault_version = storage.promote((storage.QUARANTINE, file.storage_key), (storage.VAULT, file.storage_key))
    file.save()
    monkeypatch.setattr(leftovers, "SETTLED_AFTER", timedelta(0))
    delete_due(timezone.now() + timedelta(days=12))
    late = withdrawn.files.get().storage_key
    storage.put(storage.QUARANTINE, late, HELD)
    storage.put(storage.VAULT, late, HELD)
    run = fixity.queue(by=None, now=timezone.now())
    engine.execute(work=tasks.WORK)
    run.refresh_from_db()
    assert (run.status, run.inspection.faults) == ("succeeded", [])
    found = {kind: row["examples"] for kind, row in run.inspection.leftovers.items()}
    assert found == {
        "copy": [f"quarantine/{file.storage_key}"],
        "unknown": [f"quarantine/{late}"],
        "stray": [f"vault/{late}"],
    }


def test_no_training_on_what_was_withdrawn_after_the_freeze(approved, other, programme, steward):
    now = timezone.now()
    corpus = corpora.draft_corpus(programme, slug="mixture", title="The mixture", by=None, now=now)
    for row in (approved, other):
        corpora.add_generator(corpus, row, image_count=2, seed=1, now=timezone.now())
    corpora.freeze(corpus, by=None, now=now)
    corpus.refresh_from_db()
    asked = {"name": "E", "description": "", "steps": 1, "by": None}
    run = pretrain.queue(corpus, slug="first", **asked)
    contributions.withdraw(approved, by=steward, reason="A patient asked.", now=now)
    with pytest.raises(corpora.NotApproved, match=f"^{approved}, of which The mixture holds images, is not approved"):
        pretrain.queue(corpus, slug="second", **asked)
    images = np.zeros((pretrain.BATCH, pretrain.IMAGE_SIZE, pretrain.IMAGE_SIZE, 3), np.uint8)
    begun_before = partial(pretrain._train, engine.Attempt(run), corpus, images)
    for train in (partial(pretrain.pretrain, engine.Attempt(run)), begun_before):
        with pytest.raises(engine.InputRefused, match="in no further training"):
            train()
    assert corpus.candidates.count() == 0


def test_the_sweep_has_a_worker_delete_what_is_due(withdrawn, other, monkeypatch):
    sent = []
    monkeypatch.setattr(deletion, "enqueue", lambda name, **kwargs: sent.append((name, kwargs)))
    tasks.delete_due_files()
    assert sent == []
    monkeypatch.setattr(services, "now", lambda: withdrawn.status_since + timedelta(days=12))
    tasks.delete_due_files()
    assert sent == [("jobs.delete_files", {"contribution_id": withdrawn.pk})]


def test_what_a_late_worker_adds_goes_too(withdrawn):
    delete_due(timezone.now() + timedelta(days=12))
    reports.add_evidence(withdrawn, run_id=1, attempt=1, name="samples.png", content=b"drawn by a worker that was away")
    assert kept(withdrawn) == [0, 0, 1]
    delete_due(timezone.now() + timedelta(days=13))
    assert (kept(withdrawn), withdrawn.evidence_files.count()) == ([0, 0, 0], 0)


@pytest.mark.parametrize("moment", ["deleted", "due"])
def test_a_look_that_began_before_a_deletion_finds_no_damage(withdrawn, moment, monkeypatch):
    """The rows are read at its beginning; a deletion comes between two of them, or has just removed the bytes."""
    (place, files) = next(found for found in fixity.registered() if found[0].startswith("file:"))
    assert fixity._is_current(place, files)
    later = withdrawn.status_since + timedelta(days=12)
    if moment == "deleted":
        delete_due(later)
    else:
        monkeypatch.setattr(services, "now", lambda: later)
    assert not fixity._is_current(place, files)


# The disks of workers


def test_what_nobody_used_for_a_day_or_was_deleted_leaves_the_disk(settings, tmp_path, withdrawn, other):
    settings.DATA_DIR = tmp_path
    paths = [cache.fetch(row.files.get().storage_key, row.files.get().sha256) for row in (withdrawn, other)]
    storage.put(storage.VAULT, "cached/a", b"a data set")
    used = cache.fetch("cached/a", contributing.sha256_hex(b"a data set"))
    for path in (used, unused := used.with_name("b" * 64)):
        path.write_bytes(b"a data set")
        age(path, days=2)
    assert cache.fetch("cached/a", used.name) == used  # used again: it stays
    disk.tidy()
    assert (used.exists(), unused.exists(), [path.exists() for path in paths]) == (True, False, [True, True])
    delete_due(timezone.now() + timedelta(days=12))
    disk.tidy()
    assert (used.exists(), [path.exists() for path in paths]) == (True, [False, True])


def age(path, *, days: int) -> None:
    moment = time.time() - days * 24 * 3600
    os.utime(path, (moment, moment))


# The pages


def test_the_page_says_what_becomes_of_the_files(approved, steward, member, sign_in):
    page = f"/contributions/{approved.pk}/"
    assert "are deleted" not in text(sign_in(steward).get(page))
    on = f"{timezone.now() + timedelta(days=12):%-d %b %Y}"
    assert f"deleted from the consortium's store on {on}" in text(sign_in(steward).get(page + "withdraw/"))
    contributions.withdraw(approved, by=steward, reason="A patient asked.", now=timezone.now())
    shown = text(sign_in(steward).get(page))
    assert f"The files are deleted on {on}, as the agreement says." in shown
    assert "Delete the files" in shown
    assert "Delete the files" not in text(sign_in(member).get(page))
    assert "It cannot be undone." in text(sign_in(steward).get(page + "delete-files/"))

    sign_in(steward).post(page + "delete-files/")
    assert "The files are being deleted." in text(sign_in(steward).get(page))
    delete_due(timezone.now())
    shown = text(sign_in(member).get(page))
    assert f"The files were deleted on {timezone.now():%-d %b %Y}." in shown
    assert (contributing.sha256_hex(HELD) in shown, "samples.png" in shown) == (True, False)
    assert sign_in(steward).post(page + "delete-files/").status_code == 409


def test_a_rejected_one_says_what_room_it_takes(institution, base, steward, sign_in):
    row = contributing.at_status("rejected", institution, base, by=steward, content=HELD)
    shown = text(sign_in(steward).get(f"/contributions/{row.pk}/"))
    assert "The files stay, and take 2.1 KiB of the institution's room, until it has them deleted." in shown


# The store and the database


def test_only_folders_are_erased():
    for key in ("apart/1", "apart/1/x", "apart/10/x"):
        storage.put(storage.VAULT, key, b"something")
    with pytest.raises(ValueError, match="apart/1 is no folder"):
        storage.erase(storage.VAULT, "apart/1")
    storage.erase(storage.VAULT, "apart/1/")
    assert [storage.size(storage.VAULT, key) for key in ("apart/1", "apart/1/x", "apart/10/x")] == [9, None, 9]


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"state": "deleted"}, "file_deleted_at_iff_deleted"),
        ({"deleted_at": timezone.now()}, "file_deleted_at_iff_deleted"),
        ({"state": "deleted", "deleted_at": timezone.now()}, "file_deleted_at_iff_deleted"),  # its vault's version
    ],
)
def test_a_deleted_file_has_its_day_and_no_version(approved, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ContributionFile.objects.filter(contribution=approved).update(**changes)


def test_the_files_of_what_is_in_use_cannot_be_asked_for(approved):
    with pytest.raises(IntegrityError, match="contribution_deletion_asked_once_closed"), transaction.atomic():
        type(approved).objects.filter(pk=approved.pk).update(deletion_asked_at=timezone.now())


def test_an_agreement_leaves_a_day_to_delete(two_weeks):
    with pytest.raises(IntegrityError, match="agreement_leaves_time_to_delete"), transaction.atomic():
        say(two_weeks, 0)
