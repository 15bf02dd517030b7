"""Looking through the store: damage is found and named, work that waits goes first, leftovers go and nothing else."""

from datetime import timedelta

import pytest
from botocore.stub import Stubber
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import holds, reports
from contributions import services as contributions
from jobs import engine, fixity, health, leftovers, services, tasks, workers
from jobs.lifecycle import Code
from jobs.models import Inspection, Run
from portal import storage
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import documents
from tests import contributing, factories
from tests.races import then

HELD = b"weights that the board has seen" * 100
pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def _a_store_of_its_own(settings):
    """Buckets that hold what one test put there."""
    settings.S3_BUCKET_PREFIX += "-fixity"
    storage.ensure_buckets()
    for bucket in (storage.QUARANTINE, storage.VAULT):
        for one in list(storage.objects(bucket)):
            storage.delete(bucket, one.key)
    for upload in list(storage.open_uploads()):
        storage.abort_multipart(upload.key, upload.upload_id)


@pytest.fixture
def base(programme):
    row = contributing.registered_base(programme)
    storage.put(storage.VAULT, row.storage_key, b"fundus-64")  # as its SHA-256 says
    return row


@pytest.fixture
def file(institution, base, steward):
    """The file of a contribution that waits for the board: in quarantine, and its copy in the vault."""
    return contributing.at_status("review", institution, base, by=steward, content=HELD).files.get()


@pytest.fixture
def later(monkeypatch):
    """A day has passed since everything was stored."""
    monkeypatch.setattr(leftovers, "SETTLED_AFTER", timedelta(0))


def look(**asked) -> Inspection:
    """Let a worker look through the store."""
    run = fixity.queue(**{"by": None, **asked}, now=timezone.now())
    engine.execute(work=tasks.WORK)
    run.refresh_from_db()
    assert (run.status, run.error) == ("succeeded", "")
    return run.inspection


def test_files_that_are_what_was_registered(file):
    found = look()
    assert (found.is_verification, found.file_count, found.byte_count) == (True, 2, len(b"fundus-64") + len(HELD))
    assert (found.fault_count, found.faults, found.finished_at is not None) == (0, [], True)
    assert found.buckets == {
        "quarantine": {"count": 1, "bytes": len(HELD)},
        "vault": {"count": 2, "bytes": len(b"fundus-64") + len(HELD)},
        "releases": {"count": 0, "bytes": 0},
    }
    assert found.leftovers == {}  # the copy in quarantine is younger than a day


def test_a_file_with_other_bytes_and_one_that_is_gone_are_named(file, base, operator, sign_in):
    storage.put(storage.VAULT, base.storage_key, b"fundus-65")
    storage.put(storage.VAULT, file.storage_key, b"another version")  # does no harm: the version is pinned
    assert [(fault["name"], fault["found"]) for fault in look().faults] == [
        ("Base model fundus-64 1", contributing.sha256_hex(b"fundus-65"))
    ]
    storage._s3().delete_object(
        Bucket=storage.bucket_name(storage.VAULT), Key=file.storage_key, VersionId=file.vault_version
    )
    found = look()
    assert [(fault["key"], fault["sha256"], fault["found"]) for fault in found.faults] == [
        (base.storage_key, base.sha256, contributing.sha256_hex(b"fundus-65")),
        (file.storage_key, file.sha256, ""),
    ]
    assert (found.fault_count, found.file_count) == (2, 2)

    assert "files_damaged" in {finding.code for finding in health.findings(now=timezone.now())}
    page = sign_in(operator).get("/ops/storage/").content.decode()
    assert "2 files are missing or have other bytes" in page
    assert f"weights.safetensors of {file.contribution}" in page

    storage.put(storage.VAULT, base.storage_key, b"fundus-64")
    type(file).objects.update(vault_version="")
    assert look().fault_count == 0
    assert "files_damaged" not in {finding.code for finding in health.findings(now=timezone.now())}


def test_evidence_and_ethics_documents_are_read_too(file, institution):
    evidence = reports.add_evidence(file.contribution, run_id=1, attempt=1, name="sheet.png", content=b"a picture")
    document = ethics_document(institution, b"the ethics committee's approval")
    assert (look().file_count, look().fault_count) == (4, 0)
    storage.put(storage.VAULT, evidence.storage_key, b"a pictore")
    storage.delete(storage.QUARANTINE, document.key)
    assert [fault["name"] for fault in look().faults] == [
        f"Evidence sheet.png on {file.contribution}",
        f"Ethics document 1 of {institution}",
    ]


def ethics_document(institution, content: bytes):
    person = factories.person_of(institution)
    facts = {"name": "approval.pdf", "size_bytes": len(content), "sha256": contributing.sha256_hex(content)}
    document, url, headers = documents.announce(institution, **facts, by=person, now=timezone.now())
    assert contributing.put({"url": url, "headers": headers}, content).status == 200
    return documents.complete(document, by=person, now=timezone.now())


# Among other runs


def test_it_goes_back_for_a_check_and_goes_on_where_it_stood(file, base, monkeypatch):
    """The second file is reached when a check of another contribution is queued."""
    monkeypatch.setattr(engine, "TELL_SECONDS", 0.0)
    run = fixity.queue(by=None, now=timezone.now())
    real = storage.digest

    def digest(bucket, key, **more):
        if key == file.storage_key and run.events.count() == 3:
            services.queue_run(Run.Kind.VALIDATE, 7, title="Check C-7", inputs={}, by=None, now=timezone.now())
        return real(bucket, key, **more)

    monkeypatch.setattr(storage, "digest", digest)
    engine.execute(work=tasks.WORK)
    run.refresh_from_db()
    assert (run.status, run.faults, run.events.last().code) == ("queued", 0, Code.GAVE_WAY)
    assert (run.inspection.position, run.inspection.file_count) == (f"base:{base.pk}", 1)

    def look_at(attempt):
        services.succeed(attempt.run, now=timezone.now())

    assert engine.execute(work={Run.Kind.VALIDATE: look_at}).subject_id == 7
    storage.put(storage.VAULT, base.storage_key, b"fundus-65")  # behind it: not read again
    engine.execute(work=tasks.WORK)
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("succeeded", 2)
    assert (run.inspection.file_count, run.inspection.fault_count) == (2, 0)


def test_an_attempt_that_lost_the_run_writes_nothing(file):
    run = fixity.queue(by=None, now=timezone.now())
    held = services.claim(workers.current(), now=timezone.now())
    services.move(held, "running", now=timezone.now(), started_at=timezone.now())
    row = Inspection.objects.create(run=run, is_verification=True)
    Run.objects.filter(pk=run.pk).update(attempt=2)
    late = fixity.Verification(engine.Attempt(held), row)
    late._add("base:1", [], 1, 9)
    late._keep()
    row.refresh_from_db()
    assert (row.position, row.file_count) == ("", 0)


def test_it_stops_when_asked_also_where_nothing_is_there_to_be_read(base):
    storage.delete(storage.VAULT, base.storage_key)
    run = fixity.queue(by=None, now=timezone.now())
    held = services.claim(workers.current(), now=timezone.now())
    attempt = engine.Attempt(held)
    attempt.stop_code = Code.ASKED
    with pytest.raises(services.Superseded):
        fixity.Verification(attempt, Inspection(run=run, is_verification=True)).read()


def test_a_store_that_is_away_while_it_is_listed_is_no_fault_of_the_code(db):
    with Stubber(storage._s3()) as stub:
        stub.add_client_error("list_objects_v2", http_status_code=503)
        with pytest.raises(storage.Unavailable):
            list(storage.objects(storage.VAULT))


def test_one_look_at_a_time_and_the_page_says_which(base, operator, sign_in):
    client = sign_in(operator)
    client.post("/ops/storage/verify/")
    assert "is under way. Ask again" in client.post("/ops/storage/clear/", follow=True).content.decode()
    engine.execute(work=tasks.WORK)
    client.post("/ops/storage/clear/")
    assert "is under way. Ask again" in client.post("/ops/storage/verify/", follow=True).content.decode()
    assert [run.inputs["clear"] for run in Run.objects.order_by("pk")] == [False, True]


def test_the_portal_verifies_every_thirty_days_where_there_are_files(programme):
    tasks.verify_files()
    assert Run.objects.count() == 0
    storage.put(storage.VAULT, contributing.registered_base(programme).storage_key, b"fundus-64")
    tasks.verify_files()
    tasks.verify_files()
    run = Run.objects.get()
    assert (run.kind, run.queue, run.requested_by, run.inputs) == (
        "inspect", "cpu", None, {"verify": True, "clear": False},
    )  # fmt: skip
    engine.execute(work=tasks.WORK)
    assert fixity.queue_due(now=run.created_at + timedelta(days=30, seconds=-1)) is None
    again = fixity.queue_due(now=run.created_at + timedelta(days=30))
    assert again is not None
    assert again.pk != run.pk


def test_a_verification_that_was_stopped_is_asked_for_again_the_next_day(programme, operator):
    storage.put(storage.VAULT, contributing.registered_base(programme).storage_key, b"fundus-64")
    run = fixity.queue_due(now=timezone.now())
    assert run is not None
    services.cancel(run, by=operator, now=timezone.now())
    assert fixity.queue_due(now=run.created_at + timedelta(hours=23)) is None
    again = fixity.queue_due(now=run.created_at + timedelta(days=1))
    assert again is not None
    assert (again.pk != run.pk, again.inputs) == (True, run.inputs)


# What nobody needs


def test_what_nobody_needs_goes_and_everything_else_stays(file, base, steward, operator, sign_in, later):
    open_draft = contributing.draft(file.contribution.institution, base, by=steward, title="Under way")
    under_way = contributing.announce(open_draft, b"on its way", by=steward)
    contributing.send(under_way, b"on its way", by=steward)
    abandoned = storage.begin_multipart("contributions/0/abandoned")
    storage.put(storage.QUARANTINE, "contributions/0/nobody", b"12345")
    storage.put(storage.VAULT, "stray", b"123")
    client = sign_in(operator)
    client.post("/ops/storage/verify/")
    engine.execute(work=tasks.WORK)
    found = Inspection.objects.get().leftovers
    assert {kind: (row["count"], row["bytes"], row["removed"]) for kind, row in found.items()} == {
        "copy": (1, len(HELD), 0), "unknown": (1, 5, 0), "stray": (1, 3, 0), "upload": (1, 0, 0),
    }  # fmt: skip
    assert found["unknown"]["examples"] == ["quarantine/contributions/0/nobody"]

    assert (
        "Files in quarantine whose checked copy is in the vault" in client.get("/ops/storage/clear/").content.decode()
    )
    assert client.post("/ops/storage/clear/").url == "/ops/storage/"
    engine.execute(work=tasks.WORK)
    newest = fixity.newest()
    assert {kind: row["removed"] for kind, row in newest.leftovers.items()} == {
        "copy": 1, "unknown": 1, "stray": 0, "upload": 1,
    }  # fmt: skip
    assert (newest.is_verification, newest.file_count) == (False, 0)
    lines = sorted(line.text for line in newest.run.log.filter(text__startswith="Removing"))
    assert lines == [
        "Removing quarantine/contributions/0/abandoned.",
        "Removing quarantine/contributions/0/nobody.",
        f"Removing quarantine/{file.storage_key}.",
    ]
    assert storage.size(storage.QUARANTINE, file.storage_key) is None
    assert storage.digest(storage.VAULT, file.storage_key, version=file.vault_version) == file.sha256
    assert storage.get(storage.VAULT, "stray") == b"123"
    assert contributions.parts_uploaded(under_way) == [1]
    assert [upload.upload_id for upload in storage.open_uploads()] == [under_way.upload_id] != [abandoned]
    event = AuditEvent.objects.get(verb="store.cleared")
    assert (event.actor_id, event.facts["removed"]) == (operator.pk, 3)
    assert contributions.complete_file(under_way, sha256="0" * 64, by=steward, now=timezone.now()).state == "uploaded"


def test_what_is_younger_than_a_day_is_left_alone(file):
    storage.put(storage.QUARANTINE, "contributions/0/new", b"12345")
    storage.begin_multipart("contributions/0/begun")
    assert look(verify=False, clear=True).leftovers == {}
    assert storage.get(storage.QUARANTINE, "contributions/0/new") == b"12345"


def test_the_copy_in_quarantine_stays_where_that_of_the_vault_is_not_sound(file, later):
    storage._s3().delete_object(
        Bucket=storage.bucket_name(storage.VAULT), Key=file.storage_key, VersionId=file.vault_version
    )
    row = look(verify=False, clear=True).leftovers["copy"]
    assert (row["count"], row["removed"]) == (1, 0)
    assert storage.get(storage.QUARANTINE, file.storage_key) == HELD


def test_a_held_file_stays_in_quarantine_too(file, later, operator):
    hold = holds.place(file.contribution, reason="Court order 4 of 2026.", by=operator, now=timezone.now())
    assert look(verify=False, clear=True).leftovers == {}
    assert storage.get(storage.QUARANTINE, file.storage_key) == HELD
    holds.release(hold, reason="The court has ruled.", by=operator, now=timezone.now())
    assert look(verify=False, clear=True).leftovers["copy"]["removed"] == 1


def test_a_file_that_is_held_while_its_copy_is_read_stays_in_quarantine_too(file, later, operator, monkeypatch):
    held = {"reason": "A court asks for it.", "by": operator, "now": timezone.now()}
    then(monkeypatch, leftovers, "_is_in_vault", lambda: holds.place(file.contribution, **held))
    assert look(verify=False, clear=True).leftovers["copy"]["removed"] == 0
    assert storage.get(storage.QUARANTINE, file.storage_key) == HELD


def test_what_an_earlier_attempt_removed_is_counted_too(file, later, monkeypatch):
    """The first attempt gives way after one removal; both stand in the audit log."""
    monkeypatch.setattr(engine, "TELL_SECONDS", 0.0)
    storage.put(storage.QUARANTINE, "contributions/0/nobody", b"12345")
    run = fixity.queue(verify=False, clear=True, by=None, now=timezone.now())
    real = storage.delete

    def delete(bucket, key):
        real(bucket, key)
        if run.events.filter(status="leased").count() == 1:
            services.queue_run(Run.Kind.VALIDATE, 7, title="Check C-7", inputs={}, by=None, now=timezone.now())

    monkeypatch.setattr(storage, "delete", delete)
    engine.execute(work=tasks.WORK)
    assert (run.events.last().code, Inspection.objects.get().removed_count) == (Code.GAVE_WAY, 1)
    engine.execute(work={Run.Kind.VALIDATE: lambda attempt: services.succeed(attempt.run, now=timezone.now())})
    engine.execute(work=tasks.WORK)
    assert AuditEvent.objects.get(verb="store.cleared").facts["removed"] == 2
    assert list(storage.objects(storage.QUARANTINE)) == []


def test_a_file_that_is_being_checked_stays_in_quarantine(institution, base, steward, later):
    file = contributing.at_status("validating", institution, base, by=steward, content=HELD).files.get()
    contributions.promote_files(file.contribution_id)
    assert look(verify=False, clear=True).leftovers == {}
    assert storage.get(storage.QUARANTINE, file.storage_key) == HELD


# Who


def test_only_an_operator_has_it_looked_through(auditor, sign_in, base):
    with pytest.raises(NotAllowed):
        fixity.queue(by=auditor, now=timezone.now())
    client = sign_in(auditor)
    assert "Verify every file now" not in client.get("/ops/storage/").content.decode()
    assert client.post("/ops/storage/clear/").status_code == 403
    assert Run.objects.count() == 0


@pytest.mark.parametrize(
    ("broken", "constraint"),
    [
        ({"is_verification": False, "position": "base:1"}, "inspection_reads_if_verification"),
        ({"is_verification": False, "file_count": 1}, "inspection_reads_if_verification"),
        ({"is_verification": True, "fault_count": 1}, "inspection_faults_are_counted"),
        ({"is_verification": True, "faults": [{}]}, "inspection_faults_are_counted"),
    ],
)
def test_the_database_keeps_the_rules_of_an_inspection(base, broken, constraint):
    run = fixity.queue(by=None, now=timezone.now())
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Inspection.objects.create(run=run, **broken)
