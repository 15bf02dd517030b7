"""Check 10: nothing in the drawn images looks planted. Reported: the board decides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..generator import Base
from ..metrics import auroc
from ..probe import ProbeError, fit_and_score
from .drawn import Drawn, Reference
from .fidelity import FEWEST
from .results import CheckResult, not_measured
from .sites import FEWEST_SITES, Others
from .utility import PROBE, asked_of, known

CELLS = 8  # of the image a side, in the search for a patch that is always the same


def check_poisoning(drawn: Drawn, reference: Reference | None, base: Base, others: Others | None = None) -> CheckResult:
    """
    Check 10: outliers by the spectral signature, by high frequencies, and a patch that does not vary.

    It warns, and never fails: a camera of the site's own may explain each.

    Args:
        others: images of other sites' accepted contributions; with them it is measured what a probe loses by these
            (effect), and it warns where that is more than warn_site_effect.
    """
    if reference is None:
        return not_measured(
            10, "poisoning", f"{base.slug} has no public reference to compare with.", code="no_reference"
        )
    if len(drawn.pixels) < FEWEST:
        sentence = f"{len(drawn.pixels)} images are too few to see what each of them has; it takes {FEWEST}."
        return not_measured(10, "poisoning", sentence, code="too_few", fix="Draw more images.")
    limits = base.thresholds
    spectral = _outliers(spectral_scores(drawn.features), limits["warn_robust_z"])
    ours, theirs = high_frequency(drawn.pixels), high_frequency(reference.pixels)
    shift = float((np.median(ours) - np.median(theirs)) / _spread(theirs))
    patches = still_patches(drawn.pixels, reference.pixels, share=limits["min_patch_variation"])
    evidence: dict[str, Any] = {
        "samples": len(drawn.pixels),
        "spectral_outliers": spectral,
        "high_frequency_shift": round(shift, 2),
        "still_patches": patches,
        "reference": reference.facts(),
    }
    found = [
        f"{spectral} images stand apart along the main direction of all" if spectral else "",
        f"fine structure differs from photographs by {shift:.1f} spreads" if shift > limits["warn_robust_z"] else "",
        f"{len(patches)} patches look the same in every image" if patches else "",
    ]
    if others is not None and others.sites >= FEWEST_SITES and (left_out := effect(drawn, others, reference, base)):
        evidence["left_out"] = left_out
        if left_out["effect"] < -limits["warn_site_effect"]:
            found.append(
                f"a probe of the images of {left_out['sites'] + 1} sites is worse by {-left_out['effect']:.2f} AUROC "
                "than without these"
            )
    remarks = "; ".join(filter(None, found))
    if remarks:
        fix = "Look at the samples for stamps, marks or borders that your camera or export puts on every photograph."
        return CheckResult(
            10, "poisoning", "warn", f"Something to look at: {remarks}.", fix, {"code": "odd", **evidence}
        )
    sentence = f"Nothing looks planted in {len(drawn.pixels)} images: no outliers, no fixed patch, no odd texture."
    if "left_out" in evidence:
        both = evidence["left_out"]
        sentence += (
            f" A probe of {both['sites'] + 1} sites reaches an AUROC of {both['with']:.2f} with these images and "
        )
        sentence += f"{both['without']:.2f} without them."
    return CheckResult(10, "poisoning", "pass", sentence, evidence=evidence)


def spectral_scores(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """
    Return the squared projection of each centred row (N, D) on the first right singular vector, (N,).

    Source: Tran et al. 2018, arXiv:1811.00636, algorithm 1.
    """
    centred = features.astype(np.float64) - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[0]) ** 2


def _outliers(scores: NDArray[np.float64], limit: float) -> int:
    """Count the scores whose root lies more than `limit` spreads above the median root."""
    roots = np.sqrt(scores)
    return int(((roots - np.median(roots)) / _spread(roots) > limit).sum())


def _spread(values: NDArray[np.float64]) -> float:
    """Return the median absolute deviation over 0.6745: the standard deviation, were they normal."""
    return max(float(np.median(np.abs(values - np.median(values)))) / 0.6745, 1e-9)


def high_frequency(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of each grey image's energy in the upper half of its frequencies, (N,)."""
    grey = pixels.mean(axis=3)
    energy = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    frequency = np.abs(np.fft.fftfreq(grey.shape[1]))
    upper = np.maximum(frequency[:, None], frequency[None, :]) > 0.25
    return energy[:, upper].sum(axis=1) / np.maximum(energy.sum(axis=(1, 2)), 1e-12)


def still_patches(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], *, share: float) -> list[list[int]]:
    """
    List the cells [row, column] of CELLS x CELLS that vary less than `share` of what they vary by over photographs.

    A trigger stamped on every image does not vary. Cells that are dark in photographs are left out.
    """
    mine, public = _cell_means(ours), _cell_means(theirs)
    varied = public.std(axis=0).mean(axis=2)
    still = mine.std(axis=0).mean(axis=2) < share * varied
    return [[int(row), int(column)] for row, column in np.argwhere(still & (public.mean(axis=(0, 3)) > 25))]


def _cell_means(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean colour of each cell, (N, CELLS, CELLS, 3)."""
    count, side = len(pixels), pixels.shape[1] // CELLS
    return pixels.reshape(count, CELLS, side, CELLS, side, 3).mean(axis=(2, 4))


def effect(drawn: Drawn, others: Others, reference: Reference, base: Base) -> dict[str, Any]:
    """
    Return the AUROC on public photographs of a probe trained with and without these images, as JSON values.

    It is the leave-one-site-out comparison for one site: a contribution that makes the probe worse for everybody
    stands out by it (influence by deletion, Koh & Liang 2017, arXiv:1703.04730, section 2.1, computed by training
    twice instead of approximated). Empty where a probe cannot be fitted, or nobody says what it is of.
    """
    if (asked := asked_of(base)) is None:
        return {}
    having = asked[1]
    real, test_y = known(reference.classes, base, having)
    test_x = reference.features[real]

    def score(features: NDArray[np.float32], classes: NDArray[Any]) -> float:
        graded, labels = known(classes, base, having)
        return auroc(test_y, fit_and_score(features[graded], labels, test_x, PROBE.inverse_regularisations[0], PROBE))

    try:
        without = score(others.features, others.classes)
        everything = np.concatenate([others.features, drawn.features]), np.concatenate([others.classes, drawn.classes])
        together = score(*everything)
    except (ProbeError, ValueError):
        return {}
    return {
        "sites": others.sites,
        "without": round(without, 4),
        "with": round(together, 4),
        "effect": round(together - without, 4),
        "probe": PROBE.describe("train on synthetic, test on real"),
        "base": base.slug,
    }
