"""Check 5: the numbers are finite, not all zero, not the base's own, and no further from it than others'."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..container import Container, read_container
from ..generator import Base
from ..scan import Difference, Scan, scan
from .results import CheckResult, Progress

FEWEST_PEERS = 8  # accepted contributions: the spread of fewer is no measure

Layers = dict[str, float]


def check_numerics(
    container: Container,
    base: Base,
    peers: Sequence[Layers] = (),
    on_progress: Progress = lambda done, total, text: None,
) -> CheckResult:
    """
    Check 5: every number is finite, the weights are not all zero, not the base itself, and not far from it.

    Of an adapter it is measured what it adds to each layer of the base (latent.adapter_changes).

    Evidence: `layers`, the distance from the base relative to the base's norm, |w - base| / |base|, for each group of
    layers; `robust_z`, how far each lies from those of accepted contributions. It warns above warn_robust_z.

    Args:
        peers: `layers` of accepted contributions of the same base.
    """
    found = scan(container, on_progress, base=None if base.is_adapter else read_container(base.weights))
    evidence: dict[str, Any] = {"tensors": len(found.tensors)} | ({"sha256": found.sha256} if found.sha256 else {})
    problem = _bad_numbers(found)
    if problem is not None:
        code, sentence, fix, more = problem
        return CheckResult(5, "numerics", "fail", sentence, fix, {"code": code, **evidence, **more})
    changes = _adapter_changes(container, base) if base.is_adapter else found.differences
    layers = layer_distances(changes)
    changed = sum(change.delta_squares > 0 for change in changes)
    evidence |= {"layers": layers, "changed_tensors": changed, "largest": _largest(changes)}
    if changed == 0 or (layers["all"] < base.thresholds["min_change"] and not base.is_adapter):
        sentence = f"These are the weights of {base.slug} itself: nothing was learnt from your images."
        fix = "Run `consortium fit` on your images and send the weights.safetensors it writes."
        return CheckResult(5, "numerics", "fail", sentence, fix, {"code": "is_the_base", **evidence})
    what = "layers are changed by the adapter" if base.is_adapter else "tensors differ from the base"
    sentence = f"All numbers are finite; {changed} of {len(changes)} {what}, by {layers['all']:.2%} overall."
    scores = robust_z(layers, peers)
    evidence |= {"robust_z": scores, "peers": len(peers)}
    far = {name: score for name, score in scores.items() if score > base.thresholds["warn_robust_z"]}
    if not far:
        return CheckResult(5, "numerics", "pass", sentence, evidence=evidence)
    name = max(far, key=lambda key: far[key])
    sentence += f" {name} moved much further than in {len(peers)} accepted contributions (robust z {far[name]:.1f})."
    fix = "Look whether the learning rate or the number of steps is what you meant; the board will ask."
    return CheckResult(5, "numerics", "warn", sentence, fix, {"code": "far_from_others", **evidence})


def _adapter_changes(container: Container, base: Base) -> Sequence[Difference]:
    from ..latent import adapter_changes  # noqa: PLC0415 -- slow import, for one family alone

    return adapter_changes(container.path, base)


def robust_z(layers: Layers, peers: Sequence[Layers]) -> Layers:
    """
    Return how far each distance lies above the peers' median, in units of their spread; empty with too few peers.

    Source: modified z-score, Iglewicz and Hoaglin 1993, equation 3: 0.6745 (x - median) / MAD.
    """
    if len(peers) < FEWEST_PEERS:
        return {}
    found = {}
    for name, value in layers.items():
        others = np.array([peer[name] for peer in peers if name in peer])
        if len(others) < FEWEST_PEERS:
            continue
        middle = float(np.median(others))
        spread = max(float(np.median(np.abs(others - middle))), 0.01 * abs(middle), 1e-12)
        found[name] = round(0.6745 * (value - middle) / spread, 2)
    return found


def _bad_numbers(found: Scan) -> tuple[str, str, str, dict[str, Any]] | None:
    """Return (code, sentence, fix, evidence) when a number is not finite or all are zero."""
    bad = [tensor for tensor in found.tensors if not tensor.finite]
    if bad:
        nans, infinite = sum(t.nan_count for t in bad), sum(t.infinite_count for t in bad)
        first = bad[0]
        sentence = (
            f"{len(bad)} tensors hold numbers that are not finite ({nans:,} NaN, {infinite:,} infinite); the first is "
            f"{first.name} with {first.nan_count + first.infinite_count:,} of {first.count:,}."
        )
        fix = "The training diverged, or the file was damaged: train again with a lower learning rate, then send that."
        evidence = {"nan": nans, "infinite": infinite, "tensors_affected": [t.name for t in bad[:10]]}
        return "not_finite", sentence, fix, evidence
    if all(tensor.all_zero for tensor in found.tensors):
        fix = "Send the weights.safetensors that `consortium fit` wrote."
        return "all_zero", "Every number in the file is zero, so it holds no model.", fix, {}
    return None


def layer_distances(changes: Sequence[Difference]) -> dict[str, float]:
    """Return |w - base| / |base| for each group of layers (down_blocks.0, mid_block, ...) and for "all"."""
    sums: dict[str, list[float]] = {}
    for change in changes:
        parts = change.name.split(".")
        group = ".".join(parts[:2]) if len(parts) > 2 and parts[1].isdigit() else parts[0]
        for key in (group, "all"):
            both = sums.setdefault(key, [0.0, 0.0])
            both[0] += change.delta_squares
            both[1] += change.base_squares
    return {key: _finite(math.sqrt(delta / base)) if base else 0.0 for key, (delta, base) in sums.items()}


def _largest(changes: Sequence[Difference]) -> dict[str, Any]:
    change = max(changes, key=lambda c: c.relative if math.isfinite(c.relative) else -1.0)
    return {"name": change.name, "relative": _finite(change.relative)}


def _finite(value: float) -> float:
    """Round for JSON, which knows no infinity."""
    return float(f"{value:.4g}") if math.isfinite(value) else 1e300
