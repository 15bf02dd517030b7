"""Check 11: what a probe learns from the drawn images about real ones. Reported."""

from ..generator import UNGRADED, Base
from ..metrics import bootstrap_auroc
from ..probe import ProbeConfig, ProbeError, cross_validated_scores, fit_and_score
from .drawn import Drawn, Reference
from .results import CheckResult, not_measured

REFERABLE = 2  # grade of diabetic retinopathy from which a patient is referred (ICDR moderate; Wilkinson et al. 2003)
CHANCE = 0.5  # AUROC of a probe that has learnt nothing
PROBE = ProbeConfig(inverse_regularisations=(0.01,))


def check_utility(drawn: Drawn, reference: Reference | None, base: Base) -> CheckResult:
    """
    Check 11: train on synthetic, test on real, beside the same probe trained on real photographs (out of fold).

    It warns where the whole interval lies below chance: what the images show is not the class that they carry.

    Source: Esteban et al. 2017, arXiv:1706.02633, section 4.1.1 (TSTR).
    """
    if reference is None:
        return not_measured(11, "utility", f"{base.slug} has no public reference to test on.", code="no_reference")
    graded, real = drawn.classes != UNGRADED, reference.classes != UNGRADED
    x, y = drawn.features[graded], (drawn.classes[graded] >= REFERABLE).astype(int)
    test_x, test_y = reference.features[real], (reference.classes[real] >= REFERABLE).astype(int)
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
        "label": "referable diabetic retinopathy",
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
        f"A probe of referable diabetic retinopathy trained on {graded.sum()} synthetic images reaches an AUROC of "
        f"{synthetic.estimate:.2f} on real ones ({synthetic.low:.2f} to {synthetic.high:.2f}); trained on real ones, "
        f"{on_real.estimate:.2f}."
    )
    if synthetic.high is not None and synthetic.high < CHANCE:
        fix = "See that the classes of labels.csv, and those asked of the generator, are the ICDR grades 0 to 4."
        return CheckResult(11, "utility", "warn", sentence, fix, {"code": "below_chance", **evidence})
    return CheckResult(11, "utility", "pass", sentence, evidence=evidence)


def _r(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
