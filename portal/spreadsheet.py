"""Tables as CSV: sent as they are read, and harmless in a spreadsheet."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone

NEVER_STORED = {"Cache-Control": "private, no-store"}


class _Echo:
    """A file that hands each line back."""

    def write(self, line: str) -> str:
        return line


def cell(value: Any) -> Any:
    """Return a value that a spreadsheet shows and does not run (OWASP: CSV injection)."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    text = json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def lines(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Yield the lines of the file, each as soon as its row is there."""
    writer = csv.writer(_Echo())
    yield writer.writerow(header)
    for row in rows:
        yield writer.writerow([cell(value) for value in row])


def attachment(name: str, extension: str) -> dict[str, str]:
    """Return the headers of a file that is saved, named after its subject and the minute, and kept in no cache."""
    filename = f"{name}-{timezone.now():%Y%m%d-%H%M}.{extension}"
    return {"Content-Disposition": f'attachment; filename="{filename}"', **NEVER_STORED}


def answer(name: str, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> StreamingHttpResponse:
    """Answer with the table as a file."""
    return StreamingHttpResponse(
        lines(header, rows), content_type="text/csv; charset=utf-8", headers=attachment(name, "csv")
    )
