"""Check 4 of synthetic images: each says where it comes from, and where the generator is held, it does."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import generator
from ..generator import Base
from ..synthetic import redrawn, tags_of
from .results import CheckResult
from .shard import Seen

SEND_IT = (
    "Where the weights may leave too, contribute them first: images are then drawn again from them. Where they may "
    "not, the board decides by the rest of the report."
)
OWN = (
    "Draw the images from the generator that learnt from your own patients. Where two institutions made one together, "
    "say so to the board: the one that contributed it may send its images too."
)
NEARLY = 0.5  # of 255, the mean over all pixels: what rounding on another machine may do
AGAIN = "Draw the images with `consortium sample`, and send them as it wrote them."


def check_provenance(
    seen: Seen,
    base: Base,
    generators: Mapping[str, Path] | None = None,
    *,
    salt: str = "",
    elsewhere: Set[str] = frozenset(),
) -> CheckResult:
    """
    Check 4: one generator of this base and not the base itself; every image's own tags agree with the manifest; no name
    and no seed twice; no more images than were drawn.

    Where the generator is held, redrawn_images of them are drawn again from their seeds; where it is not, it warns. The
    same machine gives the same pixels, another one nearly: the mean difference is at most max_redrawn_difference (of
    255), and other seeds differ by more than ten times that (tests/unit/test_kit_synthetic.py). Two classes of one seed
    may differ by less, by 2.8 at least in fundus-64. So an image that is not nearly the same fails, too, where the
    difference from another class is less than half of it.
    Of adapters this is not looked at: each of their images takes a minute.

    Args:
        generators: SHA-256 to file, of generators that passed their own checks.
        elsewhere: SHA-256 of generators that other institutions gave.
    """
    first = seen.manifests[0]
    evidence: dict[str, Any] = {
        "generator_sha256": first.generator_sha256,
        "base": first.base,
        "date": first.date,
        "drawn": first.drawn,
        "kept": len(seen.rows),
    }
    if problem := _untrue(seen, base):
        code, sentence = problem
        return CheckResult(4, "provenance", "fail", sentence, AGAIN, {"code": code, **evidence})
    told = f"All images name the generator {first.generator_sha256[:16]}…, their class and their seed."
    held = (generators or {}).get(first.generator_sha256)
    if held is None and first.generator_sha256 in elsewhere:
        sentence = f"{told} It is the generator that another institution contributed, so none was drawn again."
        evidence |= {"code": "anothers_generator", "redrawn": 0}
        return CheckResult(4, "provenance", "warn", sentence, OWN, evidence)
    if held is None:
        sentence = f"{told} It is not held here, so none was drawn again: nothing shows that it made them."
        evidence |= {"code": "not_redrawn_here", "redrawn": 0}
        return CheckResult(4, "provenance", "warn", sentence, SEND_IT, evidence)
    differences, mislabelled = _redraw(seen, base, held, salt)
    evidence |= {"redrawn": len(differences), "largest_difference": round(max(differences.values()), 3)}
    if problem := _otherwise(differences, mislabelled, base.thresholds["max_redrawn_difference"]):
        code, sentence = problem
        return CheckResult(4, "provenance", "fail", sentence, AGAIN, {"code": code, **evidence})
    sentence = f"{told} {len(differences)} of them, drawn again here, came out the same."
    return CheckResult(4, "provenance", "pass", sentence, evidence=evidence)


def _otherwise(differences: dict[str, float], mislabelled: list[str], limit: float) -> tuple[str, str] | None:
    """Return (code, sentence) of images that came out otherwise when they were drawn again."""
    total = len(differences)
    if false := [name for name, difference in differences.items() if difference > limit]:
        what = "not what that generator draws from their seeds"
        return "not_redrawn", f"{len(false)} of {total} images are {what}; the first is {false[0]}."
    if mislabelled:
        what = "what that generator draws of another class than they claim"
        return "other_class", f"{len(mislabelled)} of {total} images are {what}; the first is {mislabelled[0]}."
    return None


def _untrue(seen: Seen, base: Base) -> tuple[str, str] | None:
    """Return (code, sentence) of the first thing that the images say wrongly."""
    first = seen.manifests[0]
    if any(manifest.alike() != first.alike() for manifest in seen.manifests):
        return "several_generators", "The shards are of several runs: each names another generator, date or count."
    if first.base != {"slug": base.slug, "sha256": base.sha256}:
        return "other_base", f"The images were drawn from a generator of another base than {base.slug}."
    if first.steps != int(base.config["sampling_steps"]):
        return "other_sampling", f"The images were drawn in {first.steps} steps; {base.slug} takes another number."
    if first.generator_sha256 == base.sha256:
        return "is_the_base", f"The images name {base.slug} itself as their generator: nothing was learnt."
    if first.drawn < len(seen.rows):
        return "too_few_drawn", f"{len(seen.rows):,} images came, and only {first.drawn:,} were drawn, by the manifest."
    if len({row.file for row in seen.rows}) < len(seen.rows):
        return "name_twice", "Two images have the same name."
    if len({row.seed for row in seen.rows}) < len(seen.rows):
        return "seed_twice", "Two images claim the same seed."
    for row, tags in zip(seen.rows, seen.tags, strict=True):
        if row.label >= len(base.config["classes"]):
            return "unknown_class", f"{row.file} claims the class {row.label}, which {base.slug} does not have."
        if tags != _expected(row.seed, row.label, first, base):
            return "tags_differ", f"{row.file} says another thing of itself than the manifest says of it."
    return None


def _expected(seed: int, label: int, manifest: Any, base: Base) -> dict[str, str]:
    row = {
        "synthetic": "true", "generator_sha256": manifest.generator_sha256, "base": base.slug, "class": label,
        "seed": seed, "date": manifest.date, "kit_version": manifest.kit_version,
    }  # fmt: skip
    return tags_of(row)


def _redraw(seen: Seen, base: Base, weights: Path, salt: str) -> tuple[dict[str, float], list[str]]:
    """
    Draw images again from what they name.

    Returns:
        their mean difference, 0 to 255, by file name; and the names of those that are of another class than they claim.
    """
    model = generator.load(base, weights)
    order = np.random.default_rng(list(f"redrawn {salt}".encode())).permutation(len(seen.chosen.pixels))
    found, mislabelled = {}, []
    for place in order[: int(base.thresholds["redrawn_images"])]:
        row, pixels = seen.rows[seen.chosen_rows[place]], seen.chosen.pixels[place]
        found[row.file] = own = _apart(pixels, redrawn(model, base, [row.label], row.seed)[0])
        if NEARLY < own <= base.thresholds["max_redrawn_difference"] and not base.is_adapter:
            others = (label for label in range(len(base.config["classes"])) if label != row.label)
            if any(_apart(pixels, redrawn(model, base, [label], row.seed)[0]) < own / 2 for label in others):
                mislabelled.append(row.file)
    return found, mislabelled


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())
