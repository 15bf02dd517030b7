"""
A site of 0.1.0 is upgraded to today with its data, through the states in between.

Versions and signatures of 0.1.0 arrive whole in the library and its cases; motions with their programme, the rule in
the new words, the count and a number; runs at work have a worker that is gone, so that the sweep takes them over; files
are known by their own hash, as nobody knows that of their parts.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings

OLD_ROWS = """
INSERT INTO accounts_user (id, email, password, name, is_active, is_staff, is_superuser, date_joined)
VALUES (1, 'a@example.org', '!', 'Asha Official', true, false, false, now());
INSERT INTO programmes_programme (id, slug, name, modality, description, created_at)
VALUES (1, 'retina', 'Retina', 'fundus', '', now()), (2, 'chest', 'Chest', 'x-ray', '', now());
INSERT INTO institutions_institution
    (id, slug, name, local_name, ror_id, country, subregion, city, website, kind, gpu, expertise, images_may_leave,
     synthetic_may_leave, weights_may_leave, regulation_note, ethics_reference, status, status_since, decision_reason,
     created_at)
SELECT id, 'i' || id, 'Hospital ' || id, '', '', 'KE', '014', '', '', 'hospital', 'none', 'none', 'yes', 'yes', 'yes',
    '', '', 'member', now(), '', now() FROM generate_series(1, 2) AS id;
INSERT INTO agreements_agreementversion (id, programme_id, version, title, text, sha256, change_note, published_at)
SELECT id, programme, version, title, text, encode(sha256(convert_to(text, 'UTF8')), 'hex'), 'note',
    timestamptz '2026-01-01' + id * interval '1 day'
FROM (VALUES (1, 1, 1, 'DUA one', E'The Consortium deletes its files\nfrom storage within 30 days.'),
    (2, 1, 2, 'DUA two', 'DUA two'), (3, 2, 1, 'Chest DUA', 'Chest DUA')) AS v (id, programme, version, title, text);
INSERT INTO audit_auditevent (id, at, actor, verb, subject_type, subject_id, subject, facts)
VALUES (71, now(), 'x', 'agreement.signed', 'signature', 1, 'x', '{}'),
       (72, now(), 'x', 'agreement.signed', 'signature', 2, 'x', '{}');
INSERT INTO agreements_signature
    (id, agreement_id, institution_id, signer_id, typed_name, role, meaning, text_sha256, authentication, user_agent,
     signed_at, receipt_code)
SELECT s.id, agreement, institution, 1, 'Asha Official', 'signing_official', 'I sign.', v.sha256, 'password', 'agent',
    timestamptz '2026-02-01' + s.id * interval '1 day', repeat(s.id::text, 20)
FROM (VALUES (1, 1, 1), (2, 2, 1), (3, 2, 2)) AS s (id, agreement, institution)
JOIN agreements_agreementversion v ON v.id = agreement;
"""


MIGRATE = """
import sys, django
django.setup()
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
executor = MigrationExecutor(connection)
targets = [tuple(target.split(".")) for target in sys.argv[1:]]
targets = [(app, next(name for at, name in executor.loader.graph.nodes if at == app and name.startswith(number)))
           for app, number in targets]
executor.migrate(targets or executor.loader.graph.leaf_nodes())
"""


def migrate(database: str, *targets: str) -> None:
    """Bring a database to these migrations, such as `board.0003`, or to the newest, in one process."""
    subprocess.run(
        [sys.executable, "-c", MIGRATE, *targets],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": database, "MIGRATE_DATABASE_URL": database},
        check=True,
        timeout=600,  # for a hang alone: beside a full suite 120 s were too few
    )


def columns(connection: psycopg.Connection, table: str) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s AND is_nullable = 'NO' "
        "AND column_default IS NULL AND is_identity = 'NO'",
        [table],
    ).fetchall()


BLANK = {"boolean": "false", "jsonb": "'[]'", "integer": "0", "smallint": "1", "bigint": "1"}


def insert(connection: psycopg.Connection, table: str, **given: object) -> None:
    """Add a row; what is not given and must be there is blank."""
    wanted = {name: BLANK.get(kind, "now()" if kind.startswith("timestamp") else "''") for name, kind in
              columns(connection, table)}  # fmt: skip
    names = [*given, *(name for name in wanted if name not in given)]
    values = [*["%s"] * len(given), *(wanted[name] for name in names[len(given) :])]
    connection.execute(
        f"INSERT INTO {table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values)})",
        list(given.values()),
    )


@pytest.fixture(scope="module")
def upgraded() -> Iterator[str]:
    """The address of a database that began empty at 0.1.0; at each step rows of that time are added."""
    parts, name = urlsplit(os.environ["DATABASE_URL"]), f"upgraded_{os.getpid()}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        database = urlunsplit(parts._replace(path=f"/{name}"))
        for targets, add in STEPS:
            migrate(database, *targets)
            with psycopg.connect(database) as connection:
                add(connection)
        migrate(database)
        yield database
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def add_signatures(connection: psycopg.Connection) -> None:
    connection.execute(OLD_ROWS)


def add_motions(connection: psycopg.Connection) -> None:
    insert(connection, "institutions_institution", id=11, slug="lake", name="Lake Hospital", country="KE",
           subregion="014", kind="hospital", status="applied", gpu="none", expertise="none",
           images_may_leave="yes", synthetic_may_leave="yes", weights_may_leave="yes")  # fmt: skip
    for pk, status, percent, hour in (
        (1, "open", 50, 0),
        (2, "carried", 66, 2),
        (3, "lost", 50, 1),
        (4, "lapsed", 100, 3),
    ):
        closed = None if status == "open" else f"2026-01-01T0{hour}:00Z"
        insert(connection, "board_motion", id=pk, kind="admit_institution", title=f"Motion {pk}", institution_id=11,
               quorum=3, threshold_percent=percent, status=status, closed_at=closed, round=pk)  # fmt: skip
    insert(connection, "audit_auditevent", id=7, verb="motion.carried", subject_type="motion", subject_id=2,
           facts='{"votes_for": 4, "votes_against": 1, "abstentions": 0, "eligible": 5}')  # fmt: skip


def add_runs(connection: psycopg.Connection) -> None:
    held = {"lease_expires_at": "2026-01-01T00:00:00Z", "worker": "gpu-7:4711", "attempt": 2}
    insert(connection, "jobs_run", id=1, kind="validate", queue="cpu", subject_id=1, status="running", **held)
    insert(connection, "jobs_run", id=2, kind="evaluate", queue="gpu", subject_id=1, status="queued", attempt=0)
    ended = {"finished_at": "2026-01-01T00:00:00Z", "worker": "gpu-7:4711"}
    insert(
        connection,
        "jobs_run",
        id=3,
        kind="validate",
        queue="cpu",
        subject_id=1,
        status="succeeded",
        attempt=1,
        **ended,
    )


def add_files(connection: psycopg.Connection) -> None:
    insert(connection, "contributions_contribution", id=1, kind="images", status="draft", programme_id=1,
           institution_id=1, created_by_id=1, training_card="{}")  # fmt: skip
    for pk, sha256, state, uploaded in ((1, "a" * 64, "uploading", None), (2, "b" * 64, "uploaded", "2026-01-01")):
        insert(connection, "contributions_contributionfile", id=pk, contribution_id=1, name=f"{pk}", sha256=sha256,
               size_bytes=1, storage_key=f"{pk}", state=state, uploaded_at=uploaded)  # fmt: skip


STEPS = [
    (("agreements.0002", "contributions.0001"), add_signatures),
    (("board.0003", "audit.0003", "institutions.0004"), add_motions),
    (("jobs.0001", "institutions.0005", "programmes.0003"), add_runs),
    (("contributions.0013",), add_files),
]


def test_signatures_of_the_first_release_are_carried_over(upgraded):
    with psycopg.connect(upgraded) as connection:
        agreements = connection.execute(
            "SELECT programme_id, slug, title FROM agreements_agreement ORDER BY programme_id"
        ).fetchall()
        cases = connection.execute(
            "SELECT receipt_code, institution_id, v.version, status, r.text, text_sha256 = v.sha256, activated_at, "
            "ended_at "
            "FROM agreements_signingrequest r JOIN agreements_agreementversion v ON v.id = agreement_version_id "
            "ORDER BY receipt_code"
        ).fetchall()
        signatures = connection.execute(
            "SELECT receipt_code, position, printed_name, institution_name, document_id, document_title, version, "
            "authentication, audit_index, previous_sha256 FROM agreements_signature s "
            "JOIN agreements_signingrequest r ON r.id = request_id ORDER BY s.id"
        ).fetchall()
        triggers = connection.execute(
            "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'append_only' AND tgenabled = 'O' "
            "AND tgrelid::regclass::text LIKE 'agreements_%' ORDER BY 1"
        ).fetchall()
    assert agreements == [(1, "data-use-agreement", "DUA two"), (2, "data-use-agreement", "Chest DUA")]
    assert [(row[0][0], *row[1:6]) for row in cases] == [
        (
            "1",
            1,
            1,
            "superseded",
            "The Consortium deletes its files\nfrom storage within 30 days.",
            True,
        ),
        ("2", 1, 2, "active", "DUA two", True),
        ("3", 2, 2, "active", "DUA two", True),
    ]
    assert (cases[0][7], cases[1][7]) == (cases[1][6], None)
    signed = ("Asha Official", "data-use-agreement", "DUA two", ["password"], "")
    assert [(row[0][0], row[1], row[3], row[6], row[8]) for row in signatures] == [
        ("1", 1, "Hospital 1", 1, 71),
        ("2", 1, "Hospital 1", 2, 72),
        ("3", 1, "Hospital 2", 2, -3),
    ]
    assert {(row[2], row[4], row[5], tuple(row[7]), row[9]) for row in signatures} == {(*signed[:3], ("password",), "")}
    assert [row[0] for row in triggers] == [
        "agreements_agreementtranslation",
        "agreements_agreementversion",
        "agreements_signature",
    ]


def test_when_files_are_deleted_is_read_from_the_texts_that_say_so(upgraded):
    with psycopg.connect(upgraded) as connection:
        rows = connection.execute("SELECT id, deletion_days FROM agreements_agreementversion ORDER BY id").fetchall()
    assert rows == [(1, 30), (2, None), (3, None)]


def test_motions_of_before_are_carried_over(upgraded):
    with psycopg.connect(upgraded) as connection:
        rows = connection.execute(
            "SELECT m.id, status, electorate, threshold, quorum_floor, quorum_percent, arithmetic->>'result', "
            "arithmetic->>'votes_for', d.number FROM board_motion m LEFT JOIN board_decision d ON d.motion_id = m.id "
            "ORDER BY m.id"
        ).fetchall()
        triggers = connection.execute(
            "SELECT tgrelid::regclass::text || '.' || tgname FROM pg_trigger "
            "WHERE tgrelid::regclass::text LIKE 'board_%' AND NOT tgisinternal ORDER BY 1"
        ).fetchall()
    assert rows == [
        (1, "open", "consortium", "majority", 3, 0, None, None, None),
        (2, "carried", "consortium", "two_thirds", 3, 0, "carried", "4", 2),
        (3, "lost", "consortium", "majority", 3, 0, "lost", "0", 1),
        (4, "lapsed", "consortium", "unanimous", 3, 0, "no_quorum", "0", 3),
    ]
    append_only = ["castingvote", "comment", "decision", "declaration", "minorityopinion", "recusal", "vote"]
    expected = [
        *(f"board_{name}.append_only" for name in append_only),
        "board_motion.check_motion",
        "board_vote.check_ballot",
    ]
    assert [row[0] for row in triggers] == sorted(expected)


def test_runs_of_before_are_carried_over(upgraded):
    with psycopg.connect(upgraded) as connection:
        rows = connection.execute(
            "SELECT r.id, r.status, r.attempt, r.faults, r.priority, w.name, w.stopped_at IS NULL FROM jobs_run r "
            "LEFT JOIN jobs_worker w ON w.id = r.worker_id ORDER BY r.id"
        ).fetchall()
    assert rows == [
        (1, "running", 2, 0, 10, "before the upgrade", False),
        (2, "queued", 0, 0, 0, None, True),
        (3, "succeeded", 1, 0, 10, None, True),
    ]


def test_files_of_before_are_known_by_their_own_hash(upgraded):
    with psycopg.connect(upgraded) as connection:
        rows = connection.execute(
            "SELECT parts_sha256 = sha256, state FROM contributions_contributionfile ORDER BY id"
        ).fetchall()
    assert rows == [(True, "uploading"), (True, "uploaded")]


def test_a_profile_in_use_goes_on_offering_what_it_did(upgraded):
    with psycopg.connect(upgraded) as connection:
        rows = connection.execute("SELECT field, count(*) FROM institutions_profileoption GROUP BY 1 ORDER BY 1")
        assert rows.fetchall() == [("care_settings", 5), ("labels", 7)]
