"""What a probe learns from the images of all sites, and what without this one's: the last part of check 10."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ..generator import UNGRADED, Base
from ..metrics import auroc
from ..probe import ProbeError, fit_and_score
from .drawn import Drawn, Reference
from .utility import PROBE, REFERABLE

DRAWN = "drawn.safetensors"  # what is kept of a contribution for those that come after it
FEWEST_SITES = 2  # others: what one site's images do to one other's says little


@dataclass(frozen=True)
class Others:
    """Images of other sites' accepted contributions: features (N, D), classes (N,), and how many sites they are of."""

    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    sites: int


def save_drawn(drawn: Drawn, out_dir: Path) -> None:
    """Write the features and classes of the looked-at images; no picture can be drawn from them."""
    out_dir.mkdir(parents=True, exist_ok=True)
    kept = {"features": drawn.features.astype(np.float16), "classes": drawn.classes.astype(np.int64)}
    save_file(kept, out_dir / DRAWN)


def load_others(folder: Path) -> Others | None:
    """Read the files of other sites, SITE-CONTRIBUTION.safetensors each; None with fewer than FEWEST_SITES sites."""
    paths = sorted(folder.glob("*.safetensors"))
    sites = {path.name.partition("-")[0] for path in paths}
    if len(sites) < FEWEST_SITES:
        return None
    found = [load_file(path) for path in paths]
    return Others(
        np.concatenate([one["features"] for one in found]).astype(np.float32),
        np.concatenate([one["classes"] for one in found]),
        len(sites),
    )


def effect(drawn: Drawn, others: Others, reference: Reference, base: Base) -> dict[str, Any]:
    """
    Return the AUROC on public photographs of a probe trained with and without these images, as JSON values.

    It is the leave-one-site-out comparison for one site: a contribution that makes the probe worse for everybody
    stands out by it (influence by deletion, Koh & Liang 2017, arXiv:1703.04730, section 2.1, computed by training
    twice instead of approximated). Empty where a probe cannot be fitted.
    """
    real = reference.classes != UNGRADED
    test_x, test_y = reference.features[real], (reference.classes[real] >= REFERABLE).astype(int)

    def score(features: NDArray[np.float32], classes: NDArray[Any]) -> float:
        graded = classes != UNGRADED
        labels = (classes[graded] >= REFERABLE).astype(int)
        return auroc(test_y, fit_and_score(features[graded], labels, test_x, PROBE.inverse_regularisations[0], PROBE))

    try:
        without = score(others.features, others.classes)
        everything = np.concatenate([others.features, drawn.features]), np.concatenate([others.classes, drawn.classes])
        together = score(*everything)
    except (ProbeError, ValueError):
        return {}
    return {
        "sites": others.sites,
        "without": round(without, 4),
        "with": round(together, 4),
        "effect": round(together - without, 4),
        "probe": PROBE.describe("train on synthetic, test on real"),
        "base": base.slug,
    }
