"""The images that check 7 drew, as the later checks see them, and the public photographs beside them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from .. import copies
from ..views import Views


@dataclass(frozen=True)
class Drawn:
    """
    Images drawn from the weights: pixels (N, S, S, 3), classes (N,).

    outlines: the first of them as check 7 compares them, (M, 16, 16, 3); None for images that came as images.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.int_]
    outlines: NDArray[np.float32] | None = None

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """Their features by the fixed encoder, (N, 1280); computed once for all checks."""
        return copies.features(self.pixels)


@dataclass(frozen=True)
class Reference:
    """
    Public photographs that the base generator never saw, with what was computed of them once.

    pixels: (R, S, S, 3). features: (R, 1280). classes: (R,), the generator's class of each. patients: (R,).
    """

    pixels: NDArray[np.uint8]
    features: NDArray[np.float32]
    classes: NDArray[np.int_]
    patients: NDArray[np.int_]

    @cached_property
    def views(self) -> Views:
        """The photographs cropped and turned; made once for all images."""
        return Views(self.pixels)

    @cached_property
    def most_alike(self) -> float:
        """The nearest that any view of a photograph comes to one of another patient."""
        among = self.views.similarity(self.pixels)
        return float(among[self.patients[:, None] != self.patients[None, :]].max())

    def facts(self) -> dict[str, Any]:
        return {"photographs": len(self.pixels), "patients": len(np.unique(self.patients))}


def load_reference(path: Path) -> Reference | None:
    """Read reference.safetensors of a base generator; None where it has none."""
    if not path.exists():
        return None
    saved = load_file(path)
    return Reference(
        saved["pixels"], saved["features"].astype(np.float32), saved["classes"].astype(int), saved["patients"]
    )
