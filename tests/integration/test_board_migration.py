"""Motions of before arrive with their programme, the rule in the new words, the count and a number."""

import psycopg
import pytest

from tests.integration.test_agreements_migration import database, migrate

__all__ = ["database"]
BEFORE = ("board.0003", "audit.0003", "institutions.0004")


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


@pytest.fixture
def carried_over(database) -> psycopg.Connection:
    migrate(database, *BEFORE)
    with psycopg.connect(database) as connection:
        insert(connection, "institutions_institution", id=1, slug="lake", name="Lake Hospital", country="KE",
               subregion="014", kind="hospital", status="applied", gpu="none", expertise="none",
               images_may_leave="yes", synthetic_may_leave="yes", weights_may_leave="yes")  # fmt: skip
        for pk, status, percent, hour in (
            (1, "open", 50, 0),
            (2, "carried", 66, 2),
            (3, "lost", 50, 1),
            (4, "lapsed", 100, 3),
        ):
            closed = None if status == "open" else f"2026-01-01T0{hour}:00Z"
            insert(connection, "board_motion", id=pk, kind="admit_institution", title=f"Motion {pk}", institution_id=1,
                   quorum=3, threshold_percent=percent, status=status, closed_at=closed, round=pk)  # fmt: skip
        insert(connection, "audit_auditevent", id=7, verb="motion.carried", subject_type="motion", subject_id=2,
               facts='{"votes_for": 4, "votes_against": 1, "abstentions": 0, "eligible": 5}')  # fmt: skip
    migrate(database)
    return psycopg.connect(database)


def test_motions_of_before_are_carried_over(carried_over):
    rows = carried_over.execute(
        "SELECT m.id, status, electorate, threshold, quorum_floor, quorum_percent, arithmetic->>'result', "
        "arithmetic->>'votes_for', d.number FROM board_motion m LEFT JOIN board_decision d ON d.motion_id = m.id "
        "ORDER BY m.id"
    ).fetchall()
    assert rows == [
        (1, "open", "consortium", "majority", 3, 0, None, None, None),
        (2, "carried", "consortium", "two_thirds", 3, 0, "carried", "4", 2),
        (3, "lost", "consortium", "majority", 3, 0, "lost", "0", 1),
        (4, "lapsed", "consortium", "unanimous", 3, 0, "no_quorum", "0", 3),
    ]
    triggers = carried_over.execute(
        "SELECT tgrelid::regclass::text || '.' || tgname FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'board_%' "
        "AND NOT tgisinternal ORDER BY 1"
    ).fetchall()
    append_only = ["castingvote", "comment", "decision", "declaration", "minorityopinion", "recusal", "vote"]
    expected = [
        *(f"board_{name}.append_only" for name in append_only),
        "board_motion.check_motion",
        "board_vote.check_ballot",
    ]
    assert [row[0] for row in triggers] == sorted(expected)
    carried_over.close()
