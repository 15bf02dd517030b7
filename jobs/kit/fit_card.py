"""The training card that `fit` writes: what check 6 asks a site to declare, as far as the folder tells it."""

import csv
import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, dp, generator, images

if TYPE_CHECKING:
    from .fit import FitConfig, TrainingState

# What epsilon protects: one photograph, so a patient with several is protected less.
DP_FACTS = {"unit": "photograph", "accountant": "RDP, Opacus"}


def training_card(
    photographs: list[images.Photograph],
    listed: list[images.Photograph],
    folder: Path | str,
    config: "FitConfig",
    base: generator.Base,
    state: "TrainingState",
    *,
    began: float,
) -> dict[str, Any]:
    """Return what check 6 asks a site to declare, as far as the folder tells it; `began` is of time.monotonic()."""
    patients = {p.patient for p in photographs if p.patient}
    cameras = Counter(p.labels["camera"] for p in photographs if p.labels.get("camera"))
    return {
        "images": len(photographs),
        "patients": len(patients) or None,
        "steps": state.step,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "image_size": base.image_size,
        "augmentation": {"flip": config.flip, "rotation_degrees": config.rotation_degrees, "zoom": config.zoom},
        "deduplication": {
            "method": "sha256 of the files",
            "removed": copies_left_out(folder) + len(listed) - len(photographs),
        },
        "dp": _privacy(config, len(photographs), state.step),
        "cameras": dict(cameras.most_common()),
        **state.model.facts(),
        "base": {"slug": base.slug, "sha256": base.sha256},
        "kit_version": __version__,
        "device": str(next(state.model.parameters()).device.type),
        "seconds": round(time.monotonic() - began, 1),
        # A loss is told by the photographs themselves: what epsilon promises does not cover it.
        "final_loss": None if config.noise_multiplier else _known(state.loss, 5),
    }


def copies_left_out(folder: Path | str) -> int:
    """Return how many copies `prepare` left out when it made the folder; none where somebody else did."""
    index = Path(folder) / "index.csv"
    if not index.is_file():
        return 0
    with index.open(encoding="utf-8", newline="") as file:
        return sum(row.get("file") == "copy" for row in csv.DictReader(file))


def _known(value: float, digits: int) -> float | None:
    """Return a figure as JSON can hold it: None for the loss of a run whose steps all drew no photograph."""
    return round(value, digits) if math.isfinite(value) else None


def _privacy(config: "FitConfig", count: int, steps: int) -> dict[str, Any]:
    """Return the card's entry on differential privacy, with epsilon as it follows from the run."""
    if not config.noise_multiplier:
        return {"used": False}
    rate, delta = dp.sample_rate(count, config.batch_size), min(config.delta, dp.most_delta(count))
    facts = {"noise_multiplier": config.noise_multiplier, "sample_rate": rate, "delta": delta}
    found = dp.epsilon(**facts, steps=steps)
    return {
        "used": True,
        "epsilon": _known(found, 4),
        **facts,
        "clip_norm": config.clip_norm,
        **DP_FACTS,
    }
