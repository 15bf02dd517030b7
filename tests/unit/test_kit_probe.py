"""The linear probe and its two protocols."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jobs.kit import probe

CONFIG = probe.ProbeConfig(inverse_regularisations=(0.01, 0.1), inner_folds=2)


def separable(n=120, d=20, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, d)).astype(np.float32)
    x[:, 0] += 4 * y
    return x, y, np.arange(n) // 2  # two samples a patient


def test_cross_validation_finds_a_signal():
    x, y, groups = separable()
    scores, _ = probe.cross_validated_scores(x, y, groups, CONFIG)
    assert scores.shape == (120,)
    assert roc_auc_score(y, scores) > 0.85


def test_cross_validation_is_deterministic():
    x, y, groups = separable()
    one, two = (probe.cross_validated_scores(x, y, groups, CONFIG) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert one[1] == two[1]


def test_chosen_c_is_the_best_one_alone():
    x, y, groups = separable()
    _, chosen = probe.cross_validated_scores(x, y, groups, CONFIG)
    one_c = probe.ProbeConfig(inverse_regularisations=(0.1,))
    assert len(chosen) == 5
    assert set(chosen) <= set(CONFIG.inverse_regularisations)
    assert probe.cross_validated_scores(x, y, groups, one_c)[1] == [0.1] * 5
    constant = np.zeros_like(x)  # every C scores 0.5: the smallest is taken
    assert probe.cross_validated_scores(constant, y, groups, CONFIG)[1] == [0.01] * 5


def test_cross_validation_never_sees_the_patient():
    rng = np.random.default_rng(0)
    identity = rng.normal(size=(30, 40))
    of_patient = rng.integers(0, 2, 30)  # a label that only the patient's identity predicts
    groups = np.repeat(np.arange(30), 4)
    x = (identity[groups] + 0.01 * rng.normal(size=(120, 40))).astype(np.float32)
    scores, _ = probe.cross_validated_scores(x, of_patient[groups], groups, CONFIG)
    assert roc_auc_score(of_patient[groups], scores) < 0.75


def test_cross_validation_refuses_fewer_patients_than_folds():
    x, y, _ = separable()
    with pytest.raises(probe.ProbeError) as caught:
        probe.cross_validated_scores(x, y, np.where(y == 1, np.arange(120) % 4, np.arange(120)), CONFIG)
    assert caught.value.code == "too_few_labelled"


def test_fixed_split_scores_the_test_samples_only():
    x, y, groups = separable()
    splits = np.array(["train", "val", "test", "test", "train", "", "train", "val"] * 15)
    rows, scores, c = probe.fixed_split_scores(x, y, groups, splits, CONFIG)
    assert c in CONFIG.inverse_regularisations
    assert rows.tolist() == np.flatnonzero(splits == "test").tolist()
    assert scores.shape == (30,)
    assert roc_auc_score(y[rows], scores) > 0.8
    changed = x.copy()
    changed[splits == ""] = 1e6  # neither fitted on nor scored
    assert np.array_equal(probe.fixed_split_scores(changed, y, groups, splits, CONFIG)[1], scores)


@pytest.mark.parametrize("splits", [["train"] * 120, ["test"] * 120, ["train", "test"] * 60])
def test_fixed_split_refuses_a_split_that_cannot_serve(splits):
    x, y, groups = separable()
    with pytest.raises(probe.ProbeError) as caught:
        probe.fixed_split_scores(x, y, groups, np.array(splits), CONFIG)
    assert caught.value.code == "too_few_labelled"


def test_probe_that_does_not_converge_is_an_error():
    x, y, groups = separable()
    with pytest.raises(probe.ProbeError, match="did not converge in 1 iterations"):
        probe.cross_validated_scores(x, y, groups, probe.ProbeConfig(max_iterations=1))


def test_protocol_states_solver_tolerance_and_c():
    described = probe.ProbeConfig(inverse_regularisations=(0.5,), tolerance=1e-7, seed=4).describe(probe.GROUPED)
    assert (described["solver"], described["C"], described["tolerance"]) == ("lbfgs", [0.5], 1e-7)
    assert (described["name"], described["folds"], described["seed"]) == ("grouped-cross-validation", 5, 4)
    assert "folds" not in CONFIG.describe(probe.FIXED)
