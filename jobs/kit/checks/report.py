"""What a privacy report may hold: numbers of known names and texts of known forms. Nothing there can name a person."""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from .. import membership
from ..container import METADATA
from ..copies import QUANTILE
from ..encoder import LITE0_SHA256
from ..fit_card import DP_FACTS
from ..generator import Base
from ..privacy import MINIMUM_IMAGES

Rule: TypeAlias = "Callable[[object], bool] | dict[str, Rule]"


def problem_of(report: dict[str, Any], base: Base, *, weights_sha256: str = "") -> str:
    """
    Return the first thing in which a report differs from what privacy.report() writes, or an empty text.

    Args:
        weights_sha256: of the weights that it must have measured, where they are known.
    """
    rule = {**_REPORT, "dp": _differential_privacy(report.get("dp")), "method": _method(report.get("method"))}
    if problem := next(_differences(report, rule, ""), ""):
        return problem
    if report["base"] != {"slug": base.slug, "sha256": base.sha256}:
        return f"it was measured against another base generator than {base.slug}"
    if weights_sha256 not in {"", report["weights_sha256"]}:
        return "it measured other weights"
    if report["method"]["sampling_steps"] != int(base.config["sampling_steps"]):
        return f"its images were drawn in another number of steps than {base.slug} takes"
    return next(_contradictions(report), "")


def _contradictions(report: dict[str, Any]) -> Iterator[str]:
    """Yield in which figures a report disagrees with itself; privacy.report() rounds after it has computed all."""
    for name, found in report["copies"].items():
        if found["copy_share"] != round(found["copies"] / report["images"]["generated"], 4):
            yield f"copies.{name}.copy_share is not that of its copies among the images"
        for spread in ("generated_to_train", "generated_to_held_out", "held_out_to_train"):
            if (values := [found[spread][q] for q in _QUANTILES]) != sorted(values):
                yield f"copies.{name}.{spread} does not rise"
        if found["threshold"] != found["held_out_to_train"][f"q{QUANTILE * 100:.0f}"]:
            yield f"copies.{name}.threshold is not what the held-out photographs show"
    for name, found in report["membership"].items():
        if found["low"] > found["high"]:
            yield f"membership.{name} has an interval that ends before it begins"


def problem_of_budget(declared: object) -> str:
    """Return the first thing in which an entry `dp` differs from what privacy.declared() gives, or an empty text."""
    return next(_differences(declared, _differential_privacy(declared), "dp"), "")


def _differences(value: object, rule: Rule, place: str) -> Iterator[str]:
    if not isinstance(rule, dict):
        if not rule(value):
            yield f"{place} is not what it must be"
        return
    if not isinstance(value, dict):
        yield f"{place or 'it'} is no table"
        return
    for name in value:
        if name not in rule:
            yield f"{place or 'it'} holds {ascii(name)[:60]}, which the kit does not write"
    for name, below in rule.items():
        here = f"{place}.{name}" if place else name
        if name in value:
            yield from _differences(value[name], below, here)
        else:
            yield f"it lacks {here}"


def _number(low: float, high: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _count(low: int, high: int = 2**31) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is(wanted: object) -> Callable[[object], bool]:
    return lambda value: type(value) is type(wanted) and value == wanted


def _text(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _differential_privacy(declared: object) -> Rule:
    """Return the rule of the training card's entry, which is longer where differential privacy was used."""
    if not isinstance(declared, dict) or declared.get("used") is not True:
        return {"used": lambda value: value is False}
    return _PRIVATE | {name: rule for name, rule in _OF_THE_KIT.items() if name in declared}


def _method(told: object) -> Rule:
    """Return the rule of how it was measured; kits up to 0.5.0 did not write how many were asked."""
    return _METHOD | ({"most": _count(MINIMUM_IMAGES)} if isinstance(told, dict) and "most" in told else {})


_SHARE, _LIKENESS, _SHA256 = _number(0, 1), _number(-1, 1), _text(r"[0-9a-f]{64}")
_QUANTILES: dict[str, Rule] = dict.fromkeys(("q05", "q25", "q50", "q75", "q95"), _LIKENESS)
_NEAREST: Rule = {
    "threshold": _LIKENESS, "threshold_quantile": _is(QUANTILE), "copies": _count(0), "copy_share": _SHARE,
    "nearer_to_train": _SHARE, "generated_to_train": _QUANTILES, "generated_to_held_out": _QUANTILES,
    "held_out_to_train": _QUANTILES,
}  # fmt: skip
_ATTACK: Rule = dict.fromkeys(("auc", "low", "high", "tpr_at_1_percent_fpr"), _SHARE)
# What the portal's training card asks of a private run, by which check 6 finds epsilon again; then what `fit` adds.
_PRIVATE: dict[str, Rule] = {
    "used": lambda value: value is True, "epsilon": _number(0, 1e9), "noise_multiplier": _number(0, 1e9),
    "sample_rate": _SHARE, "delta": _SHARE,
}  # fmt: skip
_OF_THE_KIT: dict[str, Rule] = {
    "clip_norm": _number(0, 1e9), **{name: _text(re.escape(text)) for name, text in DP_FACTS.items()}
}  # fmt: skip
# Figures mean what the thresholds were set for only where they were measured so.
_METHOD: dict[str, Rule] = {
    "kit_version": _text(METADATA["kit_version"]), "seed": _count(0, 2**63), "sampling_seed": _count(0, 2**63),
    "sampling_steps": _count(1),
    "features": {"encoder": _is("efficientnet-lite0-imagenet"), "sha256": _is(LITE0_SHA256)},
    "perceptual_hash": _is("pHash, 64 bits, mirrored or not"),
    "loss": {
        "noise_steps": _is(list(membership.STEPS)), "draws": _is(membership.DRAWS), "seed": _is(membership.SEED),
    },
    "device": _text(r"cpu|cuda|mps"),
}  # fmt: skip
_REPORT: dict[str, Rule] = {
    "base": {"slug": _text(METADATA["base_model"]), "sha256": _SHA256},
    "weights_sha256": _SHA256,
    "images": {"train": _count(MINIMUM_IMAGES), "held_out": _count(MINIMUM_IMAGES), "generated": _count(1)},
    "copies": {"features": _NEAREST, "perceptual_hash": _NEAREST},
    "membership": {"loss": _ATTACK, "loss_less_base": _ATTACK},
}
