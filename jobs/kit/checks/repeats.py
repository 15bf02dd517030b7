"""Check 5 of synthetic images: no picture comes twice, and few come nearly twice."""

from collections import Counter
from typing import Any

from .. import likeness
from ..generator import Base
from .results import CheckResult
from .shard import Seen

AGAIN = "Draw the images anew, each with a seed of its own; a generator that repeats itself wants other training."


def check_repeats(seen: Seen, base: Base) -> CheckResult:
    """
    Check 5: all images are compared by their pixels and by coarse digests, those that are looked at also in pairs.

    Fails on any two equal pictures, above max_near_duplicates of the pairs (see generation.py for both thresholds), and
    where more than max_repeated of those that are looked at come nearly twice: of a thousand images that are sixteen
    copies of a few, hardly a pair is alike, and each image has a twin. Photographs: 10 of 230 have one. By the same
    share of all images it fails on coarse digests that come again: of three copies of 3,000 pictures, few twins are
    among those that are looked at.
    """
    limits, looked_at = base.thresholds, seen.chosen.pixels
    counts = Counter(seen.pixels_sha256)
    equal = sum(count - 1 for count in counts.values())
    pairs = likeness.near_duplicates(looked_at, limits["duplicate_distance"])
    twins = len({place for pair in pairs for place in pair})
    again = _repeated(seen.coarse)
    possible = max(1, len(looked_at) * (len(looked_at) - 1) // 2)
    evidence: dict[str, Any] = {
        "images": len(seen.rows), "equal": equal, "looked_at": len(looked_at), "near_duplicate_pairs": len(pairs),
        "pairs": possible, "with_a_twin": twins, "coarse_again": again,
    }  # fmt: skip
    if equal:
        twice = next(digest for digest, count in counts.items() if count > 1)
        first = seen.rows[seen.pixels_sha256.index(twice)].file
        sentence = f"{equal} images are, pixel for pixel, one of the others; the first such picture is {first}."
        return CheckResult(5, "duplicates", "fail", sentence, AGAIN, {"code": "equal_images", **evidence})
    sentence = (
        f"No picture comes twice among {len(seen.rows):,}; {len(pairs)} of {possible:,} pairs are nearly alike, and "
        f"{twins} of {len(looked_at)} images have a twin. In outline, {again:,} of all are another one again."
    )
    repeated = max(twins / len(looked_at), again / len(seen.rows))
    shares = {"near_duplicates": len(pairs) / possible, "repeated": repeated}
    if any(share > limits[f"max_{name}"] for name, share in shares.items()):
        return CheckResult(5, "duplicates", "fail", sentence, AGAIN, {"code": "not_diverse", **evidence})
    if any(share > limits[f"warn_{name}"] for name, share in shares.items()):
        return CheckResult(5, "duplicates", "warn", sentence, AGAIN, {"code": "borderline", **evidence})
    return CheckResult(5, "duplicates", "pass", sentence, evidence=evidence)


def _repeated(coarse: tuple[tuple[bytes, ...], ...]) -> int:
    """Return how many images share one of their digests with another image."""
    counts = [Counter(of_one_kind) for of_one_kind in zip(*coarse, strict=True)]
    return sum(any(count[digest] > 1 for count, digest in zip(counts, digests, strict=True)) for digests in coarse)
