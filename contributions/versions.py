"""What a corrected contribution changed, where a contribution is used, and its history."""

from dataclasses import dataclass
from typing import Any

from contributions.corpora.services import ENTERED, LEFT
from contributions.models import CheckResult, Contribution, ContributionQuerySet
from contributions.reports import latest_results
from jobs.kit import cards
from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.models import AuditEvent


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
    if contribution.embargo_until:
        found["Not to be used before"] = f"{contribution.embargo_until:%-d %B %Y}"
    found |= {f"Card: {label}": value for label, value in cards.read_back(contribution.training_card)}
    files = list(contribution.files.all())
    for file in files:
        label = "File" if len(files) == 1 else f"File {file.name}"
        said = f"SHA-256 {file.sha256[:16]}…" if file.sha256 else "not here whole"
        found[label] = f"{file.name}, {file.size_bytes:,} bytes, {said}"
    for result in latest_results(contribution)[0]:
        found[f"Check {result.number} {result.name}"] = result.get_verdict_display()
    return found


def impact(contribution: Contribution) -> list[dict[str, Any]]:
    """
    Return each corpus with images of the contribution, and the models trained on it with their releases.

    A withdrawal keeps all of them: nothing is un-trained; only corpora that are not frozen yet lose it.
    """
    parts = contribution.corpus_parts.select_related("corpus").prefetch_related("corpus__candidates__releases")
    return [
        {
            "corpus": part.corpus,
            "image_count": part.image_count,
            "candidates": sorted(part.corpus.candidates.all(), key=lambda candidate: candidate.pk),
        }
        for part in parts.order_by("corpus__id")
    ]


def drawn_from(contribution: Contribution) -> ContributionQuerySet:
    """
    Return the synthetic images that say of themselves that they were drawn from a file of the contribution (check 4).

    They may be another institution's: show a reader what is `visible_to` this reader.
    """
    if contribution.kind != Contribution.Kind.WEIGHTS:
        return Contribution.objects.none()
    files = list(contribution.files.values_list("sha256", flat=True))
    said = CheckResult.objects.filter(number=4, evidence__generator_sha256__in=files)
    return Contribution.objects.filter(kind=Contribution.Kind.SYNTHETIC, pk__in=said.values("contribution"))


def use_of(contribution: Contribution, reader: User) -> dict[str, Any]:
    """Return where it is used, as the reader may see it, for contributions/_use.html."""
    drawn = drawn_from(contribution).visible_to(reader).order_by("pk")
    return {"impact": impact(contribution), "drawn": drawn.prefetch_related("corpus_parts__corpus")}


def history(contribution: Contribution) -> list[AuditEvent]:
    """Return its events, newest first, each with its sentence; those of corpora name the corpus and the images."""
    events = audit.with_sentences(audit.of(contribution))
    for event in events:
        if event.verb in {ENTERED, LEFT}:
            images = event.facts["images"]
            event.note = f"{event.facts['title']}, {images:,} {'image' if images == 1 else 'images'}"
    return events
