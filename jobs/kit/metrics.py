"""Areas under ROC curves with intervals that respect that a patient has several photographs."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import KitError

MINIMUM_CELL = 20  # positives and negatives: DESIGN.md section 7, smaller cells show no figure
# Patients with a positive, and with a negative, photograph. Fewer resample badly, and a figure of fewer is nearly a
# person's: the threshold of Griffiths et al. 2019, Handbook on Statistical Disclosure Control for Outputs.
MINIMUM_PATIENTS = 10
_DRAWS_AT_ONCE = 4_000_000  # bounds the memory of one block of patient draws to 32 MB

Sides = tuple[int, int, int, int]  # positives, negatives, patients with a positive, patients with a negative


class MetricError(KitError):
    """Labels, scores or groups that no AUROC can be computed from."""

    default_code = "metric_error"


@dataclass(frozen=True)
class AurocInterval:
    """
    An AUROC with its bootstrap interval; every figure but n is None in a suppressed cell.

    n: samples. n_patients: distinct patient groups. n_excluded: resamples that held a single class.
    """

    n: int
    suppressed: bool
    n_positive: int | None = None
    n_patients: int | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n_resamples: int | None = None
    n_excluded: int | None = None


def auroc(y: ArrayLike, score: ArrayLike) -> float:
    """
    Return the area under the ROC curve, a tie between a positive and a negative counting one half.

    Args:
        y: (N,), 0 or 1, both present.
        score: (N,), finite, larger means more likely positive.
    Raises:
        MetricError: a single class, a non-finite score, or lengths that differ.
    Source: Mann-Whitney statistic, Hanley and McNeil 1982, doi 10.1148/radiology.143.1.7063747.
    """
    labels, scores = _checked(y, score)
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        raise MetricError("AUROC needs positives and negatives: the labels hold a single class.")
    ranks = _midranks(scores)
    return float((ranks[labels].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def bootstrap_auroc(
    y: ArrayLike,
    score: ArrayLike,
    groups: ArrayLike,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    alpha: float = 0.05,
    minimum: int = MINIMUM_CELL,
    minimum_patients: int = MINIMUM_PATIENTS,
) -> AurocInterval:
    """
    Return the AUROC with its percentile interval over resampled patients.

    Patients, not photographs, are drawn with replacement: all photographs of a drawn patient come along. Resamples
    of a single class have no AUROC; they are left out and counted. The same seed and number of patients give the
    same draws, so two encoders scored on the same samples are compared on the same resamples.

    Of scores that no resample can mix up (an area of 1, of 0, or of nothing but ties) every draw has the same area,
    which says nothing of how sure it is: there the interval is score_interval's, with patients for its samples.

    Args:
        y: (N,), 0 or 1.
        score: (N,), finite.
        groups: (N,), the patient of each sample.
        alpha: 0.05 gives a 95 % interval.
        minimum: fewer positives or negatives than this suppresses the figures.
        minimum_patients: fewer patients with a positive, or with a negative, sample do as well.
    Source: Efron and Tibshirani 1993, section 13.3 (percentile interval), clusters resampled as units.
    """
    labels, scores = _checked(y, score)
    patients, patient_of = np.unique(np.asarray(groups), return_inverse=True)
    if len(patient_of) != len(labels):
        raise MetricError(f"There are {len(labels)} labels but {len(patient_of)} patient groups.")
    n_positive = int(labels.sum())
    is_small = are_small(*sides(labels, patient_of), minimum=minimum, minimum_patients=minimum_patients)
    if is_small or len(patients) < 2:
        return AurocInterval(n=len(labels), suppressed=True)
    counts = resample_counts(len(patients), n_resamples, seed)
    areas = weighted_aurocs(labels, scores, counts[patient_of])
    kept = areas[~np.isnan(areas)]
    if not len(kept):
        raise MetricError("Every bootstrap resample held a single class: the positives belong to too few patients.")
    estimate = auroc(labels, scores)
    low, high = np.quantile(kept, [alpha / 2, 1 - alpha / 2])
    if low == high:
        low, high = score_interval(estimate, *sides(labels, patient_of)[2:], alpha=alpha)
    return AurocInterval(
        n=len(labels),
        suppressed=False,
        n_positive=n_positive,
        n_patients=len(patients),
        estimate=estimate,
        low=float(low),
        high=float(high),
        n_resamples=n_resamples,
        n_excluded=n_resamples - len(kept),
    )


def score_interval(estimate: float, n_positive: int, n_negative: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """
    Return the interval of an AUROC from the estimate and the sizes of its two samples: also of 1 it has a width.

    Its ends are the areas t with |t - estimate| = z sqrt(V(t)), where h = (n_positive + n_negative) / 2 - 1 and
    V(t) = t (1 - t) [1 + h (1 - t) / (2 - t) + h t / (1 + t)] / (n_positive n_negative).

    Source: Newcombe 2006, method 5, doi 10.1002/sim.2324.
    """
    from scipy.optimize import brentq  # noqa: PLC0415 -- slow import

    z, h = NormalDist().inv_cdf(1 - alpha / 2), (n_positive + n_negative) / 2 - 1

    def beyond(area: float) -> float:
        spread = 1 + h * (1 - area) / (2 - area) + h * area / (1 + area)
        return (area - estimate) ** 2 - z**2 * area * (1 - area) * spread / (n_positive * n_negative)

    # It is negative a little beside the estimate, which is itself an end where it is 0 or 1.
    low = brentq(beyond, 0.0, estimate - 1e-12) if estimate > 0 else 0.0
    high = brentq(beyond, estimate + 1e-12, 1.0) if estimate < 1 else 1.0
    return float(low), float(high)


def sides(y: ArrayLike, groups: ArrayLike) -> Sides:
    """Return how many samples are positive and negative, and how many patients have one that is."""
    labels, patients = np.asarray(y).astype(bool), np.asarray(groups)
    n_positive = int(labels.sum())
    having, lacking = (len(np.unique(patients[side])) for side in (labels, ~labels))
    return n_positive, len(labels) - n_positive, having, lacking


def are_small(
    n_positive: int,
    n_negative: int,
    n_patients_positive: int,
    n_patients_negative: int,
    *,
    minimum: int = MINIMUM_CELL,
    minimum_patients: int = MINIMUM_PATIENTS,
) -> bool:
    """Test if the sides of a cell are too small to show a figure of it."""
    return min(n_positive, n_negative) < minimum or min(n_patients_positive, n_patients_negative) < minimum_patients


def resample_counts(n_patients: int, n_resamples: int, seed: int) -> NDArray[np.uint16]:
    """Return (n_patients, n_resamples): how often each patient was drawn in each bootstrap resample."""
    rng = np.random.default_rng(seed)
    counts = np.empty((n_patients, n_resamples), dtype=np.uint16)
    block = max(1, _DRAWS_AT_ONCE // n_patients)
    for start in range(0, n_resamples, block):
        width = min(block, n_resamples - start)
        drawn = rng.integers(0, n_patients, size=(width, n_patients)) + n_patients * np.arange(width)[:, None]
        flat = np.bincount(drawn.ravel(), minlength=width * n_patients)
        counts[:, start : start + width] = flat.reshape(width, n_patients).T
    return counts


def weighted_aurocs(y: ArrayLike, score: ArrayLike, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
    """
    Return the AUROC of each column of sample weights; NaN where a column holds a single class.

    Rows are walked in the order of their score with the running weights of all columns at once (they stay in the
    first-level cache). Sums are integers, twice the area, so nothing is rounded before the one division.

    Args:
        y: (N,), 0 or 1.
        score: (N,).
        weights: (N, B), non-negative integers.
    Returns:
        (B,), float64.
    """
    labels, scores = _checked(y, score)
    order = np.argsort(scores, kind="stable")
    ends_tie = np.append(np.diff(scores[order]) != 0, True)
    n_columns = weights.shape[1]
    twice_area, negatives, positives = (np.zeros(n_columns, dtype=np.int64) for _ in range(3))
    tied_positive, tied_negative = (np.zeros(n_columns, dtype=np.int64) for _ in range(2))
    for row, last_of_tie in zip(order, ends_tie, strict=True):
        tied = tied_positive if labels[row] else tied_negative
        tied += weights[row]
        if last_of_tie:
            twice_area += tied_positive * (2 * negatives + tied_negative)
            positives += tied_positive
            negatives += tied_negative
            tied_positive[:] = 0
            tied_negative[:] = 0
    pairs = (positives * negatives).astype(np.float64)
    return np.divide(twice_area / 2, pairs, out=np.full(n_columns, np.nan), where=pairs > 0)


def roc_points(y: ArrayLike, score: ArrayLike, *, most: int = 100) -> list[tuple[float, float]]:
    """
    Return at most `most` points (false positive rate, true positive rate) of the ROC curve, from (0, 0) to (1, 1).

    Points are thinned evenly along the curve, so a figure drawn from them shows the shape and not the exact area.
    """
    labels, scores = _checked(y, score)
    order = np.argsort(-scores, kind="stable")
    ends_tie = np.append(np.diff(scores[order]) != 0, True)
    true_positives = np.cumsum(labels[order])[ends_tie]
    false_positives = np.cumsum(~labels[order])[ends_tie]
    tpr = np.append(0, true_positives / max(1, labels.sum()))
    fpr = np.append(0, false_positives / max(1, (~labels).sum()))
    keep = np.unique(np.linspace(0, len(tpr) - 1, min(most, len(tpr))).round().astype(int))
    return [(round(float(fpr[i]), 6), round(float(tpr[i]), 6)) for i in keep]


def _checked(y: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels as booleans and scores as float64, or say what is wrong with them."""
    labels, scores = np.asarray(y), np.asarray(score, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise MetricError(f"Labels {labels.shape} and scores {scores.shape} must be two lists of one length.")
    if not np.isin(labels, (0, 1)).all():
        raise MetricError("Labels must be 0 or 1.")
    if not np.isfinite(scores).all():
        raise MetricError("A score is not a finite number: look at the features the probe was given.")
    return labels.astype(bool), scores


def _midranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1, tied values sharing the mean of their ranks."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]
