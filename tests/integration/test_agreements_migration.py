"""Versions and signatures of 0.1.0 arrive whole in the library and its cases."""

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
SELECT id, programme, version, title, title, encode(sha256(convert_to(title, 'UTF8')), 'hex'), 'note',
    timestamptz '2026-01-01' + id * interval '1 day'
FROM (VALUES (1, 1, 1, 'DUA one'), (2, 1, 2, 'DUA two'), (3, 2, 1, 'Chest DUA')) AS v (id, programme, version, title);
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


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database of its own."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    name = f"carry_over_{os.getpid()}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield urlunsplit(parts._replace(path=f"/{name}"))
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
        timeout=120,
    )


def test_signatures_of_the_first_release_are_carried_over(database):
    migrate(database, "agreements.0002", "contributions.0001")
    with psycopg.connect(database) as connection:
        connection.execute(OLD_ROWS)
    migrate(database)
    with psycopg.connect(database) as connection:
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
        ("1", 1, 1, "superseded", "DUA one", True),
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
