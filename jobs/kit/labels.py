"""labels.csv as sites write it: read strictly, for it decides who is trained on and who is held out."""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .errors import ImagesError

GRADE = re.compile(r"([0-4])(\.0+)?")  # as spreadsheets write whole numbers, too
CLASSES = ("no dr", "mild npdr", "moderate npdr", "severe npdr", "pdr")  # that dr_grade counts: ICDR 0 to 4
GRADES = "dr_grade is 0, 1, 2, 3 or 4, or empty where nobody graded."
PREPARED = (  # kit 0.2.0 copied what it found, and trained on such a photograph as one that nobody graded
    "An earlier `consortium prepare` left it there: empty the cell dr_grade of this row, and of each row whose grade "
    "is not 0, 1, 2, 3 or 4. Nothing else changes by it."
)
SPREADSHEET = "Save it as CSV in UTF-8, with the first line file,patient_group,dr_grade (further columns may follow)."


def are_grades(names: Sequence[str]) -> bool:
    """Whether the classes of a base generator, but for the last, are the grades that the column dr_grade counts."""
    return tuple(name.casefold() for name in names[:-1]) == CLASSES


def read(path: Path) -> dict[str, dict[str, str]]:
    """
    Return the rows of a labels.csv by their file: names of columns in small letters, no blanks around any value, every
    value as one_form() writes it.

    Raises:
        ImagesError: code labels_invalid; its sentence names the row, counted as a spreadsheet counts.
    """
    header, *lines = _lines(path)
    names = [name.strip().lower() for name in header]
    if "file" not in names or len({name for name in names if name}) < sum(map(bool, names)):
        what = "has no column named file" if "file" not in names else "names a column twice"
        raise ImagesError(f"{path} {what}.", code="labels_invalid", fix=SPREADSHEET)
    prepared = {"split", "quality"} <= set(names)
    rows: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines, start=2):
        cells = [one_form(cell.strip()) for cell in line]
        if not any(cells):
            continue
        row = {**dict.fromkeys(filter(None, names), ""), **dict(zip(names, cells, strict=False))}
        row.pop("", None)
        if any(cells[len(names) :]):
            raise _wrong(path, number, "has more cells than the first line", "Quote what holds a comma.")
        if not row["file"] or row["file"] in rows:
            what = f"names {row['file']} a second time" if row["file"] else "names no file"
            raise _wrong(path, number, what, "Every photograph has one row.")
        if row.get("dr_grade") and not GRADE.fullmatch(row["dr_grade"]):
            what = f"gives {row['file']} the grade {row['dr_grade']!r}"
            raise _wrong(path, number, what, PREPARED if prepared else GRADES)
        rows[row["file"]] = row
    _require_plain_pseudonyms(path, [row.get("patient_group", "") for row in rows.values()])
    return rows


def one_form(text: str) -> str:
    """Return a text in one way of writing its accents: a spreadsheet and a disk, or two of them, may have two (NFC)."""
    return unicodedata.normalize("NFC", text)


def _lines(path: Path) -> list[list[str]]:
    """Return the cells of each line; the separator is the one that the first line has most of."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(",;\t", key=first.count)
        return list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ImagesError(f"{path} cannot be read ({error}).", code="labels_invalid", fix=SPREADSHEET) from None


def _wrong(path: Path, number: int, what: str, fix: str) -> ImagesError:
    return ImagesError(f"Row {number} of {path} {what}.", code="labels_invalid", fix=fix)


def _require_plain_pseudonyms(path: Path, patients: Sequence[str]) -> None:
    """Refuse pseudonyms that differ in capitals alone: they are one patient, or nobody can tell."""
    counts = Counter(name.casefold() for name in set(patients))
    twice = sorted(name for name in set(patients) if counts[name.casefold()] > 1)
    if twice:
        raise ImagesError(
            f"{path} has the pseudonyms {twice[0]} and {twice[1]}, which differ in capitals alone.",
            code="labels_invalid",
            fix="Write a patient's pseudonym one way.",
        )
