"""Check 8: how near the drawn images come to public photographs as a whole. Reported, never a gate by itself."""

import numpy as np
from numpy.typing import NDArray

from ..encoder import LITE0_SHA256
from ..generator import Base
from .drawn import Drawn, Reference
from .results import CheckResult, not_measured

NEIGHBOURS = 5  # k of precision, recall and coverage, as Naeem et al. 2020 advise
FEWEST = NEIGHBOURS + 1  # images: each needs as many others

Features = NDArray[np.float64]


def check_fidelity(drawn: Drawn, reference: Reference | None, base: Base) -> CheckResult:
    """Check 8. It warns above warn_kid, and never fails: a site's patients may differ from the public ones."""
    if reference is None:
        return not_measured(8, "fidelity", f"{base.slug} has no public reference to compare with.", code="no_reference")
    if len(drawn.pixels) < FEWEST:
        sentence = f"{len(drawn.pixels)} images are too few for a distance; it takes {FEWEST}."
        return not_measured(8, "fidelity", sentence, code="too_few", fix="Draw more images.")
    ours, theirs = drawn.features.astype(np.float64), reference.features.astype(np.float64)
    distance, error = kid(ours, theirs)
    precision, recall, coverage = overlap(ours, theirs)
    evidence = {
        "samples": len(ours),
        "reference": reference.facts(),
        "seed": int(base.thresholds["seed"]),
        "extractor": {"name": "efficientnet-lite0-imagenet", "sha256": LITE0_SHA256, "dimensions": ours.shape[1]},
        "kid": round(distance, 5),
        "kid_standard_error": round(error, 5),
        "fid": round(fid(ours, theirs), 2),
        "precision": round(precision, 3),
        "recall": round(recall, 3),
        "coverage": round(coverage, 3),
        "neighbours": NEIGHBOURS,
    }
    sentence = (
        f"Kernel distance {distance:.3f} (standard error {error:.3f}) from {len(theirs)} public photographs; "
        f"{precision:.0%} of the images lie among them, and they cover {coverage:.0%} of them."
    )
    if distance > base.thresholds["warn_kid"]:
        fix = "Look at the samples: blurred or odd images want more steps, or a lower learning rate."
        return CheckResult(8, "fidelity", "warn", sentence, fix, {"code": "far_from_public", **evidence})
    return CheckResult(8, "fidelity", "pass", sentence, evidence=evidence)


def kid(ours: Features, theirs: Features) -> tuple[float, float]:
    """
    Return the squared kernel distance, unbiased, and its standard error by leaving each image of ours out once.

    Args:
        ours: (N, D). theirs: (M, D).
    Source: Binkowski et al. 2018, arXiv:1801.01401, section 4: kernel (x y / D + 1) ** 3.
    """
    dimensions = ours.shape[1]
    own, other, cross = ((a @ b.T / dimensions + 1) ** 3 for a, b in ((ours, ours), (theirs, theirs), (ours, theirs)))
    n, m = len(ours), len(theirs)
    np.fill_diagonal(own, 0.0)
    np.fill_diagonal(other, 0.0)
    theirs_alone = other.sum() / (m * (m - 1))
    value = own.sum() / (n * (n - 1)) + theirs_alone - 2 * cross.mean()
    rows, crossed = own.sum(axis=1), cross.mean(axis=1)
    without = (own.sum() - 2 * rows) / ((n - 1) * (n - 2)) + theirs_alone
    without = without - 2 * (crossed.sum() - crossed) / (n - 1)
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return float(value), float(error)


def fid(ours: Features, theirs: Features) -> float:
    """
    Return the Frechet distance of two Gaussians; biased upwards with fewer images than dimensions, as here.

    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6. The trace of the root of the product of covariances is the
    sum of the singular values of A B' with covariances A'A and B'B.
    """
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (ours, theirs))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    between = ((ours.mean(axis=0) - theirs.mean(axis=0)) ** 2).sum()
    return float(between + (a**2).sum() + (b**2).sum() - 2 * root)


def overlap(ours: Features, theirs: Features) -> tuple[float, float, float]:
    """
    Return precision, recall (Kynkaanniemi et al. 2019, arXiv:1904.06991, equation 1) and coverage (Naeem et al. 2020,
    arXiv:2002.09797, equation 5), each 0 to 1.
    """
    among, of_theirs, of_ours = _distances(ours, theirs), _reach(theirs), _reach(ours)
    inside = among <= of_theirs[None, :]
    recall = (among.T <= of_ours[None, :]).any(axis=1).mean()
    return float(inside.any(axis=1).mean()), float(recall), float(inside.any(axis=0).mean())


def _reach(rows: Features) -> Features:
    """Return the distance of each row to its NEIGHBOURS-th neighbour among the others, (N,)."""
    nearest = np.sort(_distances(rows, rows), axis=1)
    return nearest[:, min(NEIGHBOURS, len(rows) - 1)]


def _distances(a: Features, b: Features) -> Features:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))
