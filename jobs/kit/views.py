"""Whether an image is a photograph that was cropped, turned, mirrored or made lighter or darker since."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import likeness

# A photograph is looked at in each of these ways, and an image that lies between two of them is near to both.
# ZOOMS: share of its side that is left; check 7 knows a closer crop by its corners.
ZOOMS = tuple(1 - 0.03 * step for step in range(8))
TURNS = (0, -6, 6, -12, 12)  # degrees
SIDE, CELLS = 64, 16  # pixels a side of a view, and of what is compared
FIELD = 0.9  # of the radius: the edge of the field, which all photographs have, is left out

Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]


class Views:
    """
    All views of some photographs, to compare images with.

    The measure is the correlation of colours inside the field, about the mean of all views: 1 is the same picture,
    however bright. Any two photographs of different patients of fundus-64's public reference are at most 0.969 alike,
    of 256 images that it draws the nearest is 0.933, and photographs that were cropped, turned, mirrored and darkened
    are 0.982 and more.
    """

    def __init__(self, photographs: Pixels) -> None:
        small = _small(photographs)
        rows = [_colours(_view(small, zoom, turn)) for zoom in ZOOMS for turn in TURNS]
        self.centre: Rows = np.mean([one.mean(axis=0) for one in rows], axis=0)
        self.rows = [self._about_centre(one) for one in rows]

    def similarity(self, images: Pixels) -> Rows:
        """Return how near each image (N, S, S, 3) comes to any view of each photograph, mirrored or not: (N, M)."""
        both = [self._about_centre(_colours(side)) for side in (images, images[:, :, ::-1])]
        found = (ours @ theirs.T for theirs in self.rows for ours in both)
        nearest = next(found)
        for one in found:
            np.maximum(nearest, one, out=nearest)
        return nearest

    def _about_centre(self, rows: Rows) -> Rows:
        apart = rows - self.centre
        return apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-6)


def _small(photographs: Pixels) -> Pixels:
    """Return photographs (M, S, S, 3) at SIDE pixels, where they have more."""
    if photographs.shape[1] <= SIDE:
        return photographs
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX)) for one in photographs]
    )


def _view(photographs: Pixels, zoom: float, turn: float) -> Pixels:
    side = photographs.shape[1]
    cut = (1 - zoom) * side / 2
    turned = (Image.fromarray(one).rotate(turn, Image.Resampling.BILINEAR) for one in photographs)
    box = (cut, cut, side - cut, side - cut)
    return np.stack([np.asarray(one.resize((side, side), Image.Resampling.BILINEAR, box=box)) for one in turned])


def _colours(images: Pixels) -> Rows:
    """Return the colours of each image's cells inside the field, each channel about its mean, of spread 1: (N, D)."""
    axis = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    inside = likeness.reduced(images, CELLS)[:, np.hypot(axis[:, None], axis[None, :]) < FIELD]
    inside = inside - inside.mean(axis=1, keepdims=True)
    spread = np.maximum(inside.std(axis=(1, 2), keepdims=True), 1e-3)
    return (inside / spread).reshape(len(images), -1).astype(np.float32)
