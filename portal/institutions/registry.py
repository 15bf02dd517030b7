"""
The local copy of the Research Organization Registry: find an institution by any of its names.

`manage.py load_ror` fills the table from ROR's public dump. Before that, the organisations of ror.csv answer.
Nothing is fetched from anywhere.
"""

import csv
import functools
import json
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from portal.institutions import countries, ror
from portal.institutions.models import RorOrganisation

SHORTEST = 2  # characters that are worth a search
# Scripts that write without spaces: a word is found from each of its characters.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
_SUFFIXES = 24
_CANDIDATES = 200
COLUMNS = ["ror_id", "name", "local_name", "country", "city", "website", "key", "words"]


def key_of(text: str) -> str:
    """Return a name without case, accents, punctuation and double spaces, in any script."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = (c if unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "Mc" else _space(c) for c in plain)
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def _space(character: str) -> str:
    """Drop marks and apostrophes, which stand inside words; everything else parts them."""
    return "" if unicodedata.category(character) == "Mn" or character in "'’ʼ`" else " "


def words_of(names: Iterable[str]) -> str:
    """Return every word of the names once, sorted; of a script without spaces also every ending of a word."""
    words = {word for name in names for word in key_of(name).split()}
    return " ".join(sorted(words | {end for word in words for end in _endings(word)}))


def _endings(word: str) -> list[str]:
    if not unicodedata.name(word[0], "").startswith(_UNSPACED):
        return []
    return [word[start:] for start in range(1, min(len(word) - 1, _SUFFIXES))]


def search(text: str, *, limit: int = 10) -> list[RorOrganisation]:
    """Return the organisations whose names hold every word of `text`, begun words too; whole beginnings first."""
    key = key_of(text)
    if len(key.replace(" ", "")) < SHORTEST and not key[:1] > "\u2e80":
        return []
    rows = _from_table(key, limit) if RorOrganisation.objects.exists() else _from_file(key, limit)
    return rows[:limit]


def by_id(ror_id: str) -> RorOrganisation | None:
    """Return one organisation, or None."""
    found = RorOrganisation.objects.filter(pk=ror_id).first()
    return found or next((row for row in shipped() if row.ror_id == ror_id), None)


def _from_table(key: str, limit: int) -> list[RorOrganisation]:
    """Ask the index of whole names, which is sorted; then, unsorted and bounded, the index of words."""
    pattern = key.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
    whole = RorOrganisation.objects.extra(where=['key COLLATE "C" LIKE %s'], params=[pattern])
    first = list(whole.extra(select={"begins": 'key COLLATE "C"'}, order_by=["begins"])[:limit])
    long = [word for word in key.split() if len(word) > 1 or word > "\u2e80"]
    if len(first) == limit or not long:
        return first
    query = " & ".join(f"'{word}':*" for word in long)  # a key holds letters, digits and spaces only
    found = RorOrganisation.objects.extra(where=["lexemes @@ %s::tsquery"], params=[query]).order_by()[:_CANDIDATES]
    seen = {row.ror_id for row in first}
    more = [row for row in found if row.ror_id not in seen and _holds(row, key)]
    return first + sorted(more, key=lambda row: (len(row.key), row.key))


def _holds(row: RorOrganisation, key: str) -> bool:
    return all(f" {word}" in f" {row.words}" for word in key.split())


def _from_file(key: str, limit: int) -> list[RorOrganisation]:
    rows = [row for row in shipped() if _holds(row, key)]
    return sorted(rows, key=lambda row: (not row.key.startswith(key), row.key))[:limit]


@functools.cache
def shipped() -> tuple[RorOrganisation, ...]:
    """Return the organisations of ror.csv (ROR's data are in the public domain, CC0)."""
    with (Path(__file__).parent / "ror.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_described(row, aliases=row["aliases"].split(";")) for row in csv.DictReader(file))


def _described(row: dict[str, str], *, aliases: Iterable[str]) -> RorOrganisation:
    fields = {name: row[name] for name in ("ror_id", "name", "local_name", "country", "city", "website")}
    names = [row["name"], row["local_name"], *aliases]
    return RorOrganisation(**fields, key=key_of(row["name"])[:300], words=words_of(names))


# The dump


def read_dump(path: Path) -> list[dict[str, Any]]:
    """Return the records of a dump: the JSON itself, or the zip that holds it (schema version 2 is taken first)."""
    if path.suffix.lower() != ".zip":
        return json.loads(path.read_text(encoding="utf-8"))
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".json"))
        if not names:
            raise ValueError(f"{path.name} holds no JSON file.")
        chosen = next((name for name in names if "schema_v2" in name), names[0])
        with archive.open(chosen) as file:
            return json.load(file)


def organisations(records: Iterable[dict[str, Any]]) -> Iterator[RorOrganisation]:
    """Yield the active organisations of a dump (ROR schema version 2) whose id and country can be used here."""
    for record in records:
        if record.get("status", "active") != "active":
            continue
        place = (record.get("locations") or [{}])[0].get("geonames_details", {})
        ror_id, country = ror.normalise(record["id"]), place.get("country_code", "")
        if not ror.is_valid(ror_id) or country not in countries.countries():
            continue
        yield _of_record(record, ror_id=ror_id, country=country, city=place.get("name") or "")


def _of_record(record: dict[str, Any], *, ror_id: str, country: str, city: str) -> RorOrganisation:
    names = record.get("names", [])
    shown = next((row["value"] for row in names if "ror_display" in row["types"]), names[0]["value"])
    local = next((row["value"] for row in names if "label" in row["types"] and _in_another_script(row["value"])), "")
    website = next((row["value"] for row in record.get("links", []) if row["type"] == "website"), "")
    row = {"ror_id": ror_id, "name": shown[:300], "local_name": "" if local == shown else local[:300]}
    row |= {"country": country, "city": city[:150], "website": website[:300]}
    return _described(row, aliases=[name["value"] for name in names])


def _in_another_script(name: str) -> bool:
    return any(c.isalpha() and not unicodedata.name(c, "").startswith("LATIN") for c in name)


@transaction.atomic
def replace(rows: Iterable[RorOrganisation]) -> int:
    """Replace the table by `rows`; readers see the old one until the new one is whole. Return how many rows."""
    RorOrganisation.objects.all().delete()
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row([getattr(row, name) for name in COLUMNS])
    return RorOrganisation.objects.count()


_COPY = f"COPY institutions_rororganisation ({', '.join(COLUMNS)}) FROM STDIN"
