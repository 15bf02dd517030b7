"""The log against whoever speaks SQL: as the role of the site nothing can be changed, as a superuser nothing unseen."""

import base64
import json
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from portal import signing
from portal.audit import sequencer, tree
from portal.audit.models import AuditEvent, Checkpoint
from portal.embedded.state import read_secrets
from tests import factories
from tests.trees import checkpoint, exported, happen

pytestmark = pytest.mark.django_db(transaction=True)
REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation, psycopg.errors.GeneratedAlways)


@pytest.fixture
def person(log_origin):
    return factories.user("Ada")


# As the role of web and workers


@pytest.fixture
def attacker(person, now) -> Iterator[psycopg.Connection]:
    """A connection as the role of web and workers, to a database with a log, its tree and a checkpoint."""
    happen(person, 5)
    checkpoint(now=now)
    happen(person)
    call_command("grant_rights", role="portal_app")
    address = urlsplit(os.environ["APP_DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    with closing(psycopg.connect(urlunsplit(address), autocommit=True)) as as_the_site:
        yield as_the_site


ATTACKS = {
    "update": "UPDATE audit_auditevent SET verb = 'role.given'",
    "delete": "DELETE FROM audit_auditevent",
    "truncate": "TRUNCATE audit_auditevent, audit_auditleaf, audit_auditnode, audit_checkpoint, audit_auditpending",
    "disable the trigger": "ALTER TABLE audit_auditevent DISABLE TRIGGER ALL",
    "drop the trigger": "DROP TRIGGER append_only ON audit_auditevent",
    "forge an id": "INSERT INTO audit_auditevent (id, at, verb, subject_type, subject_id, subject, facts) "
    "OVERRIDING SYSTEM VALUE VALUES (3, now(), 'role.given', 'user', 1, '', '{}')",
    "forge a hash": "INSERT INTO audit_auditleaf (index, event_id, hash) SELECT (SELECT max(index) + 1 FROM "
    "audit_auditleaf), event_id, sha256('forged') FROM audit_auditpending LIMIT 1",
    "set session_replication_role": "SET session_replication_role = replica",
    "drop an event from the tree's queue": "DELETE FROM audit_auditpending",
    "write a node": "INSERT INTO audit_auditnode (level, index, hash) VALUES (9, 0, sha256('x'))",
    "replace the function": "CREATE OR REPLACE FUNCTION audit_leaf_hash(event audit_auditevent) RETURNS bytea "
    "LANGUAGE sql AS 'SELECT sha256(''x'')'",
    "change a checkpoint": "UPDATE audit_checkpoint SET note = 'x'",
    "upsert": "INSERT INTO audit_auditleaf SELECT * FROM audit_auditleaf ON CONFLICT (index) DO UPDATE SET hash = 'x'",
}


def everything() -> list[list[tuple]]:
    tables = ("audit_auditevent", "audit_auditleaf", "audit_auditnode", "audit_checkpoint", "audit_auditpending")
    with connection.cursor() as cursor:
        found = []
        for table in tables:
            cursor.execute(
                f"SELECT * FROM {table} ORDER BY 1, 2" if table != "audit_auditpending" else "TABLE " + table
            )
            found.append(cursor.fetchall())
        return found


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_role_of_the_site_changes_nothing_of_the_log(attacker, attack):
    before = everything()
    with pytest.raises(REFUSED):
        attacker.execute(ATTACKS[attack])
    assert everything() == before


def test_the_role_of_the_site_adds_events_and_builds_the_tree(attacker, person):
    """What the refusals above must not stop."""
    attacker.execute(
        "INSERT INTO audit_auditevent (at, verb, subject_type, subject_id, subject, facts) "
        "VALUES (now(), 'token.created', 'user', 1, '', '{}')"
    )
    attacker.execute(sequencer.ADD_LEAVES, {"size": tree.size(), "batch": 10})
    assert tree.size() == AuditEvent.objects.count()


# As a superuser, who also has the portal's signing key


@pytest.fixture
def superuser(person) -> Iterator[None]:
    """The tests' own role is a superuser meanwhile."""
    address = urlsplit(os.environ["DATABASE_URL"])
    password = read_secrets(Path(os.environ["TEST_SERVICES"])).postgres_superuser_password
    where = {"host": address.hostname, "port": address.port, "dbname": "postgres"}
    with closing(psycopg.connect(**where, user="postgres", password=password, autocommit=True)) as server:
        server.execute("SELECT pg_advisory_lock(1)")  # processes beside this one have the same role
        server.execute(f"ALTER ROLE {address.username} SUPERUSER")
        yield
        server.execute(f"ALTER ROLE {address.username} NOSUPERUSER")


class Tampering:
    """One database with a log, an earlier checkpoint that somebody outside keeps, and ways to falsify it."""

    def __init__(self, rng: random.Random, kept: Checkpoint) -> None:
        self.rng, self.kept = rng, kept
        self.size = tree.size()

    def run(self, name: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger fires
            getattr(self, name)(cursor)

    def _event(self, below: int) -> int:
        """Return the id of a random event among the first leaves."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT event_id FROM audit_auditleaf WHERE index = %s", [self.rng.randrange(below)])
            return cursor.fetchone()[0]

    def edit(self, cursor) -> None:
        column, value = self.rng.choice(
            [("verb", "role.given"), ("actor_id", 424242), ("subject", "another"), ("subject_id", 424242),
             ("institution_id", 424242), ("facts", json.dumps({"number": -1})), ("at", "2020-01-01T00:00:00Z"),
             ("nonce", "00000000-0000-4000-8000-000000000000"), ("subject_type", "nobody")]
        )  # fmt: skip
        cursor.execute(f"UPDATE audit_auditevent SET {column} = %s WHERE id = %s", [value, self._event(self.size)])

    def delete(self, cursor) -> None:
        cursor.execute("DELETE FROM audit_auditevent WHERE id = %s", [self._event(self.size)])

    def delete_with_its_leaf(self, cursor) -> None:
        """Those that follow move up, as if it had never been."""
        place = self.rng.randrange(self.size)
        cursor.execute("DELETE FROM audit_auditleaf WHERE index = %s RETURNING event_id", [place])
        cursor.execute("DELETE FROM audit_auditevent WHERE id = %s", [cursor.fetchone()[0]])
        cursor.execute("UPDATE audit_auditleaf SET index = -index WHERE index > %s", [place])
        cursor.execute("UPDATE audit_auditleaf SET index = -index - 1 WHERE index < 0")

    def insert(self, cursor) -> None:
        place = self.rng.randrange(self.size)
        cursor.execute("UPDATE audit_auditleaf SET index = -index - 1 WHERE index >= %s", [place])
        cursor.execute("UPDATE audit_auditleaf SET index = -index WHERE index < 0")
        cursor.execute(
            "INSERT INTO audit_auditevent (at, verb, subject_type, subject_id, subject, facts) VALUES "
            "(now(), 'vote.cast', 'motion', 1, 'M-1', '{}') RETURNING id"
        )
        cursor.execute(
            "INSERT INTO audit_auditleaf SELECT %s, id, audit_leaf_hash(e) FROM audit_auditevent e WHERE id = %s",
            [place, cursor.fetchone()[0]],
        )

    def swap(self, cursor) -> None:
        one, two = self.rng.sample(range(self.size), 2)
        cursor.execute("SELECT index, event_id, hash FROM audit_auditleaf WHERE index IN (%s, %s)", [one, two])
        rows = cursor.fetchall()
        cursor.execute("DELETE FROM audit_auditleaf WHERE index IN (%s, %s)", [one, two])
        for (index, _, _), (_, event, value) in zip(rows, rows[::-1], strict=True):
            cursor.execute("INSERT INTO audit_auditleaf VALUES (%s, %s, %s)", [index, event, value])

    def cut_the_tail(self, cursor) -> None:
        self._cut(cursor, self.rng.randrange(1, self.size))

    def _cut(self, cursor, size: int) -> None:
        cursor.execute("DELETE FROM audit_auditleaf WHERE index >= %s RETURNING event_id", [size])
        cursor.execute("DELETE FROM audit_auditevent WHERE id = ANY(%s)", [[row[0] for row in cursor.fetchall()]])

    def restore_an_old_backup(self, cursor) -> None:
        """The database as it was before the kept checkpoint; it lives on and signs anew."""
        self._cut(cursor, self.rng.randrange(1, self.kept.size))
        self._live_on(cursor)
        self._sign_anew(cursor)

    def rewrite_everything(self, cursor) -> None:
        """One event that is under the kept checkpoint is another; every hash and a new checkpoint agree with it."""
        cursor.execute("UPDATE audit_auditevent SET actor_id = 424242 WHERE id = %s", [self._event(self.kept.size)])
        self._sign_anew(cursor)

    def _live_on(self, cursor) -> None:
        for number in range(self.rng.randrange(0, 2 * self.size)):
            cursor.execute(
                "INSERT INTO audit_auditevent (at, verb, subject_type, subject_id, subject, facts) VALUES "
                "(now(), 'vote.cast', 'motion', %s, 'M', '{}') RETURNING id",
                [number],
            )
            cursor.execute(
                "INSERT INTO audit_auditleaf SELECT coalesce(max(index) + 1, 0), %s, '' FROM audit_auditleaf",
                cursor.fetchone(),
            )

    def _sign_anew(self, cursor) -> None:
        """Build the tree again by its own triggers, and sign it with the portal's key."""
        cursor.execute("SELECT event_id FROM audit_auditleaf ORDER BY index")
        events = [row[0] for row in cursor.fetchall()]
        cursor.execute("DELETE FROM audit_auditleaf; DELETE FROM audit_auditnode; DELETE FROM audit_checkpoint")
        cursor.execute("SET LOCAL session_replication_role = origin")
        cursor.execute(
            "INSERT INTO audit_auditleaf SELECT place - 1, e.id, audit_leaf_hash(e) FROM unnest(%s::bigint[]) "
            "WITH ORDINALITY AS given (id, place) JOIN audit_auditevent e USING (id) ORDER BY place",
            [events],
        )
        size = len(events)
        root = base64.b64encode(tree.root(size)).decode()
        note = signing.sign_note(f"{settings.AUDIT_ORIGIN}\n{size}\n{root}\n", name=settings.AUDIT_ORIGIN)
        cursor.execute("INSERT INTO audit_checkpoint VALUES (%s, %s, %s, now())", [size, tree.root(size), note])


TAMPERINGS = [
    "edit", "delete", "delete_with_its_leaf", "insert", "swap", "cut_the_tail", "restore_an_old_backup",
    "rewrite_everything",
]  # fmt: skip


def test_a_thousand_tamperings_by_a_superuser_are_all_found(person, superuser, now, verifier):
    happen(person, 20)
    kept = checkpoint(now=now)
    happen(person, 25)
    newest = checkpoint(now=now)
    rng = random.Random(6962)
    honest = verifier.verdict(exported(newest.size), checkpoint=newest.note.encode(), earlier=[kept.note.encode()])
    found, tried = 0, dict.fromkeys(TAMPERINGS, 0)
    for _ in range(1000):
        name = rng.choice(TAMPERINGS)
        tried[name] += 1
        with transaction.atomic():
            Tampering(rng, kept).run(name)
            shown = Checkpoint.objects.latest("size")
            export = exported(max(shown.size, tree.size()))
            verdict = verifier.verdict(export, checkpoint=shown.note.encode(), earlier=[kept.note.encode()])
            found += verdict == "fail"
            transaction.set_rollback(True)
    assert (honest, found) == ("pass", 1000)
    assert min(tried.values()) >= 100


def test_without_an_earlier_checkpoint_a_full_rewrite_is_not_found(person, superuser, now, verifier):
    """Why somebody outside must keep one: it is what the tamperings above are found by."""
    happen(person, 5)
    kept = checkpoint(now=now)
    with transaction.atomic():
        Tampering(random.Random(1), kept).run("rewrite_everything")
        shown = Checkpoint.objects.latest("size")
        assert verifier.verdict(exported(shown.size), checkpoint=shown.note.encode()) == "pass"
        transaction.set_rollback(True)
