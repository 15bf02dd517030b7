"""An agreement laid out for reading: clause by clause, with its side note in plain words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from portal.agreements.rendering import VARIABLE
from portal.markdown import to_html

SECTION = re.compile(r"^(?=## \d+\. )", re.MULTILINE)
NUMBER = re.compile(r"^## (\d+)\. ")
FRONT = "0"  # what stands before section 1


@dataclass(frozen=True)
class Clause:
    """A section of the text as HTML, and what it says in plain words."""

    number: str
    html: SafeString
    note: str


def clauses(text: str, side_notes: Mapping[str, str]) -> list[Clause]:
    """Return the sections of a text in order; together they are the whole text."""
    found = []
    for part in SECTION.split(text):
        heading = NUMBER.match(part)
        number = heading[1] if heading else FRONT
        found.append(Clause(number, _html(part), side_notes.get(number, "")))
    return found


def _html(text: str) -> SafeString:
    """Return Markdown as HTML; a variable that is not filled in yet is shown as a blank with its name."""
    return mark_safe(VARIABLE.sub(lambda found: _blank(found[1]), to_html(text)))


def _blank(name: str) -> SafeString:
    return format_html('<span class="blank">{}</span>', name.replace("_", " "))
