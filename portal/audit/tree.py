"""
The Merkle tree over the log: its size, its roots, and proofs about it, read from complete subtrees.

A proof is a list of ranges of leaves, whose hashes the database puts together from O(log n) rows.
Source: RFC 6962, sections 2.1.1 and 2.1.2.
"""

from collections.abc import Iterator

from django.db import connection, models

from portal.audit.models import AuditLeaf

Range = tuple[int, int]  # leaves from, and the first after them
CHUNK = 2000  # lines read from the database together


def size() -> int:
    """Return how many events are in the tree."""
    last = AuditLeaf.objects.aggregate(last=models.Max("index"))["last"]
    return 0 if last is None else last + 1


def root(size: int) -> bytes:
    """Return the root over the first `size` leaves."""
    return hashes([(0, size)])[0]


def hashes(ranges: list[Range]) -> list[bytes]:
    """Return MTH(D[first:beyond]) of each range, in one query."""
    sql = (
        "SELECT audit_range_hash(first, beyond) FROM unnest(%s::bigint[], %s::bigint[]) WITH ORDINALITY "
        "AS range (first, beyond, place) ORDER BY place"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [[first for first, _ in ranges], [beyond for _, beyond in ranges]])
        return [bytes(row[0]) for row in cursor.fetchall()]


def inclusion(index: int, size: int) -> list[bytes]:
    """Return PATH(index, D[size]), 0 <= index < size. Source: RFC 6962, section 2.1.1."""
    first, beyond, beside = 0, size, []
    while beyond - first > 1:
        middle = first + _split(beyond - first)
        if index < middle:
            beside.append((middle, beyond))
            beyond = middle
        else:
            beside.append((first, middle))
            first = middle
    return hashes(beside[::-1])


def consistency(earlier: int, later: int) -> list[bytes]:
    """Return PROOF(earlier, D[later]), 0 < earlier <= later. Source: RFC 6962, section 2.1.2."""
    first, beyond, beside = 0, later, []
    while beyond != earlier:
        middle = first + _split(beyond - first)
        if earlier <= middle:
            beside.append((middle, beyond))
            beyond = middle
        else:
            beside.append((first, middle))
            first = middle
    if first > 0:  # else the subtree is the earlier tree itself, whose root the reader has
        beside.append((first, beyond))
    return hashes(beside[::-1])


def _split(length: int) -> int:
    """Return the largest power of two smaller than `length`, which is at least 2."""
    return 1 << (length - 1).bit_length() - 1


def lines(size: int) -> Iterator[str]:
    """
    Yield the lines of the first `size` leaves, each with its newline, as they follow from the events of today.

    Not kept a second time: whoever verifies them verifies the very rows that the pages show. An event that is gone
    leaves an empty line.
    """
    sql = (
        "SELECT audit_event_line(event) FROM audit_auditleaf leaf LEFT JOIN audit_auditevent event "
        "ON event.id = leaf.event_id WHERE leaf.index >= %s AND leaf.index < %s ORDER BY leaf.index"
    )
    for first in range(0, size, CHUNK):
        with connection.cursor() as cursor:
            cursor.execute(sql, [first, min(first + CHUNK, size)])
            yield "".join(f"{row[0] or ''}\n" for row in cursor.fetchall())
