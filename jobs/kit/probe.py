"""Linear probe: what a frozen encoder's features say about a label."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import KitError

GROUPED = "grouped-cross-validation"
FIXED = "fixed-split"

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

    inverse_regularisation: scikit-learn's C, one over the weight of the L2 penalty; small, because there are more
    features than samples. tolerance: on the gradient; scikit-learn's default, 1e-4, is not converged at large C.
    folds, seed: of the cross-validation.
    """

    inverse_regularisation: float = 0.01
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
            "C": self.inverse_regularisation,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
        }
        if protocol == GROUPED:
            described |= {"folds": self.folds, "seed": self.seed, "scores": "out of fold, pooled", "stratified": True}
        else:
            described |= {"fitted_on": "splits train and val", "scored_on": "split test"}
        return described


def cross_validated_scores(x: Features, y: Labels, groups: NDArray[Any], config: ProbeConfig) -> Scores:
    """
    Return the score of every sample from a probe that saw none of its patient's samples.

    Stratified folds by patient, out-of-fold scores pooled.

    Args:
        x: (N, D). y: (N,), 0 or 1. groups: (N,), patients.
    Returns:
        (N,), log odds.
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
    for train, held_out in folds.split(x, y, groups):
        scores[held_out] = _fit_and_score(x[train], y[train], x[held_out], config)
    return scores


def fixed_split_scores(
    x: Features, y: Labels, splits: NDArray[Any], config: ProbeConfig
) -> tuple[NDArray[np.intp], Scores]:
    """
    Fit on the splits train and val, score the split test.

    Args:
        x: (N, D). y: (N,), 0 or 1. splits: (N,), the column split; other values are left out.
    Returns:
        the rows of the test split and their scores, (T,) each.
    Raises:
        ProbeError: no test sample, a single class to fit on, or no convergence.
    """
    fitted = np.isin(splits, ("train", "val"))
    held_out = np.flatnonzero(splits == "test")
    if not len(held_out) or len(np.unique(y[fitted])) < 2:
        raise ProbeError(
            "The split leaves no labelled test image, or a single class to fit on.",
            code="too_few_labelled",
            fix="Use the protocol of cross-validation by patient.",
        )
    return held_out, _fit_and_score(x[fitted], y[fitted], x[held_out], config)


def _fit_and_score(x: Features, y: Labels, x_held_out: Features, config: ProbeConfig) -> Scores:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 -- slow import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 -- slow import
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 -- slow import
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 -- slow import

    probe = make_pipeline(
        StandardScaler(),
        LogisticRegression(
            C=config.inverse_regularisation, solver="lbfgs", tol=config.tolerance, max_iter=config.max_iterations
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            # float64: the solver's tolerance is below what float32 resolves.
            probe.fit(x.astype(np.float64), y)
        except ConvergenceWarning as warning:
            raise ProbeError(f"The probe did not converge in {config.max_iterations} iterations.") from warning
    return np.asarray(probe.decision_function(x_held_out.astype(np.float64)), dtype=np.float64)
