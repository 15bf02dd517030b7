"""Check 6: the training card is complete, fits the base, and its epsilon follows from what it declares."""

from typing import Any

from .. import cards, dp
from ..generator import Base
from .dossier import Dossier
from .results import CheckResult, not_measured

FOLLOWS_FROM = ("noise_multiplier", "sample_rate", "delta")  # epsilon does, and from the steps
MEND = "{} training_card.json, or the card's page at the portal, and send it again."


def check_declaration(base: Base, dossier: Dossier) -> CheckResult:
    """
    Check 6: the rules of the portal's form (cards.py), and the epsilon that follows from what the card declares.

    Counts that point at people are no matter of this check: they are hidden before the card leaves the site.
    """
    if dossier.card is None:
        sentence = "Not looked at here: no training card was given."
        return not_measured(6, "declaration", sentence, code="not_given", fix="Add --card training_card.json.")
    card = cards.suppress_small_cells(dossier.card)
    problems = cards.problems(card, base_sha256=base.sha256)
    missing = [problem.field for problem in problems if problem.missing]
    if missing:
        sentence = f"The training card does not say: {', '.join(missing).replace('_', ' ')}."
        return _refused("incomplete", sentence, MEND.format("Complete"), missing=missing)
    if problems:
        sentence = " ".join(problem.sentence for problem in problems)
        return _refused(problems[0].code, sentence, MEND.format("Correct"))
    return _budget(card["dp"], card["steps"])


def _budget(declared: dict[str, Any], steps: int) -> CheckResult:
    """Judge what the card says of differential privacy."""
    complete = "The training card is complete"
    if not declared["used"]:
        sentence = f"{complete}; no differential privacy."
        return CheckResult(6, "declaration", "pass", sentence, evidence={"dp": {"used": False}})
    try:
        epsilon = float(declared["epsilon"])
        found = dp.epsilon(**{name: float(declared[name]) for name in FOLLOWS_FROM}, steps=steps)
    except (ArithmeticError, dp.BudgetError) as error:
        sentence = f"What the card says of differential privacy is no run of DP-SGD ({error})."
        return _refused("dp_invalid", sentence, MEND.format("Correct"))
    evidence: dict[str, Any] = {"dp": {**declared, "epsilon_recomputed": round(found, 4)}}
    if not dp.agrees(epsilon, found):
        sentence = f"The card declares epsilon {epsilon:g}, but {found:.3g} follows from its noise, rate and steps."
        return _refused(
            "epsilon_too_small", sentence, "Declare the epsilon that follows, or correct what is wrong.", **evidence
        )
    sentence = f"{complete}; epsilon {epsilon:g} at delta {declared['delta']:g} follows from what it declares."
    return CheckResult(6, "declaration", "pass", sentence, evidence=evidence)


def _refused(code: str, sentence: str, fix: str, **evidence: Any) -> CheckResult:
    return CheckResult(6, "declaration", "fail", sentence, fix, {"code": code, **evidence})
