"""Check 9: the weights do not give their photographs away, by the site's signed report and by what the centre holds."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import copies, likeness, statements
from ..generator import Base
from .dossier import Dossier
from .drawn import Drawn, Reference
from .results import NEIGHBOURS, CheckResult, not_measured

MAKE = "Run `consortium privacy` on the prepared folder with exactly what you send, and add the report it writes."
AGAIN = (
    "Train again with fewer steps, a lower learning rate, without duplicates, or with differential privacy "
    "(`consortium fit --noise-multiplier`)."
)
SHOWN = 8  # pairs in the picture


def check_privacy(
    path: Path,
    base: Base,
    dossier: Dossier,
    drawn: Drawn,
    reference: Reference | None,
    out_dir: Path,
    *,
    generator: str = "",
) -> CheckResult:
    """
    Check 9: the report is signed, of this file, and within the thresholds; then the same against public images.

    Args:
        generator: SHA-256 that synthetic images name: the report must have measured that one.
    """
    report, refusal = _opened(path, dossier)
    if refusal is not None:
        return refusal
    if generator and report.get("weights_sha256") != generator:
        sentence = "The privacy report measured another generator than the one that the images name."
        return CheckResult(9, "privacy", "fail", sentence, MAKE, {"code": "other_generator"})
    result = judge(report, base)
    evidence = {**result.evidence, "public": _among_public(drawn, reference, out_dir)}
    return CheckResult(9, "privacy", result.verdict, result.sentence, result.fix, evidence)


def _opened(path: Path, dossier: Dossier) -> tuple[dict[str, Any], CheckResult | None]:
    if dossier.privacy is None and not dossier.is_complete:
        sentence = "Not looked at here: no privacy report was given."
        return {}, not_measured(9, "privacy", sentence, code="not_given", fix=MAKE)
    if dossier.privacy is None:
        return {}, CheckResult(9, "privacy", "fail", "There is no privacy report.", MAKE, {"code": "no_report"})
    try:
        if dossier.keys is None:
            found = statements.unverified(dossier.privacy, statements.PRIVACY)
        else:
            found = statements.open_statement(dossier.privacy, statements.PRIVACY, dossier.keys)
        statements.require_subject(found, dossier.sha256(path))
    except statements.StatementError as error:
        sentence = f"The privacy report does not hold. {error.sentence}"
        return {}, CheckResult(9, "privacy", "fail", sentence, error.fix, {"code": error.code})
    return found.predicate, None


def judge(report: dict[str, Any], base: Base) -> CheckResult:
    """
    Judge the figures of a report by the base generator's thresholds.

    Fails: a copy share above max_copy_share by either measure (0.05 is what harmless images show, see copies.py); an
    attack by the loss with an AUC above max_membership_auc (DESIGN.md section 5), or the stronger one, with the base's
    loss taken off, above max_calibrated_auc. The warn_ thresholds of the same names warn.
    """
    try:
        figures = _figures(report)
    except (KeyError, TypeError, ValueError) as error:
        sentence = f"The privacy report lacks a figure that a report has ({error})."
        return CheckResult(9, "privacy", "fail", sentence, MAKE, {"code": "report_incomplete"})
    limits = base.thresholds
    evidence = {"report": report, "figures": figures}
    over = {level: [name for name in figures if figures[name] > limits[f"{level}_{name}"]] for level in ("max", "warn")}
    sentence = (
        f"{figures['copy_share']:.0%} of the images are candidate copies of a training photograph (5 % are expected); "
        f"the loss tells training photographs from others with an AUC of {figures['membership_auc']:.2f}, or of "
        f"{figures['calibrated_auc']:.2f} once the base's is taken off (0.5 is chance)."
    )
    if over["max"]:
        code = "copies" if "copy_share" in over["max"] else "membership"
        return CheckResult(9, "privacy", "fail", sentence, AGAIN, {"code": code, **evidence})
    if over["warn"]:
        return CheckResult(9, "privacy", "warn", sentence, AGAIN, {"code": "borderline", **evidence})
    return CheckResult(9, "privacy", "pass", sentence, evidence=evidence)


def _figures(report: dict[str, Any]) -> dict[str, float]:
    """Return the figures that decide, each a number from 0 to 1."""
    found = {
        "copy_share": max(float(report["copies"][by]["copy_share"]) for by in ("features", "perceptual_hash")),
        "membership_auc": float(report["membership"]["loss"]["auc"]),
        "calibrated_auc": float(report["membership"]["loss_less_base"]["auc"]),
    }
    if not all(0 <= value <= 1 for value in found.values()):
        raise ValueError("a share or an area is outside 0 to 1")
    return found


def _among_public(drawn: Drawn, reference: Reference | None, out_dir: Path) -> dict[str, Any]:
    """Compare the drawn images with every public photograph that the centre holds, and draw the nearest pairs."""
    if reference is None:
        return {}
    similarity = copies.by_features(drawn.features, reference.features, reference.features.mean(axis=0))
    nearest, alike = similarity.argmax(axis=1), similarity.max(axis=1)
    shown = np.argsort(-alike)[:SHOWN]
    pairs = [image for row in shown for image in (drawn.pixels[row], _fitted(reference.pixels[nearest[row]], drawn))]
    out_dir.mkdir(parents=True, exist_ok=True)
    likeness.save_sheet(np.stack(pairs), out_dir / NEIGHBOURS)
    among = copies.by_features(reference.features, reference.features, reference.features.mean(axis=0))
    np.fill_diagonal(among, -1.0)
    return {
        "photographs": len(reference.pixels),
        "nearest_median": round(float(np.median(alike)), 4),
        "nearest_largest": round(float(alike.max()), 4),
        "photographs_to_each_other_median": round(float(np.median(among.max(axis=1))), 4),
        "picture": NEIGHBOURS,
    }


def _fitted(pixels: np.ndarray, drawn: Drawn) -> np.ndarray:
    side = drawn.pixels.shape[1]
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
