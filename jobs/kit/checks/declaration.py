"""Check 6: the training card is complete, fits the base, and its epsilon follows from what it declares."""

from typing import Any

from .. import dp
from ..generator import Base
from .dossier import Dossier
from .results import CheckResult, not_measured

# What every card answers; "unknown" is an answer where the site cannot know.
REQUIRED = (
    "images", "patients", "steps", "batch_size", "learning_rate", "seed", "augmentation", "deduplication", "dp",
    "cameras", "demographics",
)  # fmt: skip
COMPLETE = "Complete training_card.json, or the card's page at the portal, and send it again."


def check_declaration(base: Base, dossier: Dossier) -> CheckResult:
    """Check 6. A declared epsilon is believed only with the parameters that it follows from."""
    card = dossier.card
    if card is None:
        sentence = "Not looked at here: no training card was given."
        return not_measured(6, "declaration", sentence, code="not_given", fix="Add --card training_card.json.")
    missing = [name for name in REQUIRED if name not in card or card[name] in ("", {})]
    if missing:
        sentence = f"The training card does not say: {', '.join(missing).replace('_', ' ')}."
        return _refused("incomplete", sentence, COMPLETE, missing=missing)
    declared = card.get("base")
    if isinstance(declared, dict) and declared.get("sha256") not in (None, base.sha256):
        sentence = f"The card says that the weights were made from another base generator than {base.slug}."
        return _refused("other_base", sentence, f"Fine-tune {base.slug}, or choose the base that you used.")
    return _budget(card["dp"], card["steps"])


def _budget(declared: Any, steps: Any) -> CheckResult:
    """Judge what the card says of differential privacy."""
    complete = "The training card is complete"
    if not isinstance(declared, dict) or not declared.get("used"):
        sentence = f"{complete}; no differential privacy."
        return CheckResult(6, "declaration", "pass", sentence, evidence={"dp": {"used": False}})
    try:
        epsilon = float(declared["epsilon"])
        found = dp.recomputed(declared, int(steps))
    except (KeyError, TypeError, ValueError, ArithmeticError, dp.BudgetError) as error:
        sentence = f"What the card says of differential privacy is no run of DP-SGD ({error})."
        return _refused("dp_invalid", sentence, COMPLETE)
    evidence: dict[str, Any] = {"dp": {**declared, "epsilon_recomputed": None if found is None else round(found, 4)}}
    if found is None:
        sentence = (
            f"{complete}, but epsilon {epsilon:g} follows from nothing: noise multiplier or sample rate is missing."
        )
        fix = "Send the card as `consortium fit --noise-multiplier` wrote it, or declare no differential privacy."
        return _refused("dp_not_recomputed", sentence, fix, **evidence)
    if not dp.agrees(epsilon, found):
        sentence = f"The card declares epsilon {epsilon:g}, but {found:.3g} follows from its noise, rate and steps."
        return _refused(
            "epsilon_too_small", sentence, "Declare the epsilon that follows, or correct what is wrong.", **evidence
        )
    sentence = f"{complete}; epsilon {epsilon:g} at delta {declared['delta']:g} follows from what it declares."
    return CheckResult(6, "declaration", "pass", sentence, evidence=evidence)


def _refused(code: str, sentence: str, fix: str, **evidence: Any) -> CheckResult:
    return CheckResult(6, "declaration", "fail", sentence, fix, {"code": code, **evidence})
