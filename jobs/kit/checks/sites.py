"""What is kept of the images of a contribution, and read for those of other sites: for checks 7 and 10."""

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
class Kept:
    """
    What is kept of one accepted contribution of another site: features (N, D) and classes (N,) of its images.

    outlines: of weights, see Drawn; None for images, and for weights that were checked before these were kept.
    """

    site: str
    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    outlines: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Others:
    """The accepted contributions of other sites to the same base."""

    each: tuple[Kept, ...] = ()

    @property
    def sites(self) -> int:
        return len({kept.site for kept in self.each})

    @property
    def features(self) -> NDArray[np.float32]:
        return np.concatenate([kept.features for kept in self.each])

    @property
    def classes(self) -> NDArray[np.int64]:
        return np.concatenate([kept.classes for kept in self.each])

    def drawing(self, count: int) -> list[NDArray[np.float32]]:
        """Return the first `count` outlines of each of them that is weights, (count, 16, 16, 3)."""
        return [
            kept.outlines[:count] for kept in self.each if kept.outlines is not None and len(kept.outlines) >= count
        ]


def save_drawn(drawn: "Drawn", out_dir: Path) -> None:
    """Write features and classes of the looked-at images, and the outlines: all are of images that a model drew."""
    out_dir.mkdir(parents=True, exist_ok=True)
    kept = {"features": drawn.features.astype(np.float16), "classes": drawn.classes.astype(np.int64)}
    if drawn.outlines is not None:
        kept["outlines"] = np.ascontiguousarray(drawn.outlines)  # safetensors writes other strides in the wrong order
    save_file(kept, out_dir / DRAWN)


def load_others(folder: Path) -> Others:
    """Read the files of other sites, SITE-CONTRIBUTION.safetensors each."""
    found = [(path.name.partition("-")[0], load_file(path)) for path in sorted(folder.glob("*.safetensors"))]
    return Others(
        tuple(
            Kept(site, one["features"].astype(np.float32), one["classes"], one.get("outlines")) for site, one in found
        )
    )
