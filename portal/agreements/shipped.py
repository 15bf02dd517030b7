"""The texts that come with the portal, each with its side notes in plain words and its translations."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).parent / "texts"
BINDING = "en"
# Why the second version of the data-use agreement: shown beside it, and to those who have to sign again.
DUA_2_CHANGE_NOTE = (
    "Ethics committees asked for four points, and this version grants them. A breach is reported within 48 hours "
    "instead of 72 (8.2). The files of a withdrawn contribution are deleted within 14 days instead of 30 (10.2). Every "
    "model is tested for repeated photographs before it is released (7.3, new). The countries where contributions are "
    "kept are listed, and a further one is announced 30 days before (8.4, new)."
)


@dataclass(frozen=True)
class Reading:
    """A text in one language and, by the number of the section, its side notes; "0" is the part before section 1."""

    text: str
    side_notes: dict[str, str]


@dataclass(frozen=True)
class Entry(Reading):
    """The binding text, with the translations that help to read it."""

    translations: dict[str, Reading] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return what `publish` takes of it: text, side notes, translations."""
        return asdict(self)


def entry(name: str) -> Entry:
    """Return a text of the library by its name: dua-1, dua-2, annex-images-1."""
    return beside(TEXTS / f"{name}.md")


def beside(path: Path) -> Entry:
    """
    Return the text in `name.md` with what lies beside it.

    `name.notes.json` holds side notes by language and section, `name.es.md` the Spanish translation; none is needed.
    """
    file = path.with_suffix(".notes.json")
    notes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    translations = {
        other.suffixes[-2].removeprefix("."): other.read_text(encoding="utf-8")
        for other in sorted(path.parent.glob(f"{path.stem}.*.md"))
    }
    return Entry(
        text=path.read_text(encoding="utf-8"),
        side_notes=notes.get(BINDING, {}),
        translations={language: Reading(text, notes.get(language, {})) for language, text in translations.items()},
    )
