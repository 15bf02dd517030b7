"""The training card: what a site declares about how its weights were made. Pure rules, no database."""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import dp

MAX_BYTES = 16_384
MAX_LEVELS = 6
SMALL_CELL = range(1, 10)
UNKNOWN = (None, "unknown")
_PEOPLE = (
    "females?|males?|wom[ae]n|m[ae]n|girls?|boys?|child(?:ren)?|adults?|patients?|people|persons?"
    "|participants?|subjects?"
)
_COUNTED = f"{_PEOPLE}|cases?|eyes?|images?|photo(?:graph)?s?|pictures?"
# Blanks are bounded: with two unbounded runs beside each other a hostile card would hold a worker for hours.
_GAP = r"[ \t\u00a0\u202f]{0,8}"
_SHARE = rf"\({_GAP}[\d.,]{{1,8}}{_GAP}[%％٪]{_GAP}\)"
# What ends a count on a line of free text, in any script: "female: 7, male: 40", "女：7，男：40", "female: 7 (1.2 %)".
_END = rf"(?:{_GAP}(?:{_COUNTED})\b)?{_GAP}(?:[,;\n،؛，；、。]|{_SHARE}|$)"
# "excluded: 3 patients with cataract", but neither "type 2 patients" nor "1 patient per family".
_PEOPLE_AFTER = rf"(\d){_GAP}(?:{_PEOPLE})\b(?!{_GAP}(?:per|for each|of each|of every|from each)\b)"
_CELL_IN_TEXT = re.compile(rf"[:=：]{_GAP}(?:(\d){_END}|{_PEOPLE_AFTER})", re.IGNORECASE)
# Of people "3 men" is also written "men 3,", and stands anywhere in a list: "900 women and 3 men".
_CELL_OF_PEOPLE = re.compile(
    rf"(?:[:=：]|\b(?:{_PEOPLE})){_GAP}(\d){_END}|(?:^|[:=：,;(\n،，；]|\b(?:and|plus|only|whom)){_GAP}{_PEOPLE_AFTER}",
    re.IGNORECASE,
)
# The whole of a cell in a table: 3, 3.0, "3", "٣", "3 men", "3 (1.2 %)".
_CELL = re.compile(rf"(\d)(?:[.,]0*)?(?:{_GAP}(?:{_COUNTED}))?(?:{_GAP}{_SHARE})?", re.IGNORECASE)

Card = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """One thing to mend in a card. `missing` is tolerated in a draft and refused at submission; `code` is check 6's."""

    field: str
    sentence: str
    missing: bool = False
    code: str = "card_invalid"


def _is_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low < value < high


def _count(value: object) -> str:
    """Return what is wrong with a number of images or people: small cells point at people (1 to 9)."""
    if value == "<10":
        return ""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        return "must be a whole number, or <10."
    return _small_cell(value)


def _small_cell(value: object) -> str:
    """Return what is wrong with a count of 1 to 9, also where it is written 3.0, "3", "٣" or "3 men"."""
    if isinstance(value, str) and (cell := _CELL.fullmatch(value.strip())):
        value = int(cell[1])
    if isinstance(value, int | float) and not isinstance(value, bool) and value in SMALL_CELL:
        return f"is {value:g}: a group this small can point at people. Write <10 instead."
    return ""


def _small_cell_within(value: object, name: str = "", in_text: re.Pattern[str] = _CELL_IN_TEXT) -> str:
    """Return what is wrong with the first small cell of a table, however deep it lies, with its name."""
    if isinstance(value, dict):
        cells = (_small_cell_within(cell, str(key), in_text) for key, cell in value.items())
        return next(filter(None, cells), "")
    if isinstance(value, list):
        return next(filter(None, (_small_cell_within(cell, name, in_text) for cell in value)), "")
    found = _small_cell(value) or (_small_cell_told(f": {value}", in_text) if isinstance(value, str) else "")
    return f"({name}) {found}" if found else ""


def _small_cell_told(text: str, in_text: re.Pattern[str]) -> str:
    """Return what is wrong with the first small cell of a text: "Sex: 412 female, 7 male"."""
    cells = (cell[1] or cell[2] for cell in in_text.finditer(text))
    return next(filter(None, map(_small_cell, cells)), "")


def _whole(low: int, high: int) -> Callable[[object], str]:
    def rule(value: object) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"must be a whole number from {low:,} to {high:,}."

    return rule


def _learning_rate(value: object) -> str:
    return "" if _is_between(value, 0, 1) else "must be a number between 0 and 1."


def _described(value: object, in_text: re.Pattern[str] = _CELL_IN_TEXT) -> str:
    """Return what is wrong with a text or a table of the site's own making."""
    if isinstance(value, str):
        return _small_cell_told(value, in_text)
    if isinstance(value, dict):
        return _small_cell_within(value, in_text=in_text)
    return "must be a text, or a table of names and counts."


def _people(value: object) -> str:
    return _described(value, _CELL_OF_PEOPLE)


def _procedure(value: object) -> str:
    return "" if isinstance(value, str | dict) else "must be a text, or a table of settings."


def _privacy(value: object) -> str:
    """Return what is wrong with the declared differential privacy; check 6 finds epsilon again from what it asks."""
    if not isinstance(value, dict) or not isinstance(value.get("used"), bool):
        return 'must say whether it was used: {"used": true or false}.'
    if not value["used"]:
        return ""
    missing = next((name for name, (*ends, _) in _BUDGET.items() if not _is_between(value.get(name), *ends)), "")
    return f"was used, so give {_BUDGET[missing][-1]}." if missing else ""


# of a private run: (what it is above, what it is below, in words)
_BUDGET = {
    "epsilon": (0, math.inf, "epsilon: a number above 0"),
    "delta": (0, math.nextafter(dp.MOST_DELTA, 1), f"delta: a number between 0 and 1/{1 / dp.MOST_DELTA:g}"),
    "noise_multiplier": (dp.LEAST_NOISE, math.inf, f"its noise multiplier: a number above {dp.LEAST_NOISE:g}"),
    "sample_rate": (0, math.nextafter(1, 2), "its sample rate: above 0 and at most 1"),
}


def _contradictions(card: Card) -> Iterator[Problem]:
    """Yield what a private run's numbers say against those of the training; a higher rate only promises less."""
    budget, images, batch_size = (card.get(name) for name in ("dp", "images", "batch_size"))
    if not isinstance(budget, dict) or not budget.get("used") or _privacy(budget):
        return
    if not isinstance(images, int) or _count(images):
        return
    if budget["delta"] > dp.most_delta(images):
        sentence = f"Differential privacy: delta {budget['delta']:g} is above 1/{images}, one over the images."
        yield Problem("dp", sentence, code="delta_too_large")
    if not isinstance(batch_size, int) or FIELDS["batch_size"][1](batch_size):
        return
    rate = dp.sample_rate(images, batch_size)
    if budget["sample_rate"] < rate * (1 - dp.RATE_TOLERANCE):
        sentence = (
            f"Differential privacy: the sample rate {budget['sample_rate']:g} is below {rate:.4g}, which follows from "
            f"batches of {batch_size} of {images} images."
        )
        yield Problem("dp", sentence, code="rate_too_small")


def _years(value: object) -> str:
    """Return what is wrong with a range of years: never a date, which could point at a visit."""
    found = re.fullmatch(r"(\d{4})\s*(?:-|–|to)\s*(\d{4})|(\d{4})", value.strip()) if isinstance(value, str) else None
    if found is None:
        return "must be a year or a range of years, such as 2015-2024."
    first, last = (int(found[3]),) * 2 if found[3] else (int(found[1]), int(found[2]))
    return "" if 1950 <= first <= last <= 2100 else "must run from an earlier to a later year."


# field: (label, rule, may it be unknown)
FIELDS: dict[str, tuple[str, Callable[[object], str], bool]] = {
    "images": ("Images", _count, False),
    "patients": ("Patients", _count, True),
    "steps": ("Steps", _whole(1, 100_000_000), False),
    "batch_size": ("Batch size", _whole(1, 65_536), False),
    "learning_rate": ("Learning rate", _learning_rate, False),
    "seed": ("Seed", _whole(0, 2**63 - 1), True),
    "augmentation": ("Augmentation", _procedure, False),
    "deduplication": ("De-duplication", _procedure, False),
    "dp": ("Differential privacy", _privacy, False),
    "cameras": ("Cameras", _described, True),
    "demographics": ("Demographics", _people, True),
}


# Of the site more than of the training: nobody has to answer, but the board will ask. field: (label, rule)
OPTIONAL: dict[str, tuple[str, Callable[[object], str]]] = {
    "years": ("Years of the photographs", _years),
    "labels": ("Labels", _described),
    "exclusions": ("Exclusions", _described),
    "ethics_reference": ("Ethics approval", _procedure),
}


# What the kit writes beside what we ask for: settings of the training, no counts of images or people.
OF_THE_KIT = {"base", "kit_version", "device", "seconds", "final_loss", "image_size", "adapter"}
COUNTED = {"images", "patients", "cameras", "demographics", "labels", "exclusions"}


def _is_counted(name: str, value: object) -> bool:
    """Test if an entry may hold counts: those that we know to, and a table of a site's own that is whole numbers."""
    is_own = name not in {*FIELDS, *OPTIONAL, *OF_THE_KIT}
    return name in COUNTED or (is_own and isinstance(value, dict | list) and all(map(_is_count, _leaves(value))))


def _leaves(value: object, levels: int = MAX_LEVELS) -> Iterator[object]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None or not levels:
        yield value
    else:
        yield from (leaf for item in inner for leaf in _leaves(item, levels - 1))


def _is_count(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return value == "<10" or (isinstance(value, int) and not isinstance(value, bool))


def suppress_small_cells(card: Card) -> Card:
    """Return the card with every count of 1 to 9 images or people written as `<10`, however deep it lies."""

    def hidden(value: object, levels: int = MAX_LEVELS) -> object:
        if isinstance(value, dict) and levels:
            return {key: hidden(item, levels - 1) for key, item in value.items()}
        if isinstance(value, list) and levels:
            return [hidden(item, levels - 1) for item in value]
        return "<10" if _small_cell(value) else value

    return {name: hidden(value) if _is_counted(name, value) else value for name, value in card.items()}


def problems(card: object, *, base_sha256: str = "") -> list[Problem]:
    """
    Return what is missing from a card and what is wrong in it, in the order of the form.

    Args:
        card: as the kit writes it (training_card.json); of keys that we do not ask for, small cells are judged.
        base_sha256: of the base generator of the contribution; a card that names another one is wrong.
    """
    if not isinstance(card, dict):
        return [Problem("", "The training card must be a JSON object.")]
    if _is_deeper(card, MAX_LEVELS):
        return [Problem("", "The training card is nested too deeply. Leave out what nobody asked for.")]
    if len(json.dumps(card)) > MAX_BYTES:
        return [Problem("", f"The training card is larger than {MAX_BYTES:,} bytes. Leave out what nobody asked for.")]
    return [*_judge(card), *_contradictions(card), *_other_base(card, base_sha256)]


def _is_deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_is_deeper(item, levels - 1) for item in inner))


def _judge(card: Card) -> Iterator[Problem]:
    for name, (label, rule, may_be_unknown) in FIELDS.items():
        value = card.get(name)
        if name not in card or value in ("", {}):
            yield Problem(name, f"{label}: not filled in{'; “unknown” is an answer' * may_be_unknown}.", missing=True)
        elif value in UNKNOWN:
            if not may_be_unknown:
                yield Problem(name, f"{label}: this must be known.", missing=True)
        elif wrong := rule(value):
            yield Problem(name, f"{label} {wrong}", code="dp_invalid" if name == "dp" else "card_invalid")
    for name, (label, rule) in OPTIONAL.items():
        if card.get(name) not in (*UNKNOWN, "", {}) and (wrong := rule(card[name])):
            yield Problem(name, f"{label} {wrong}")
    for name in (name for name in card if name not in COUNTED and _is_counted(name, card[name])):
        if wrong := _small_cell_within(card[name], name):
            yield Problem(name, f"{name[:60].replace('_', ' ').capitalize()} {wrong}")


def _other_base(card: Card, base_sha256: str) -> Iterator[Problem]:
    base = card.get("base")
    declared = base.get("sha256") if isinstance(base, dict) else None
    if base_sha256 and declared and declared != base_sha256:
        sentence = "The card says that the weights were made from another base generator. Choose that one."
        yield Problem("", sentence, code="other_base")


def read_back(card: Card) -> list[tuple[str, str]]:
    """Return the card as (label, text) pairs for people: what we ask for first, then what else the kit wrote."""
    asked = [(label, _words(card[name]) if name in card else "Not filled in") for name, (label, _, _) in FIELDS.items()]
    told = [
        (label, _words(card[name])) for name, (label, _) in OPTIONAL.items() if card.get(name) not in (None, "", {})
    ]
    known = {*FIELDS, *OPTIONAL}
    rest = [(name.replace("_", " ").capitalize(), _words(card[name])) for name in card if name not in known]
    return asked + told + rest


def _words(value: object) -> str:
    match value:
        case None:
            return "Unknown"
        case bool():
            return "Yes" if value else "No"
        case {"used": False}:
            return "Not used"
        case dict():
            return "; ".join(f"{str(key).replace('_', ' ')}: {_words(item)}" for key, item in value.items())
        case list():
            return ", ".join(map(_words, value))
        case int() if value >= 10_000:
            return f"{value:,}"
    return str(value)
