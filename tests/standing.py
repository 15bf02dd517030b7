"""
What most tests stand on (a programme, a member institution, its people, the board) without building it anew each time.

The first test of a process builds each of them through the real services, and the rows that this left are kept. Later
tests get the rows, in a transaction that is rolled back like everything else they do. It takes a tenth of the time.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from django.core.cache import cache
from django.db import connection
from django.db.models import Model

from portal import storage

Found = TypeVar("Found", bound=Model | list)
Stand = tuple[int, ...]
EMPTY: Stand = (0, 0, 0, 0)
KEPT_SECONDS = 120  # then they are built anew: what happened in them is to be of just now


@dataclass(frozen=True)
class Kept:
    lines: dict[str, bytes]  # what COPY wrote of the new rows of each table
    model: type[Model]
    keys: list[int]
    is_list: bool
    built_at: float  # time.monotonic()


_kept: dict[tuple[str, Stand], Kept] = {}
_known = {EMPTY}


def kept(name: str, build: Callable[[], Found]) -> Found:
    """
    Return what `build` makes, a row or a list of rows of one model.

    Rows are put back only where the database stands as it stood when they were kept, which the numbers of people and of
    events in the log tell; so no fixture may change a kept row without either. A test that commits builds everything
    itself: what follows a commit follows it there.
    """
    stand = _stand() if connection.in_atomic_block else None
    if stand is None or stand not in _known:
        return build()
    if stand == EMPTY:  # what is remembered by numbers of people and institutions, which come again
        cache.clear()
        storage.erase(storage.QUARANTINE, "institutions/")
    found = _kept.get((name, stand))
    if found is None or time.monotonic() - found.built_at > KEPT_SECONDS:
        found = _kept[name, stand] = _build(build)
        _known.add(_stand())
    else:
        _put_back(found.lines)
    rows = found.model._default_manager.in_bulk(found.keys)
    ordered = [rows[key] for key in found.keys]
    return ordered if found.is_list else ordered[0]  # type: ignore[return-value]


def _build(build: Callable[[], Model | list]) -> Kept:
    before, built_at = _contents(), time.monotonic()
    found = build()
    after = _contents()
    lines = {table: _added(before[table], after[table]) for table in after if after[table] != before[table]}
    rows = found if isinstance(found, list) else [found]
    return Kept(lines, type(rows[0]), [row.pk for row in rows], isinstance(found, list), built_at)


def _stand() -> Stand:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM audit_auditevent), (SELECT coalesce(max(id), 0) FROM audit_auditevent),"
            " (SELECT count(*) FROM accounts_user), (SELECT coalesce(max(id), 0) FROM accounts_user)"
        )
        return tuple(cursor.fetchone())


def _contents() -> dict[str, list[bytes]]:
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            with cursor.copy(f'COPY "{table}" TO STDOUT') as copy:
                found[table] = b"".join(copy).splitlines(keepends=True)
    return found


def _added(before: list[bytes], after: list[bytes]) -> bytes:
    gone, new = Counter(before) - Counter(after), Counter(after) - Counter(before)
    assert not gone, f"What is kept must not change what was there before: {gone}."
    return b"".join(new.elements())


def _put_back(lines: dict[str, bytes]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # the rows have passed every trigger
        for table, rows in lines.items():
            with cursor.copy(f'COPY "{table}" FROM STDIN') as copy:
                copy.write(rows)
        cursor.execute("SET LOCAL session_replication_role = origin")
