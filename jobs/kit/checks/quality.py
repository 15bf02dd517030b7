"""Check 7 of synthetic images: they look like photographs of the modality, and in which mixture of qualities."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import likeness
from ..generator import Base
from ..synthetic import images_of
from .drawn import Reference
from .generation import is_like
from .results import SHEET, CheckResult
from .shard import Seen

SHOWN = 64
TAIL = 0.05  # of the public photographs: outside it an image is called blurred, or badly exposed
NAMES = ("like photographs", "blurred", "badly exposed", "not of the modality")
AGAIN = "Look through the images, delete what is no photograph, and send the rest; the listing may keep its rows."


def check_quality(seen: Seen, base: Base, reference: Reference | None, out_dir: Path) -> CheckResult:
    """
    Check 7: every image is measured as check 7 of weights measures samples, with the same thresholds (generation.py).

    The mixture is a record, not a gate: blurred is below the 5 % quantile of the public photographs' sharpness, badly
    exposed outside the middle 90 % of their brightness, each at the generator's size.
    """
    limits = base.thresholds
    out_dir.mkdir(parents=True, exist_ok=True)
    likeness.save_sheet(seen.chosen.pixels[:SHOWN], out_dir / SHEET)
    bounds = None if reference is None else _bounds(reference.pixels)
    mixture = Counter(
        _grade(pixels / 255.0, limits, bounds) for _, _, pixels, _ in images_of(list(seen.paths), base.image_size)
    )
    count = len(seen.rows)
    like = count - mixture[NAMES[3]]
    evidence: dict[str, Any] = {
        "images": count,
        "fundus_like": like,
        "mixture": {name: round(mixture[name] / count, 4) for name in NAMES},
        "sheet": SHEET,
    }
    sentence = f"{like:,} of {count:,} images look like photographs of the modality; {mixture[NAMES[1]]:,} are blurred."
    if like < limits["min_fundus_like"] * count:
        return CheckResult(7, "quality", "fail", sentence, AGAIN, {"code": "not_fundus_like", **evidence})
    if like < limits["warn_fundus_like"] * count:
        return CheckResult(7, "quality", "warn", sentence, AGAIN, {"code": "borderline", **evidence})
    return CheckResult(7, "quality", "pass", sentence, evidence=evidence)


def _bounds(photographs: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Return the least sharpness, and the least and largest brightness, of all but the tails of the photographs."""
    sharp = [_sharpness(pixels / 255.0) for pixels in photographs]
    bright = [likeness.measure(pixels / 255.0).brightness for pixels in photographs]
    darkest, brightest = np.quantile(bright, [TAIL, 1 - TAIL])
    return float(np.quantile(sharp, TAIL)), float(darkest), float(brightest)


def _grade(image: NDArray[np.float64], limits: dict[str, float], bounds: tuple[float, float, float] | None) -> str:
    seen = likeness.measure(image)
    if not is_like(seen, limits):
        return NAMES[3]
    if bounds is None:
        return NAMES[0]
    if _sharpness(image) < bounds[0]:
        return NAMES[1]
    return NAMES[0] if bounds[1] <= seen.brightness <= bounds[2] else NAMES[2]


def _sharpness(image: NDArray[np.float64]) -> float:
    """Return the mean difference of neighbouring pixels of the grey image, 0-1."""
    grey = image.mean(axis=2)
    return float(np.abs(np.diff(grey, axis=1)).mean())
