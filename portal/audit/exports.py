"""The log as files: a table for people, lines of JSON for programs. Both name people as they are called today."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from portal.audit import services
from portal.audit.models import AuditEvent

BATCH = 1000  # events whose names are looked up together
COLUMNS = [
    "id", "at", "actor_id", "actor", "verb", "subject_type", "subject_id", "subject", "institution_id", "facts",
    "sentence",
]  # fmt: skip


def _named(rows: Iterator[AuditEvent]) -> Iterator[tuple[AuditEvent, str]]:
    """Yield each event with its names of today, and its subject as the log holds it."""
    while batch := list(islice(rows, BATCH)):
        held = [row.subject for row in batch]
        yield from zip(services.with_sentences(batch), held, strict=True)


def table(rows: Iterator[AuditEvent]) -> Iterator[list[Any]]:
    """Yield the cells of each event, as COLUMNS names them."""
    for row, _ in _named(rows):
        yield [getattr(row, name) for name in COLUMNS]


def json_lines(rows: Iterator[AuditEvent]) -> Iterator[str]:
    """Yield one JSON object a line; `subject` is what the log holds, `subject_named` and `actor` are today's names."""
    for row, held in _named(rows):
        values = {name: getattr(row, name) for name in COLUMNS}
        values |= {"at": row.at.isoformat(), "subject": held, "subject_named": row.subject}
        yield json.dumps(values, ensure_ascii=False) + "\n"
