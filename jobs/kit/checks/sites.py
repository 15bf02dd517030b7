"""What is kept of the images of a contribution, and read for those of other sites: for the last part of check 10."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from .results import DRAWN

if TYPE_CHECKING:
    from .drawn import Drawn

FEWEST_SITES = 2  # others: what one site's images do to one other's says little


@dataclass(frozen=True)
class Others:
    """Images of other sites' accepted contributions: features (N, D), classes (N,), and how many sites they are of."""

    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    sites: int


def save_drawn(drawn: "Drawn", out_dir: Path) -> None:
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
