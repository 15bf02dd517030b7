"""The tree over the log: who builds it, that it is whole at every moment, and what the database refuses."""

import json
from datetime import timedelta
from threading import Barrier, Thread

import psycopg
import pytest
from botocore.exceptions import ClientError
from django.db import DatabaseError, connection, transaction

from jobs import tasks
from jobs.kit.merkle import leaf_hash
from portal import storage
from portal.audit import sequencer, services, tree
from portal.audit.models import AuditEvent, AuditLeaf, AuditNode, AuditPending, Checkpoint
from tests import factories
from tests.rfc6962 import mth
from tests.trees import checkpoint, exported, happen

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def person(log_origin):
    found = factories.user("Ada")
    sequencer.run(now=found.date_joined)
    return found


def leaves() -> list[bytes]:
    return [bytes(value) for value in AuditLeaf.objects.order_by("index").values_list("hash", flat=True)]


def in_thread(work) -> None:
    """Run with a connection of its own."""

    def run():
        try:
            work()
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()


# Lines and hashes


def test_the_line_of_an_event_is_these_bytes(person):
    """Whoever holds a checkpoint holds these bytes: a change of this test breaks every log there is."""
    (event,) = happen(person)
    sequencer.sequence()
    event.refresh_from_db()
    (line,) = [text for text in exported(tree.size()).decode().splitlines() if json.loads(text)["id"] == event.pk]
    assert line == (
        f'{{"at": "{event.at:%Y-%m-%dT%H:%M:%S.%fZ}", "id": {event.pk}, "verb": "token.created", '
        f'"facts": {{"number": 0}}, "nonce": "{event.nonce}", "subject": "{{person:{person.pk}}}", '
        f'"actor_id": {person.pk}, "subject_id": {person.pk}, '
        f'"subject_type": "user", "institution_id": null}}'
    )


def test_two_equal_events_have_different_hashes(person):
    for _ in range(2):
        with transaction.atomic():
            services.record("token.created", person, by=person)
    sequencer.sequence()
    assert len(set(leaves())) == tree.size()


def test_odd_facts_do_not_stop_the_sequencer(person):
    with transaction.atomic():
        services.record(
            "token.created", person, by=person, tiny=1e-7, text="line\nbreak \u2028 \U0001f441 \\", none=None
        )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_auditevent (at, verb, subject_type, subject_id, subject, facts) VALUES "
            "(now(), 'x.y', 'z', 1, '', '{\"long\": 0.1234567890123456789012345, \"b\": 1e400, \"a\": 1.0}')"
        )
    before = tree.size()
    assert sequencer.sequence() == 2
    lines = exported(tree.size()).split(b"\n")[:-1]
    assert [leaf_hash(line) for line in lines] == leaves()
    assert b"0.1234567890123456789012345" in lines[-1]
    assert len(lines) == before + 2


def test_the_tree_is_that_of_rfc_6962_at_every_size(person):
    happen(person, 21)
    sequencer.sequence()
    found = leaves()
    assert [tree.root(size) for size in range(len(found) + 1)] == [mth(found[:size]) for size in range(len(found) + 1)]
    assert AuditNode.objects.count() == sum(len(found) >> level for level in range(1, 10))


# The sequencer


def test_events_enter_in_the_order_of_their_numbers_once(person):
    events = happen(person, 5)
    assert list(AuditPending.objects.values_list("pk", flat=True)) == [event.pk for event in events]
    assert (sequencer.sequence(), sequencer.sequence()) == (5, 0)
    assert list(AuditLeaf.objects.values_list("event_id", flat=True))[-5:] == [event.pk for event in events]
    assert not AuditPending.objects.exists()


def test_an_event_that_commits_late_is_not_lost(person):
    """The lower number commits after the higher one is in the tree."""
    late: list[AuditEvent] = []
    begun, sequenced = Barrier(2), Barrier(2)

    def slow():
        with transaction.atomic():
            late.append(services.record("token.created", person, by=person))
            begun.wait(10)
            sequenced.wait(10)
        connection.close()

    thread = Thread(target=slow)
    thread.start()
    begun.wait(10)
    (quick,) = happen(person)
    sequencer.sequence()
    sequenced.wait(10)
    thread.join()
    assert late[0].pk < quick.pk
    assert sequencer.sequence() == 1
    assert list(AuditLeaf.objects.values_list("event_id", flat=True))[-2:] == [quick.pk, late[0].pk]


def test_a_change_that_fails_leaves_no_event_behind(person):
    before = tree.size()

    def change():
        with transaction.atomic():
            services.record("token.created", person, by=person)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert (AuditPending.objects.count(), sequencer.sequence(), tree.size()) == (0, 0, before)


def test_a_second_sequencer_does_nothing_while_one_is_at_work(person):
    happen(person, 3)
    second: list[int] = []
    with transaction.atomic():
        assert sequencer.sequence() == 3
        in_thread(lambda: second.append(sequencer.sequence()))
    assert second == [0]
    assert not AuditPending.objects.exists()


def test_eight_sequencers_at_once_build_one_tree(person, now):
    happen(person, 40)
    start = Barrier(8)

    def work():
        start.wait(10)
        sequencer.run(now=now)
        connection.close()

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sequencer.run(now=now)
    assert tree.root(tree.size()) == mth(leaves())
    assert AuditLeaf.objects.count() == AuditEvent.objects.count()
    assert {row.root == tree.root(row.size) for row in Checkpoint.objects.all()} == {True}


def test_a_crash_within_a_batch_leaves_nothing_half_done(person):
    happen(person, 3)
    before = (tree.size(), AuditNode.objects.count())

    def batch():
        with transaction.atomic():
            sequencer.sequence()
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        batch()
    assert (tree.size(), AuditNode.objects.count(), AuditPending.objects.count()) == (*before, 3)
    assert sequencer.sequence() == 3


# Checkpoints


def test_no_event_makes_no_checkpoint(log_origin, now, transactional_db):
    AuditEvent.objects.count()
    sequencer.run(now=now)
    assert Checkpoint.objects.count() == 0


def test_a_checkpoint_is_due_after_60_seconds_or_100_events(person, now):
    happen(person)
    first = checkpoint(now=now)
    happen(person, 99)
    sequencer.run(now=first.at + timedelta(seconds=59))
    assert Checkpoint.objects.count() == 1
    happen(person)
    sequencer.run(now=first.at + timedelta(seconds=59))
    assert [row.size for row in Checkpoint.objects.all()] == [first.size + 100, first.size]
    happen(person)
    sequencer.run(now=first.at + timedelta(seconds=59 + 60))
    sequencer.run(now=first.at + timedelta(days=1))  # nothing new
    assert [row.size for row in Checkpoint.objects.all()] == [first.size + 101, first.size + 100, first.size]


def test_the_note_lies_in_the_bucket_where_nobody_can_delete_it(person, now):
    happen(person)
    found = checkpoint(now=now)
    where = {"Bucket": storage.bucket_name(storage.RELEASES), "Key": sequencer.key_of(found.size)}
    assert storage.get(storage.RELEASES, sequencer.key_of(found.size)).decode() == found.note
    head = storage._s3().head_object(**where)
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert head["ObjectLockRetainUntilDate"].date() == (found.at + timedelta(days=3650)).date()
    with pytest.raises(ClientError, match="AccessDenied|WORM|Access Denied"):
        storage._s3().delete_object(**where, VersionId=head["VersionId"], BypassGovernanceRetention=True)
    assert storage.get(storage.RELEASES, sequencer.key_of(found.size)).decode() == found.note


def test_a_crash_between_bucket_and_row_is_repaired_by_the_next_run(person, now, monkeypatch):
    happen(person, 2)
    sequencer.sequence()

    def crash(checkpoint):
        raise RuntimeError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(sequencer, "_record", crash)
        with pytest.raises(RuntimeError, match="crash"):
            sequencer.publish(now=now)
    assert Checkpoint.objects.count() == 0
    found = sequencer.publish(now=now + timedelta(seconds=5))
    assert storage.get(storage.RELEASES, sequencer.key_of(found.size)).decode() == found.note
    assert sequencer.publish(now=now + timedelta(seconds=5)) is None


def test_a_store_that_is_down_stops_no_event(person, now, settings, caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_s3", lambda: storage._client("http://127.0.0.1:1"))
        happen(person, 3)
        sequencer.run(now=now)
    assert "tries again" in caplog.text
    assert (Checkpoint.objects.count(), AuditPending.objects.count()) == (0, 0)
    sequencer.run(now=now)
    assert [row.size for row in Checkpoint.objects.all()] == [tree.size()]


def test_a_rewritten_log_is_not_published_over_the_one_in_the_bucket(person, now, caplog):
    happen(person, 2)
    size = tree.size() + 2
    text = f"{sequencer.settings.AUDIT_ORIGIN}\n{size}\n{'A' * 43}=\n\n"
    storage.put_once(
        storage.RELEASES,
        sequencer.key_of(size),
        text.encode(),
        retain_until=now + timedelta(days=36500),
        content_type="text/plain",
    )
    sequencer.run(now=now)
    assert "is not that of this database" in caplog.text
    assert Checkpoint.objects.count() == 0


def test_the_task_may_be_delivered_twice(person):
    happen(person, 2)
    tasks.sequence_log()
    tasks.sequence_log()
    assert [row.size for row in Checkpoint.objects.all()] == [tree.size()]


# What the database refuses, of the owner too


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "INSERT INTO audit_auditleaf SELECT max(index) + 1, %(event)s, sha256('x') FROM audit_auditleaf",
            "hash of a leaf",
        ),
        (
            "INSERT INTO audit_auditleaf SELECT max(index) + 1, 999999, sha256('x') FROM audit_auditleaf",
            "hash of a leaf",
        ),
        (
            "INSERT INTO audit_auditleaf SELECT (SELECT max(index) + 2 FROM audit_auditleaf), id, audit_leaf_hash(e) "
            "FROM audit_auditevent e WHERE id = %(event)s",
            "at the end",
        ),
        (
            "INSERT INTO audit_auditleaf "
            "SELECT -1, id, audit_leaf_hash(e) FROM audit_auditevent e WHERE id = %(event)s",
            "at the end",
        ),
        ("UPDATE audit_auditleaf SET hash = hash", "append-only"),
        ("DELETE FROM audit_auditleaf", "append-only"),
        ("UPDATE audit_auditnode SET hash = hash", "append-only"),
        ("DELETE FROM audit_auditnode", "append-only"),
        ("UPDATE audit_checkpoint SET note = note", "append-only"),
        ("DELETE FROM audit_checkpoint", "append-only"),
        ("INSERT INTO audit_checkpoint SELECT size - 1, root, note, at FROM audit_checkpoint", "larger"),
        ("INSERT INTO audit_checkpoint SELECT size + 1, root, note, at FROM audit_checkpoint", "states the root"),
        (
            "INSERT INTO audit_checkpoint "
            "SELECT size + 2, audit_range_hash(0, size + 2), note, at FROM audit_checkpoint",
            "states the root",
        ),
        ("INSERT INTO audit_auditevent (id, at) VALUES (5, now())", "GENERATED ALWAYS"),
    ],
)
def test_the_tree_refuses_what_is_not_so(person, now, statement, reason):
    checkpoint(now=now) if tree.size() else happen(person) and checkpoint(now=now)
    happen(person, 2)
    sequencer.sequence()
    (event,) = happen(person)
    with pytest.raises(DatabaseError, match=reason), connection.cursor() as cursor:
        cursor.execute(statement, {"event": event.pk})


def test_an_event_that_is_in_the_tree_is_not_added_again(person):
    (event,) = happen(person)
    sequencer.sequence()
    statement = (
        "INSERT INTO audit_auditleaf SELECT (SELECT max(index) + 1 FROM audit_auditleaf), id, audit_leaf_hash(e) "
        "FROM audit_auditevent e WHERE id = %s"
    )
    with pytest.raises(DatabaseError) as refusal, connection.cursor() as cursor:
        cursor.execute(statement, [event.pk])
    assert isinstance(refusal.value.__cause__, psycopg.errors.UniqueViolation)
