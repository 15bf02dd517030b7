"""Check 7: images drawn from fixed seeds are varied photographs of the modality."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import generator, likeness
from ..generator import Base
from .drawn import Drawn
from .results import SHEET, CheckResult, Progress, Verdict
from .sites import Others

OUTLINE = 16  # pixels a side, as in likeness.distances(): noise in the weights changes the texture first


def check_generation(
    path: Path, base: Base, out_dir: Path, on_progress: Progress | None = None, *, others: Others | None = None
) -> tuple[CheckResult, Drawn]:
    """
    Check 7: draw images from fixed seeds and look whether they are varied photographs of the modality.

    An image is like those when all of these hold (likeness.py defines the numbers; thresholds are in config.json under
    `checks`, and its card.md says what real photographs and the base measure; a modality without a round or warm field
    sets max_corner_ratio high and min_warmth to -1):
        min_contrast: not blank, not constant.
        min_brightness: something is lit in the middle.
        max_corner_ratio: dark corners around a round field.
        min_warmth: red above blue, as haemoglobin and pigment make every retina, in any ethnicity or camera.
        min_smoothness: neighbouring pixels agree, as in a photograph and not in noise.
    Below min_fundus_like (a share of the images; damaged weights give 0) it fails, below warn_fundus_like it warns.
    Diversity: above max_near_duplicates (share of all pairs closer than duplicate_distance) it fails, because the
    generator collapsed to few pictures; above warn_near_duplicates it warns.
    The base's own: it fails where the first compared_images are, within min_drawn_change, those that the base draws:
    weights can be changed, by permuting channels for instance, and draw what they drew before.
    Another's: these images, reduced to 16 x 16 pixels, are held against those of other sites' accepted weights. Where
    they differ on average by less than min_others_ratio of what they differ by from the base's, it fails; below
    warn_others_ratio it warns.
    """
    limits = base.thresholds
    classes = [index % len(base.config["classes"]) for index in range(int(limits["samples"]))]
    images = _draw(base, path, classes, on_progress)
    pixels = generator.to_uint8(images)
    out_dir.mkdir(parents=True, exist_ok=True)
    likeness.save_sheet(pixels, out_dir / SHEET)
    result = judge_samples(images, pixels, base)
    outlines = likeness.reduced(images[: int(limits["compared_images"])], OUTLINE)
    if result.verdict != "fail":
        result = _compared(result, images[: len(outlines)], classes, base, others or Others())
    return result, Drawn(pixels, np.array(classes), outlines)


def _draw(base: Base, path: Path | None, classes: list[int], on_progress: Progress | None = None) -> np.ndarray:
    """Draw one image of each class from the weights in `path`, or from the base, by the seeds of check 7."""
    return generator.sample(
        generator.load(base, path),
        base.config["scheduler"],
        classes,
        seed=int(base.thresholds["seed"]),
        steps=int(base.config["sampling_steps"]),
        on_progress=on_progress,
    )


def _compared(result: CheckResult, images: np.ndarray, classes: list[int], base: Base, others: Others) -> CheckResult:
    """Return the result, or a failed one where the base or another site draws these images from the same seeds."""
    drawn_by_base = _draw(base, None, classes[: len(images)])
    change = float(np.abs(images - drawn_by_base).max())
    evidence = result.evidence | {"compared": len(images), "largest_change": float(f"{change:.4g}")}
    if change < base.thresholds["min_drawn_change"]:
        sentence = f"The file draws, pixel for pixel, what {base.slug} draws from the same seeds: nothing was learnt."
        fix = "Run `consortium fit` on your images and send the weights.safetensors it writes."
        return replace(
            result, verdict="fail", sentence=sentence, fix=fix, evidence=evidence | {"code": "draws_the_base"}
        )
    return _compared_with_others(replace(result, evidence=evidence), images, drawn_by_base, base, others)


def _compared_with_others(
    result: CheckResult, images: np.ndarray, drawn_by_base: np.ndarray, base: Base, others: Others
) -> CheckResult:
    """
    Return the result, a failed one where another site's weights draw these images, or a remark where nearly.

    Only the verdict is told: by figures one could find out how far others' weights are.
    """
    limits, drawing = base.thresholds, others.drawing(len(images))
    ours, theirs = (likeness.reduced(drawn, OUTLINE) for drawn in (images, drawn_by_base))
    own = max(float(np.abs(ours - theirs).mean()), 1e-9)
    ratio = min((float(np.abs(ours - another).mean()) / own for another in drawing), default=np.inf)
    fix = (
        "Run `consortium fit` on your own images and send what it writes. Weights that two institutions made together "
        "are sent once, by one of them."
    )
    if ratio < limits["min_others_ratio"]:
        sentence = "The file draws what another institution's accepted weights draw from the same seeds."
        evidence = result.evidence | {"code": "draws_anothers"}
        return replace(result, verdict="fail", sentence=sentence, fix=fix, evidence=evidence)
    if ratio < limits["warn_others_ratio"]:
        sentence = f"{result.sentence} They are nearly those of another institution's accepted weights."
        evidence = result.evidence | {"code": "near_anothers"}
        return replace(result, verdict="warn", sentence=sentence, fix=fix, evidence=evidence)
    return result


def judge_samples(images: np.ndarray, pixels: np.ndarray, base: Base) -> CheckResult:
    """Judge raw images (N, S, S, 3) and their uint8 pixels by the thresholds of check_generation()."""
    limits = base.thresholds
    finite = int(np.isfinite(images).all(axis=(1, 2, 3)).sum())
    measured = [likeness.measure(image / 255.0) for image in pixels]
    like = [is_like(m, limits) for m in measured]
    pairs = likeness.near_duplicates(pixels, limits["duplicate_distance"])
    possible = len(pixels) * (len(pixels) - 1) // 2
    median = {k: round(float(np.median([getattr(m, k) for m in measured])), 4) for k in asdict(measured[0])}
    evidence: dict[str, Any] = {
        "samples": len(pixels),
        "seed": int(limits["seed"]),
        "finite": finite,
        "fundus_like": sum(like),
        "near_duplicate_pairs": len(pairs),
        "pairs": possible,
        "median": median,
        "sheet": SHEET,
    }
    return _generation_result(evidence, limits)


def is_like(m: likeness.Likeness, limits: dict[str, float]) -> bool:
    """Test if a measured image looks like one of the modality; see check_generation()."""
    return (
        m.contrast >= limits["min_contrast"]
        and m.brightness >= limits["min_brightness"]
        and m.corner_ratio <= limits["max_corner_ratio"]
        and m.warmth >= limits["min_warmth"]
        and m.smoothness >= limits["min_smoothness"]
    )


def _generation_result(evidence: dict[str, Any], limits: dict[str, float]) -> CheckResult:
    count, like, pairs = evidence["samples"], evidence["fundus_like"], evidence["near_duplicate_pairs"]
    again = (
        "Train again from the base, with a lower learning rate or fewer steps, and look at the samples before sending."
    )

    def result(verdict: Verdict, sentence: str, code: str = "") -> CheckResult:
        more = {"code": code} if code else {}
        return CheckResult(7, "generation", verdict, sentence, again if code else "", more | evidence)

    if evidence["finite"] < count:
        return result("fail", f"{count - evidence['finite']} of {count} generated images hold NaN.", "not_finite")
    if evidence["median"]["contrast"] < limits["min_contrast"]:
        return result("fail", "The generated images are blank or of one colour.", "blank")
    if like < limits["min_fundus_like"] * count:
        sentence = f"Only {like} of {count} generated images look like photographs of the modality."
        return result("fail", sentence, "not_fundus_like")
    if pairs > limits["max_near_duplicates"] * evidence["pairs"]:
        sentence = f"{pairs} of {evidence['pairs']} pairs of generated images are nearly the same picture."
        return result("fail", sentence, "not_diverse")
    sentence = (
        f"{like} of {count} generated images look like photographs of the modality; {pairs} pairs are nearly the same."
    )
    if like < limits["warn_fundus_like"] * count or pairs > limits["warn_near_duplicates"] * evidence["pairs"]:
        return result("warn", sentence, "borderline")
    return result("pass", sentence)
