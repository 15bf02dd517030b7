"""Whoever speaks SQL to the database as the site cannot change, remove or re-point a signature."""

import os
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from portal.agreements.models import Signature, SigningRequest
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def attacker(institution) -> Iterator[psycopg.Connection]:
    """A connection as the role of web and workers, to a database in which an agreement is signed and another waits."""
    draft = factories.admitted_institution("Volta Teaching Hospital", country="GH")
    factories.draft_case(draft, institution.signing_requests.get().agreement)
    call_command("grant_rights", role="portal_app")
    address = urlsplit(os.environ["APP_DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    with closing(psycopg.connect(urlunsplit(address), autocommit=True)) as as_the_site:
        yield as_the_site


REFUSALS = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.RestrictViolation,  # the triggers' own
    psycopg.errors.ForeignKeyViolation,
)


def rows() -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.*, r.text, r.agreement_version_id, r.institution_id FROM agreements_signature s "
            "JOIN agreements_signingrequest r ON r.id = s.request_id ORDER BY s.id"
        )
        return cursor.fetchall()


ATTACKS = {
    "update": "UPDATE agreements_signature SET printed_name = 'Somebody Else'",
    "update to itself": "UPDATE agreements_signature SET printed_name = printed_name",
    "re-point to another person": "UPDATE agreements_signature SET signer_id = (SELECT max(id) FROM accounts_user)",
    "re-point to another case":
    "UPDATE agreements_signature SET request_id = (SELECT max(id) FROM agreements_signingrequest)",
    "delete": "DELETE FROM agreements_signature",
    "delete with using": "DELETE FROM agreements_signature USING agreements_signingrequest r WHERE r.id = request_id",
    "merge": "MERGE INTO agreements_signature s USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
    "upsert":
    "INSERT INTO agreements_signature SELECT * FROM agreements_signature ON CONFLICT (id) DO UPDATE SET "
    "version = 9",
    "lock": "SELECT 1 FROM agreements_signature FOR UPDATE",
    "truncate": "TRUNCATE agreements_signature",
    "truncate cascade": "TRUNCATE agreements_signingrequest CASCADE",
    "delete the case": "DELETE FROM agreements_signingrequest",
    "delete the version": "DELETE FROM agreements_agreementversion",
    "delete the agreement": "DELETE FROM agreements_agreement",
    "delete the signer": "DELETE FROM accounts_user",
    "delete the institution": "DELETE FROM institutions_institution",
    "renumber the signer": "UPDATE accounts_user SET id = id + 1000",
    "renumber the case": "UPDATE agreements_signingrequest SET id = id + 1000",
    "renumber the institution": "UPDATE institutions_institution SET id = id + 1000",
    "change the text":
    "UPDATE agreements_signingrequest SET text = 'x', text_sha256 = encode(sha256('x'), 'hex') WHERE "
    "status = 'active'",
    "change the particulars": "UPDATE agreements_signingrequest SET variables = '{\"a\": 1}' WHERE status = 'active'",
    "change the last day": "UPDATE agreements_signingrequest SET expires_on = '2099-01-01' WHERE status = 'active'",
    "change the receipt":
    "UPDATE agreements_signingrequest SET receipt_code = repeat('0', 20) WHERE status = 'active'",
    "change when it began": "UPDATE agreements_signingrequest SET activated_at = now() WHERE status = 'active'",
    "give it to another institution":
    "UPDATE agreements_signingrequest SET institution_id = (SELECT max(id) FROM institutions_institution)"
    " WHERE status = 'active'",
    "back to a draft":
    "UPDATE agreements_signingrequest SET status = 'draft', activated_at = NULL WHERE status = 'active'",
    "in force without signatures":
    "UPDATE agreements_signingrequest SET status = 'active', activated_at = now() WHERE status = 'draft'",
    "born in force":
    "INSERT INTO agreements_signingrequest SELECT (jsonb_populate_record(r, '{\"id\": 999, \"receipt_code\": "
    "\"00000000000000000000\"}')).* FROM agreements_signingrequest r WHERE status = 'active'",
    "one more signature":
    "INSERT INTO agreements_signature SELECT (jsonb_populate_record(s, '{\"id\": 999, \"position\": 4, "
    "\"audit_index\": 999999}')).* FROM agreements_signature s WHERE position = 3",
    "a signature under a draft":
    "INSERT INTO agreements_signature SELECT (jsonb_populate_record(s, jsonb_build_object('id', 999, "
    "'audit_index', 999999, 'request_id', (SELECT id FROM agreements_signingrequest WHERE status = "
    "'draft')))).* FROM agreements_signature s WHERE position = 1",
    "one more hospital":
    "INSERT INTO agreements_coveredinstitution (request_id, institution_id) SELECT r.id, i.id FROM "
    "agreements_signingrequest r, institutions_institution i WHERE r.status = 'active' LIMIT 1",
    "change who signs": "UPDATE agreements_agreement SET signing_order = '[\"consortium\"]'",
    "change the version": "UPDATE agreements_agreementversion SET is_material = false",
    "change the log": "UPDATE audit_auditevent SET verb = 'nobody'",
    "disable the trigger": "ALTER TABLE agreements_signature DISABLE TRIGGER ALL",
    "drop the trigger": "DROP TRIGGER append_only ON agreements_signature",
    "drop a constraint": "ALTER TABLE agreements_signature DROP CONSTRAINT signature_chained",
    "add a column": "ALTER TABLE agreements_signature ADD COLUMN x int",
    "drop the table": "DROP TABLE agreements_signature CASCADE",
    "own the table": "ALTER TABLE agreements_signature OWNER TO portal_app",
    "replace the function":
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; "
    "END'",
    "a rule": "CREATE RULE r AS ON INSERT TO agreements_signature DO INSTEAD NOTHING",
    "a trigger of its own":
    "CREATE TRIGGER a BEFORE INSERT ON agreements_signature FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "replication role": "SET session_replication_role = replica",
    "become the owner": "SET ROLE portal",
    "become a superuser": "ALTER ROLE portal_app SUPERUSER",
    "grant to itself": "GRANT ALL ON agreements_signature TO portal_app",
    "a table in its schema": "CREATE TABLE public.mine (x int)",
    "the migrations' record": "DELETE FROM django_migrations",
}  # fmt: skip


def test_every_attack_fails_and_leaves_every_signature_as_it_was(attacker):
    before = rows()
    assert len(before) == 3
    succeeded, misspelt = [], []
    for name, statement in ATTACKS.items():
        try:
            attacker.execute(statement)
            succeeded.append(name)
        except psycopg.Error as refusal:
            if not isinstance(refusal, REFUSALS):
                misspelt.append((name, repr(refusal)))
    # PostgreSQL only warns when somebody grants what is not theirs, so what counts is what was left behind.
    assert set(succeeded) - {"grant to itself"} == set()
    assert misspelt == []
    assert rows() == before
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        attacker.execute("DELETE FROM agreements_signature")


def test_a_temporary_table_of_the_same_name_does_not_hide_the_signatures(attacker):
    before = rows()
    with connection.cursor() as cursor:  # tests' databases let everybody make temporary tables; the portal's does not
        cursor.execute(f'GRANT TEMPORARY ON DATABASE "{connection.settings_dict["NAME"]}" TO PUBLIC')
    attacker.execute("CREATE TEMPORARY TABLE agreements_signature (request_id bigint)")
    attacker.execute("SET search_path = pg_temp, public")
    with pytest.raises(psycopg.errors.RestrictViolation, match="what was signed does not change"):
        attacker.execute(
            "UPDATE public.agreements_signingrequest SET started_by_id = started_by_id + 1 WHERE status = 'active'"
        )
    assert rows() == before


def test_the_site_can_do_its_work_as_that_role(attacker):
    draft = SigningRequest.objects.get(status="draft")
    assert attacker.execute("SELECT count(*) FROM agreements_signature").fetchone() == (3,)
    with attacker.transaction():
        attacker.execute("SELECT 1 FROM agreements_signingrequest WHERE id = %s FOR UPDATE", [draft.pk])
        attacker.execute("UPDATE agreements_signingrequest SET status = 'signing' WHERE id = %s", [draft.pk])
        attacker.execute(
            "INSERT INTO agreements_signature SELECT (jsonb_populate_record(s, jsonb_build_object('id', 999, "
            "'audit_index', 999999, 'request_id', %s::int, 'text_sha256', %s::text, 'institution_id', %s::int))).* "
            "FROM agreements_signature s WHERE position = 1",
            [draft.pk, draft.text_sha256, draft.institution_id],
        )
    assert Signature.objects.filter(request=draft).count() == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE agreements_signature SET printed_name = 'x'", "append-only: UPDATE refused"),
        ("DELETE FROM agreements_signature", "append-only: DELETE refused"),
        ("UPDATE agreements_agreementversion SET change_note = 'x'", "append-only: UPDATE refused"),
        ("DELETE FROM agreements_agreementtranslation", "append-only: DELETE refused"),
        ("DELETE FROM agreements_signingrequest", "never deleted"),
        ("UPDATE agreements_signingrequest SET variables = '{\"x\": 1}'", "what was signed does not change"),
        ("UPDATE agreements_agreement SET grace_days = 999", "being signed does not change"),
    ],
)
def test_the_owner_of_the_tables_is_refused_by_the_triggers(institution, statement, message):
    version = institution.signing_requests.get().agreement_version
    version.translations.create(language="fr", text="Texte", sha256=factories.agreements.text_sha256("Texte"))
    with pytest.raises(DatabaseError, match=message), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_owner_is_told_when_the_site_would_run_as_the_owner(capsys, db):
    call_command("grant_rights", role=connection.settings_dict["USER"])
    assert "owns the tables" in capsys.readouterr().err
