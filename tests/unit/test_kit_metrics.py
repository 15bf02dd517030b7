"""AUROC, its bootstrap interval and its suppression, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jobs.kit import metrics


def tied_sample(n=240, n_patients=60, seed=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    score = np.round(rng.normal(size=n) + y, 1)  # one decimal: many ties
    return y, score, rng.integers(0, n_patients, n)


def test_auroc_with_ties_equals_sklearn():
    y, score, _ = tied_sample()
    assert metrics.auroc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)


@pytest.mark.parametrize(
    ("score", "expected"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([5, 5, 5, 5], 0.5), ([1, 2, 2, 3], 0.875)]
)
def test_auroc_of_small_cases(score, expected):
    assert metrics.auroc([0, 0, 1, 1], score) == expected


@pytest.mark.parametrize(
    ("y", "score"), [([1, 1], [0.1, 0.2]), ([0, 1], [0.1, np.nan]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1])]
)
def test_auroc_refuses(y, score):
    with pytest.raises(metrics.MetricError):
        metrics.auroc(y, score)


def test_weighted_aurocs_equal_sklearn_on_the_same_resamples():
    y, score, groups = tied_sample()
    patients, patient_of = np.unique(groups, return_inverse=True)
    weights = metrics.resample_counts(len(patients), 50, seed=7)[patient_of]
    ours = metrics.weighted_aurocs(y, score, weights)
    theirs = [roc_auc_score(y, score, sample_weight=column) for column in weights.T]
    assert np.abs(ours - theirs).max() <= 1e-12


def test_weighted_aurocs_equal_the_auroc_of_repeated_samples():
    y, score, groups = tied_sample(n=80, n_patients=20)
    patients, patient_of = np.unique(groups, return_inverse=True)
    weights = metrics.resample_counts(len(patients), 10, seed=1)[patient_of]
    repeated = [roc_auc_score(np.repeat(y, column), np.repeat(score, column)) for column in weights.T]
    assert np.abs(metrics.weighted_aurocs(y, score, weights) - repeated).max() <= 1e-12


def test_resample_counts_draw_each_resample_whole_and_are_seeded():
    counts = metrics.resample_counts(37, 400, seed=5)
    assert counts.shape == (37, 400)
    assert (counts.sum(axis=0) == 37).all()
    assert np.array_equal(counts, metrics.resample_counts(37, 400, seed=5))
    assert not np.array_equal(counts, metrics.resample_counts(37, 400, seed=6))


def test_resample_counts_do_not_depend_on_the_block_size(monkeypatch):
    whole = metrics.resample_counts(11, 100, seed=2)
    monkeypatch.setattr(metrics, "_DRAWS_AT_ONCE", 11 * 7)
    assert np.array_equal(metrics.resample_counts(11, 100, seed=2), whole)


def test_bootstrap_interval_holds_the_estimate_and_its_counts():
    y, score, groups = tied_sample()
    result = metrics.bootstrap_auroc(y, score, groups, n_resamples=500, seed=1)
    assert result.low < result.estimate < result.high
    assert result.estimate == metrics.auroc(y, score)
    assert (result.n, result.n_positive, result.n_patients) == (240, int(y.sum()), len(np.unique(groups)))
    assert (result.n_resamples, result.n_excluded, result.suppressed) == (500, 0, False)


def test_bootstrap_by_patient_is_wider_than_by_photograph():
    y, score, _ = tied_sample(n=40)
    y, score, groups = np.repeat(y, 6), np.repeat(score, 6), np.repeat(np.arange(40), 6)
    by_patient = metrics.bootstrap_auroc(y, score, groups)
    by_photograph = metrics.bootstrap_auroc(y, score, np.arange(240))
    assert by_patient.high - by_patient.low > 1.5 * (by_photograph.high - by_photograph.low)


def test_bootstrap_excludes_and_counts_resamples_of_a_single_class():
    y = np.repeat([0, 1], 20)
    groups = np.repeat([0, 1], 20)  # one patient a class: half of the resamples draw one of them twice
    result = metrics.bootstrap_auroc(y, np.arange(40.0), groups, n_resamples=400, seed=0, minimum_patients=1)
    counts = metrics.resample_counts(2, 400, 0)
    assert result.n_excluded == int((counts.max(axis=0) == 2).sum())
    assert 150 < result.n_excluded < 250
    z_squared = 1.959964**2  # with a patient on either side, (1 - t)^2 = z^2 t (1 - t)
    assert (result.low, result.high) == (pytest.approx(1 / (1 + z_squared), abs=1e-6), 1.0)


@pytest.mark.parametrize(
    ("estimate", "n_positive", "n_negative"), [(1, 10, 40), (0, 10, 40), (0.5, 7, 7), (0.9, 11, 5)]
)
def test_score_interval_holds_the_roots_of_newcombes_equation(estimate, n_positive, n_negative):
    """The equation of method 5 times (2 - t)(1 + t) is a polynomial of the fourth degree."""
    t = np.polynomial.Polynomial([0, 1])
    h, z, pairs = (n_positive + n_negative) / 2 - 1, 1.959963984540054, n_positive * n_negative
    spread = (2 - t) * (1 + t) + h * (1 - t) * (1 + t) + h * t * (2 - t)
    roots = ((t - estimate) ** 2 * (2 - t) * (1 + t) * pairs - z**2 * t * (1 - t) * spread).roots()
    ends = sorted(root.real for root in roots if -1e-9 <= root.real <= 1 + 1e-9)
    assert metrics.score_interval(estimate, n_positive, n_negative) == pytest.approx((ends[0], ends[-1]), abs=1e-8)


def test_a_perfect_area_has_an_interval_by_patients_and_a_reversed_one_its_mirror():
    """Forty photographs of ten patients on either side are ten samples, not forty."""
    y, groups = np.repeat([1, 0], 40), np.arange(80) // 4
    perfect, reversed_ = (metrics.bootstrap_auroc(y, score, groups, n_resamples=50) for score in (y, 1 - y))
    low, high = metrics.score_interval(1.0, 10, 10)
    assert (perfect.estimate, perfect.low, perfect.high) == (1.0, low, high)
    assert (reversed_.estimate, reversed_.low) == (0.0, 0.0)
    assert reversed_.high == pytest.approx(1 - low)
    assert (round(low, 3), high) == (0.8, 1.0)


def test_scores_that_are_all_the_same_have_an_interval_around_chance():
    y = np.repeat([1, 0], 40)
    same = metrics.bootstrap_auroc(y, np.ones(80), np.arange(80), n_resamples=50)
    assert (same.low, same.estimate, same.high) == (pytest.approx(1 - same.high), 0.5, pytest.approx(0.622, abs=1e-3))


@pytest.mark.parametrize(("n_positive", "n_negative"), [(19, 50), (50, 19), (0, 30)])
def test_small_cells_show_only_n(n_positive, n_negative):
    n = n_positive + n_negative
    y = np.repeat([1, 0], [n_positive, n_negative])
    result = metrics.bootstrap_auroc(y, np.arange(n), np.arange(n))
    assert result == metrics.AurocInterval(n=n, suppressed=True)


def test_twenty_of_each_are_shown():
    result = metrics.bootstrap_auroc(np.repeat([1, 0], 20), np.arange(40), np.arange(40), n_resamples=100)
    assert result.suppressed is False


def test_a_figure_of_fewer_than_ten_patients_is_not_shown():
    y, score = np.repeat([1, 0], 60), np.arange(120)
    photographs_each = {9: np.concatenate([np.arange(60) % 9, 100 + np.arange(60)]),
                        10: np.concatenate([np.arange(60) % 10, 100 + np.arange(60)])}  # fmt: skip
    shown = {
        n: not metrics.bootstrap_auroc(y, score, groups, n_resamples=50).suppressed
        for n, groups in photographs_each.items()
    }
    assert shown == {9: False, 10: True}
    assert metrics.bootstrap_auroc(1 - y, score, photographs_each[9], n_resamples=50).suppressed is True


def test_one_patient_has_no_interval():
    y, score, _ = tied_sample()
    assert metrics.bootstrap_auroc(y, score, np.zeros(240)).suppressed is True


def test_roc_points_go_from_corner_to_corner_in_at_most_100():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1000)
    points = np.array(metrics.roc_points(y, rng.normal(size=1000) + y))
    assert len(points) <= 100
    assert points[0].tolist() == [0.0, 0.0]
    assert points[-1].tolist() == [1.0, 1.0]
    assert (np.diff(points, axis=0) >= 0).all()


def test_roc_points_of_ties_are_one_point():
    assert metrics.roc_points([0, 1, 0, 1], [1, 1, 1, 1]) == [(0.0, 0.0), (1.0, 1.0)]
