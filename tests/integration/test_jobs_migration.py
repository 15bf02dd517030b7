"""Runs of before: those at work have a worker that is gone, so that the sweep takes them over; checks go first."""

import psycopg

from tests.integration.test_agreements_migration import database, migrate
from tests.integration.test_board_migration import insert

__all__ = ["database"]


def test_runs_of_before_are_carried_over(database):
    migrate(database, "jobs.0001", "institutions.0005", "programmes.0003")
    with psycopg.connect(database) as connection:
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
    migrate(database)
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT r.id, r.status, r.attempt, r.faults, r.priority, w.name, w.stopped_at IS NULL FROM jobs_run r "
            "LEFT JOIN jobs_worker w ON w.id = r.worker_id ORDER BY r.id"
        ).fetchall()
    assert rows == [
        (1, "running", 2, 0, 10, "before the upgrade", False),
        (2, "queued", 0, 0, 0, None, True),
        (3, "succeeded", 1, 0, 10, None, True),
    ]
