"""Check 9: the weights do not give their photographs away, by the site's signed report and by what the centre holds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import copies, likeness, statements
from ..generator import Base
from ..privacy import FEWEST_SAMPLES, declared
from .declaration import FOLLOWS_FROM
from .dossier import Dossier
from .drawn import Drawn, Reference
from .report import problem_of
from .results import NEIGHBOURS, CheckResult, Verdict, not_measured

MAKE = "Run `consortium privacy` on the prepared folder with exactly what you send, and add the report it writes."
AGAIN = (
    "Train again with fewer steps, a lower learning rate, without duplicates, or with differential privacy "
    "(`consortium fit --noise-multiplier`)."
)
APART = (
    "Prepare the folder with `consortium prepare`, which leaves out photographs that are there twice, with a pseudonym "
    "for each patient; train and measure again."
)
AGREE = "Correct the card where it is wrong; else run `consortium privacy` again, on the folder that was trained on."
OWN = "Train on photographs of your own patients, and send what the generator draws: not photographs."
SHOWN = 8  # pairs in the picture
_RANK = {"pass": 0, "warn": 1, "fail": 2}


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
    Check 9: the report is signed, of these weights, and within the thresholds; then the same against public images.

    Args:
        generator: SHA-256 of the weights that synthetic images name; without it, the file is the weights.
    """
    report, refusal = _opened(path, dossier)
    if refusal is not None:
        return refusal
    if problem := problem_of(report, base, weights_sha256=generator or dossier.sha256(path)):
        sentence = f"The privacy report is not one of these weights, as the kit writes it: {problem}."
        return CheckResult(9, "privacy", "fail", sentence, MAKE, {"code": "report_malformed"})
    least = min(FEWEST_SAMPLES, len(drawn.pixels)) if generator else FEWEST_SAMPLES
    told = judge(report, base, dossier.card, least)
    if dossier.keys is None:
        told = replace(told, sentence=f"{told.sentence} Whether the report is signed by your key, the portal verifies.")
    if reference is None:
        return told
    seen, evidence = _among_public(drawn, reference, base, out_dir)
    worse = seen if _RANK[seen.verdict] > _RANK[told.verdict] else told
    return replace(worse, evidence={**told.evidence, **worse.evidence, "public": evidence})


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


def _against(card: dict[str, Any], report: dict[str, Any], least: int) -> str:
    """Return what a report says against the training card, or of fewer images than it must; empty where nothing."""
    trained, asked, drawn = card.get("images"), report["images"]["train"], report["images"]["generated"]
    if drawn < least:
        return f"The privacy report looked at {drawn} images of the generator; it takes {least}."
    if trained == "<10" or (isinstance(trained, int) and asked > trained):
        return f"The privacy report asked {asked} training photographs, and the training card tells of {trained}."
    said, on_card = report["dp"], declared(card.get("dp"))
    if card and said["used"] and any(said[name] != on_card.get(name) for name in ("epsilon", *FOLLOWS_FROM)):
        return (
            "The privacy report tells of another differential privacy than the training card, which check 6 verifies."
        )
    return ""


def _of_all(told: CheckResult, report: dict[str, Any], trained: object) -> CheckResult:
    """Return the result with a remark where copies were not looked for among all photographs that the card tells of."""
    asked = report["images"]["train"]
    if not isinstance(trained, int) or asked >= trained:
        return told
    remark = (
        f"Copies were looked for among {asked} of {trained} training photographs: of the others none would be found."
    )
    return _remarked(told, remark, MAKE, "not_all_asked")


def _remarked(told: CheckResult, remark: str, fix: str, code: str) -> CheckResult:
    """Return the result, no pass any more, with another sentence; the first code and remedy stand."""
    if told.verdict == "fail":
        return told
    evidence = {"code": code, **told.evidence}
    return replace(told, verdict="warn", sentence=f"{told.sentence} {remark}", fix=told.fix or fix, evidence=evidence)


def _seeing(told: CheckResult, report: dict[str, Any]) -> CheckResult:
    """
    Return the result with a remark where nothing could count as a copy, for a copy is no nearer than the threshold.

    Of photographs of different patients the threshold is 0.97 at most by either measure (400 draws of the public
    reference, 20 to 60 held out); of held-out ones that are training photographs, saved again, it is 1 by hash.
    """
    blind = [name.replace("_", " ") for name, found in report["copies"].items() if found["threshold"] >= 1]
    if not blind:
        return told
    remark = (
        f"By {' and '.join(blind)} nothing could count as a copy: one in twenty held-out photographs is as near to a "
        "training photograph as that photograph itself."
    )
    return _remarked(told, remark, APART, "sides_overlap")


def judge(report: dict[str, Any], base: Base, card: dict[str, Any] | None = None, least: int = 0) -> CheckResult:
    """
    Judge a report by the base generator's thresholds, by whether its figures could show a copy, and by the card.

    Args:
        least: images of the generator that it must have looked at.
    """
    if problem := _against(card or {}, report, least):
        return CheckResult(9, "privacy", "fail", problem, AGREE, {"code": "report_contradicted"})
    return _of_all(_seeing(_judged(report, base), report), report, (card or {}).get("images"))


def _judged(report: dict[str, Any], base: Base) -> CheckResult:
    """
    Judge the figures of a report by the base generator's thresholds.

    Fails: a copy share above max_copy_share by either measure (0.05 is what harmless images show, see copies.py); an
    attack by the loss with an AUC above max_membership_auc (DESIGN.md section 5), or the stronger one, with the base's
    loss taken off, above max_calibrated_auc or as far below 0.5. The warn_ thresholds of the same names warn.
    """
    limits, figures = base.thresholds, _figures(report)
    calibrated = report["membership"]["loss_less_base"]["auc"]
    evidence = {"report": report, "figures": figures}
    over = {level: [name for name in figures if figures[name] > limits[f"{level}_{name}"]] for level in ("max", "warn")}
    sentence = (
        f"{figures['copy_share']:.0%} of the images are candidate copies of a training photograph (5 % are expected); "
        f"the loss tells training photographs from others with an AUC of {figures['membership_auc']:.2f}, or of "
        f"{calibrated:.2f} once the base's is taken off (0.5 is chance)."
    )
    if "calibrated_auc" in over["warn"] and calibrated < 0.5:
        return _exchanged(sentence, over, evidence)
    if over["max"]:
        code = "copies" if "copy_share" in over["max"] else "membership"
        return CheckResult(9, "privacy", "fail", sentence, _remedy(report, over, limits), {"code": code, **evidence})
    if over["warn"]:
        fix = _remedy(report, over, limits)
        return CheckResult(9, "privacy", "warn", sentence, fix, {"code": "borderline", **evidence})
    return CheckResult(9, "privacy", "pass", sentence, evidence=evidence)


def _remedy(report: dict[str, Any], over: dict[str, list[str]], limits: dict[str, float]) -> str:
    """
    Return what to do next; also that chance may have done it, where the plain loss alone says so and is not sure.

    Two sides of 20 that trained nothing are above 0.70 in 7 of 100 draws, of 60 and 40 in 1: one is easier to draw.
    """
    low = report["membership"]["loss"]["low"]
    if over["warn"] != ["membership_auc"] or low > limits["warn_membership_auc"]:
        return AGAIN
    return (
        f"{AGAIN} With so few photographs one side may be easier to draw by chance (the interval begins at {low:.2f}): "
        "more patients held out would show it."
    )


def _exchanged(sentence: str, over: dict[str, list[str]], evidence: dict[str, Any]) -> CheckResult:
    """Return the result where the held-out photographs look like those that were trained on."""
    sentence += " It is the held-out ones that look trained on."
    fix = "See that `consortium privacy` gets the folder and labels.csv that `consortium fit` got, and measure again."
    verdict: Verdict = "fail" if over["max"] else "warn"
    return CheckResult(9, "privacy", verdict, sentence, fix, {"code": "sides_exchanged", **evidence})


def _figures(report: dict[str, Any]) -> dict[str, float]:
    """
    Return the figures that decide, each from 0 to 1.

    Once the base's loss is taken off, training lowers what is left of its own photographs: the wrong way round, the
    sides were exchanged. By heart, twenty photographs show 0.92, or 0.08; two sides that trained nothing are as far
    from 0.5 as the thresholds in less than 1 of 200 draws of 60 and 40. The plain loss says which are harder to draw.
    """
    calibrated = report["membership"]["loss_less_base"]["auc"]
    return {
        "copy_share": max(report["copies"][by]["copy_share"] for by in ("features", "perceptual_hash")),
        "membership_auc": report["membership"]["loss"]["auc"],
        "calibrated_auc": max(calibrated, 1 - calibrated),
    }


def _among_public(drawn: Drawn, reference: Reference, base: Base, out_dir: Path) -> tuple[CheckResult, dict[str, Any]]:
    """
    Compare the images with every public photograph that the centre holds, and draw the nearest pairs.

    A candidate copy is nearer than 95 % of those photographs are to one of another patient (Dar et al., see copies.py),
    or the same picture after reduction (duplicate_distance), or nearer to one that was cropped or turned than any of
    them is to another patient's (views.py); of 256 images drawn from fundus-64, none is. It fails above max_copy_share,
    and on any image that is a photograph itself: within a third of that distance.
    """
    limit = base.thresholds["duplicate_distance"]
    centre = reference.features.mean(axis=0)
    similarity = copies.by_features(drawn.features, reference.features, centre)
    alike, usual = similarity.max(axis=1), _to_other_patients(reference, centre)
    apart = likeness.distances(drawn.pixels, reference.pixels)
    by_pixels, views = apart.min(axis=1), reference.views.similarity(drawn.pixels)
    same, changed = by_pixels < limit, views.max(axis=1) > reference.most_alike
    copied = (alike > np.quantile(usual, copies.QUANTILE)) | same | changed
    itself = int((by_pixels < limit / 3).sum())
    other = np.where(changed, views.argmax(axis=1), similarity.argmax(axis=1))
    nearest = np.where(same, apart.argmin(axis=1), other)
    shown = np.lexsort((-alike, ~(same | changed)))[:SHOWN]
    pairs = [image for row in shown for image in (drawn.pixels[row], _fitted(reference.pixels[nearest[row]], drawn))]
    out_dir.mkdir(parents=True, exist_ok=True)
    likeness.save_sheet(np.stack(pairs), out_dir / NEIGHBOURS)
    evidence = {
        "photographs": len(reference.pixels),
        "nearest_median": round(float(np.median(alike)), 4),
        "nearest_largest": round(float(alike.max()), 4),
        "photographs_to_each_other_median": round(float(np.median(usual)), 4),
        "candidate_copies": int(copied.sum()),
        "cropped_or_turned": int(changed.sum()),
        "photographs_themselves": itself,
        "picture": NEIGHBOURS,
    }
    return _verdict_on(copied, itself, base), evidence


def _to_other_patients(reference: Reference, centre: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the likeness of each photograph to the nearest one of another patient, (R,)."""
    among = copies.by_features(reference.features, reference.features, centre)
    among[reference.patients[:, None] == reference.patients[None, :]] = -1.0
    return among.max(axis=1)


def _verdict_on(copied: NDArray[np.bool_], itself: int, base: Base) -> CheckResult:
    share, limits = float(copied.mean()), base.thresholds
    sentence = f"{copied.sum()} of {len(copied)} images are candidate copies of public photographs."
    if itself:
        sentence = f"{itself} of {len(copied)} images are public photographs, hardly changed."
        return CheckResult(9, "privacy", "fail", sentence, OWN, {"code": "public_photographs"})
    if share > limits["max_copy_share"]:
        return CheckResult(9, "privacy", "fail", sentence, AGAIN, {"code": "public_copies"})
    if share > limits["warn_copy_share"]:
        return CheckResult(9, "privacy", "warn", sentence, AGAIN, {"code": "public_copies"})
    return CheckResult(9, "privacy", "pass", sentence)


def _fitted(pixels: np.ndarray, drawn: Drawn) -> np.ndarray:
    """Return a photograph at the size of the images."""
    side = drawn.pixels.shape[1]
    if len(pixels) == side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
