"""Check 11: what a probe learns from the drawn images about real ones. Reported."""

import numpy as np
from numpy.typing import NDArray

from .. import labels
from ..generator import Base
from ..metrics import bootstrap_auroc
from ..probe import ProbeConfig, ProbeError, cross_validated_scores, fit_and_score
from .drawn import Drawn, Reference
from .results import CheckResult, not_measured

# What the probe tells apart, and the classes that have it, where a base with these classes does not say: from ICDR
# moderate on a patient is referred (Wilkinson et al. 2003).
REFERABLE = ("referable diabetic retinopathy", [2, 3, 4])
CHANCE = 0.5  # AUROC of a probe that has learnt nothing
PROBE = ProbeConfig(inverse_regularisations=(0.01,))


def asked_of(base: Base) -> tuple[str, list[int]] | None:
    """Return what a probe tells apart, by `probe` in config.json, and the classes that have it; None: nobody says."""
    names = [str(name).casefold() for name in base.config["classes"]]
    if said := base.config.get("probe"):
        return str(said["label"]), [names.index(str(name).casefold()) for name in said["classes"]]
    return REFERABLE if labels.are_grades(names) else None


def known(classes: NDArray[np.int_], base: Base, having: list[int]) -> tuple[NDArray[np.bool_], NDArray[np.int_]]:
    """Return which images have a class of their own (N,), and of those whether it is one of `having`, 0 or 1."""
    graded = classes != base.any_class
    return graded, np.isin(classes[graded], having).astype(int)


def check_utility(drawn: Drawn, reference: Reference | None, base: Base) -> CheckResult:
    """
    Check 11: train on synthetic, test on real, beside the same probe trained on real photographs (out of fold).

    It warns where the whole interval lies below chance: what the images show is not the class that they carry.

    Source: Esteban et al. 2017, arXiv:1706.02633, section 4.1.1 (TSTR).
    """
    if reference is None:
        return not_measured(11, "utility", f"{base.slug} has no public reference to test on.", code="no_reference")
    if (asked := asked_of(base)) is None:
        sentence = f"{base.slug} does not say what a probe of its classes is to tell apart."
        return not_measured(11, "utility", sentence, code="no_probe")
    label, having = asked
    (graded, y), (real, test_y) = known(drawn.classes, base, having), known(reference.classes, base, having)
    x, test_x = drawn.features[graded], reference.features[real]
    patients = reference.patients[real]
    try:
        scores = fit_and_score(x, y, test_x, PROBE.inverse_regularisations[0], PROBE)
        own, _ = cross_validated_scores(test_x, test_y, patients, PROBE)
    except (ProbeError, ValueError) as error:
        return not_measured(11, "utility", f"The probe could not be fitted ({error}).", code="no_probe")
    synthetic, on_real = (bootstrap_auroc(test_y, found, patients) for found in (scores, own))
    if synthetic.estimate is None or on_real.estimate is None:
        return not_measured(11, "utility", "The public reference has too few graded photographs.", code="too_few")
    delta = synthetic.estimate - on_real.estimate
    evidence = {
        "label": label,
        "trained_on_synthetic": {
            "auroc": round(synthetic.estimate, 3),
            "low": _r(synthetic.low),
            "high": _r(synthetic.high),
        },
        "trained_on_real": {"auroc": round(on_real.estimate, 3), "low": _r(on_real.low), "high": _r(on_real.high)},
        "delta": round(delta, 3),
        "synthetic": int(graded.sum()),
        "real": int(real.sum()),
        "probe": PROBE.describe("train on synthetic, test on real"),
    }
    sentence = (
        f"A probe of {label} trained on {graded.sum()} synthetic images reaches an AUROC of "
        f"{synthetic.estimate:.2f} on real ones ({synthetic.low:.2f} to {synthetic.high:.2f}); trained on real ones, "
        f"{on_real.estimate:.2f}."
    )
    if synthetic.high is not None and synthetic.high < CHANCE:
        fix = f"See that labels.csv means by each class what {base.slug} means: {', '.join(base.config['classes'])}."
        return CheckResult(11, "utility", "warn", sentence, fix, {"code": "below_chance", **evidence})
    return CheckResult(11, "utility", "pass", sentence, evidence=evidence)


def _r(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
