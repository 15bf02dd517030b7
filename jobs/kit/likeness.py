"""Measure whether 64-pixel images look like fundus photographs, and whether they differ from each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Likeness:
    """
    Numbers of one image, each independent of its resolution.

    contrast: standard deviation of the grey image, 0-1; a blank or constant image has almost none.
    brightness: mean of the brightest channel in the field's centre, 0-1.
    corner_ratio: brightness of the four corners over that of the centre; a camera's round field leaves them dark.
    warmth: mean of red minus blue in the field over the mean of red; blood and pigment make every retina warm.
    smoothness: correlation of neighbouring pixels inside the field, -1 to 1; noise has about 0.
    """

    contrast: float
    brightness: float
    corner_ratio: float
    warmth: float
    smoothness: float


def measure(image: np.ndarray) -> Likeness:
    """Measure one image, (S, S, 3) floats in 0..1."""
    size = image.shape[0]
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    radius = np.hypot(axis[:, None], axis[None, :])
    inside, corners = radius < 0.8, radius > 1.25  # the corners of the square reach 1.41, the field 1
    brightest, grey = image.max(axis=2), image.mean(axis=2)
    brightness = float(brightest[inside].mean())
    red, blue = float(image[inside, 0].mean()), float(image[inside, 2].mean())
    return Likeness(
        contrast=float(grey.std()),
        brightness=brightness,
        corner_ratio=float(brightest[corners].mean()) / max(brightness, 1e-6),
        warmth=(red - blue) / max(red, 1e-6),
        smoothness=_neighbour_correlation(grey, inside),
    )


def _neighbour_correlation(grey: np.ndarray, inside: np.ndarray) -> float:
    """Return the correlation of each pixel with the one to its right, among those inside; 0 when constant."""
    left, right = grey[:, :-1], grey[:, 1:]
    both = inside[:, :-1] & inside[:, 1:]
    a, b = left[both] - left[both].mean(), right[both] - right[both].mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-9 else 0.0


def near_duplicates(images: np.ndarray, distance: float) -> list[tuple[int, int]]:
    """
    List the pairs of images that show the same picture, mirrored or not.

    Args:
        images: (N, S, S, 3), uint8 or floats in 0..1.
        distance: root mean square difference, 0-1, after reduction to 16 x 16 pixels: below it is the same picture.
    """
    apart = distances(images, images)
    return [(int(a), int(b)) for a, b in np.argwhere(apart < distance) if a < b]


def distances(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """
    Return the root mean square difference of every pair after reduction to 16 x 16 pixels, mirrored or not: (N, M).

    Args:
        ours: (N, S, S, 3), uint8 or floats in 0..1. theirs: (M, T, T, 3) alike; S and T are multiples of 16.
    """
    small = reduced(theirs, 16)
    both = np.concatenate([small.reshape(len(small), -1), small[:, :, ::-1].reshape(len(small), -1)])
    flat = reduced(ours, 16).reshape(len(ours), -1)
    found = np.stack([np.sqrt(((both - one) ** 2).mean(axis=1)) for one in flat])
    return np.minimum(found[:, : len(small)], found[:, len(small) :])


def reduced(images: np.ndarray, size: int) -> np.ndarray:
    """Average (N, S, S, 3) over squares to floats (N, size, size, 3) in 0..1; S is a multiple of size."""
    count, side = len(images), images.shape[1] // size
    means = images.reshape(count, size, side, size, side, 3).mean(axis=(2, 4))
    # Divided when they are small: as floats, 500 images of 512 pixels would take 3 GB.
    return means / 255.0 if images.dtype == np.uint8 else means


def save_sheet(pixels: np.ndarray, path: Path | str, *, columns: int = 8) -> None:
    """Write images (N, S, S, 3) uint8 as one PNG, `columns` wide, a pixel of black between them."""
    size = pixels.shape[1] + 1
    rows = -(-len(pixels) // columns)
    sheet = Image.new("RGB", (columns * size - 1, rows * size - 1))
    for index, image in enumerate(pixels):
        sheet.paste(Image.fromarray(image), (index % columns * size, index // columns * size))
    sheet.save(path, optimize=True)


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
