"""What a corrected contribution changed, and what a withdrawal touches."""

from dataclasses import dataclass
from typing import Any

from contributions import cards
from contributions.models import Contribution
from contributions.reports import latest_results


@dataclass(frozen=True)
class Change:
    """One thing that differs between two versions; empty where it is not there."""

    what: str
    before: str
    after: str


def changes(old: Contribution, new: Contribution) -> list[Change]:
    """Return what differs: details, training card, files, verdicts of the checks. In the order of the page."""
    before, after = _described(old), _described(new)
    names = [*before, *(name for name in after if name not in before)]
    pairs = [Change(name, before.get(name, ""), after.get(name, "")) for name in names]
    return [pair for pair in pairs if pair.before != pair.after]


def _described(contribution: Contribution) -> dict[str, str]:
    found = {"Title": contribution.title, "Base model": str(contribution.base_model)}
    found |= {f"Card: {label}": value for label, value in cards.read_back(contribution.training_card)}
    files = list(contribution.files.all())
    for file in files:
        label = "File" if len(files) == 1 else f"File {file.name}"
        found[label] = f"{file.name}, {file.size_bytes:,} bytes, SHA-256 {file.sha256[:16]}…"
    for result in latest_results(contribution)[0]:
        found[f"Check {result.number} {result.name}"] = result.get_verdict_display()
    return found


def impact(contribution: Contribution) -> list[dict[str, Any]]:
    """
    Return each corpus with images of the contribution, and the models trained on it with their releases.

    A withdrawal keeps all of them: nothing is un-trained; only corpora that are not frozen yet lose it.
    """
    parts = contribution.corpus_parts.select_related("corpus").order_by("corpus__id")
    return [
        {
            "corpus": part.corpus,
            "image_count": part.image_count,
            "candidates": list(part.corpus.candidates.select_related("release").order_by("id")),
        }
        for part in parts
    ]
