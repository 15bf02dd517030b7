"""Linear probe: what a frozen encoder's features say about a label."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import KitError
from .metrics import auroc

GROUPED = "grouped-cross-validation"
FIXED = "fixed-split"
FITTED = ("train", "val")  # of a fixed split

Features = NDArray[np.float32]
Labels = NDArray[np.int_]
Scores = NDArray[np.float64]


class ProbeError(KitError):
    """Features, labels or groups that no probe can be fitted to."""

    default_code = "probe_failed"


@dataclass(frozen=True)
class ProbeConfig:
    """
    All that determines a probe beside its data.

    inverse_regularisations: the values of scikit-learn's C (one over the weight of the L2 penalty) to choose from. The
    best one depends on the number of features, so one C for all would favour the encoder it suits; it is chosen on
    the fitted samples alone, by AUROC in inner_folds by patient, the smaller C where two are equal.
    tolerance: on the gradient; scikit-learn's default, 1e-4, is not converged at large C.
    folds, seed: of the cross-validation; the seed also of the inner one.
    """

    inverse_regularisations: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    inner_folds: int = 4
    tolerance: float = 1e-6
    max_iterations: int = 5000
    folds: int = 5
    seed: int = 0

    def describe(self, protocol: str) -> dict[str, Any]:
        """Return the whole protocol in words and figures, for the record of an evaluation."""
        described: dict[str, Any] = {
            "name": protocol,
            "standardisation": "mean 0, standard deviation 1, taken on the training samples",
            "classifier": "logistic regression, L2",
            "solver": "lbfgs",
            "C": list(self.inverse_regularisations),
            "C_choice": f"AUROC in {self.inner_folds} inner folds by patient of the fitted samples",
            "seed": self.seed,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
        }
        if protocol == GROUPED:
            described |= {"folds": self.folds, "scores": "out of fold, pooled", "stratified": True}
        else:
            described |= {"fitted_on": "splits train and val", "scored_on": "split test"}
        return described


def cross_validated_scores(
    x: Features, y: Labels, groups: NDArray[Any], config: ProbeConfig
) -> tuple[Scores, list[float]]:
    """
    Return the score of every sample from a probe that saw none of its patient's samples.

    Stratified folds by patient, out-of-fold scores pooled.

    Args:
        x: (N, D). y: (N,), 0 or 1. groups: (N,), patients.
    Returns:
        (N,), log odds; and the C chosen in each fold.
    Raises:
        ProbeError: a class has fewer samples or patients than there are folds, or no convergence.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 -- slow import

    for value in (0, 1):
        patients = len(np.unique(groups[y == value]))
        if patients < config.folds:
            raise ProbeError(
                f"Only {patients} patients are labelled {value}: {config.folds} folds by patient need as many of each.",
                code="too_few_labelled",
            )
    folds = StratifiedGroupKFold(config.folds, shuffle=True, random_state=config.seed)
    scores = np.empty(len(y), dtype=np.float64)
    chosen = []
    for train, held_out in folds.split(x, y, groups):
        c = _choose_c(x[train], y[train], groups[train], config)
        scores[held_out] = fit_and_score(x[train], y[train], x[held_out], c, config)
        chosen.append(c)
    return scores, chosen


def fixed_split_scores(
    x: Features, y: Labels, groups: NDArray[Any], splits: NDArray[Any], config: ProbeConfig
) -> tuple[NDArray[np.intp], Scores, float]:
    """
    Fit on the splits train and val, score the split test.

    Args:
        x: (N, D). y: (N,), 0 or 1. groups: (N,), patients. splits: (N,), the column split; other values are left out.
    Returns:
        the rows of the test split and their scores, (T,) each; and the C chosen on train and val.
    Raises:
        ProbeError: no test sample, a single class to fit on, or no convergence.
    """
    fitted = np.isin(splits, FITTED)
    held_out = np.flatnonzero(splits == "test")
    if not len(held_out) or len(np.unique(y[fitted])) < 2:
        raise ProbeError(
            "The split leaves no labelled test image, or a single class to fit on.",
            code="too_few_labelled",
            fix="Use the protocol of cross-validation by patient.",
        )
    c = _choose_c(x[fitted], y[fitted], groups[fitted], config)
    return held_out, fit_and_score(x[fitted], y[fitted], x[held_out], c, config), c


def _choose_c(x: Features, y: Labels, groups: NDArray[Any], config: ProbeConfig) -> float:
    """Return the C with the best AUROC over inner folds by patient, the smallest of equals."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 -- slow import

    candidates = sorted(config.inverse_regularisations)
    if len(candidates) == 1:
        return candidates[0]
    inner = StratifiedGroupKFold(config.inner_folds, shuffle=True, random_state=config.seed)
    scores = np.empty((len(candidates), len(y)), dtype=np.float64)
    try:
        splits = list(inner.split(x, y, groups))
    except ValueError as error:
        raise ProbeError("Too few samples are labelled to choose C by patient.", code="too_few_labelled") from error
    for train, held_out in splits:
        if len(np.unique(y[train])) < 2:
            raise ProbeError("Too few patients are labelled to choose C.", code="too_few_labelled")
        for row, c in enumerate(candidates):
            scores[row, held_out] = fit_and_score(x[train], y[train], x[held_out], c, config)
    return candidates[int(np.argmax([auroc(y, row) for row in scores]))]


def fit_and_score(x: Features, y: Labels, x_held_out: Features, c: float, config: ProbeConfig) -> Scores:
    """
    Fit on x (N, D) and y (N,), standardised by x; return the log odds of x_held_out (M, D): (M,).

    Raises:
        ProbeError: no convergence.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 -- slow import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 -- slow import
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 -- slow import
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 -- slow import

    probe = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=c, solver="lbfgs", tol=config.tolerance, max_iter=config.max_iterations),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            # float64: the solver's tolerance is below what float32 resolves.
            probe.fit(x.astype(np.float64), y)
        except ConvergenceWarning as warning:
            raise ProbeError(f"The probe did not converge in {config.max_iterations} iterations.") from warning
    return np.asarray(probe.decision_function(x_held_out.astype(np.float64)), dtype=np.float64)
