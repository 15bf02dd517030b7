"""
How near generated images come to the photographs that a generator was trained on.

Two measures: a perceptual hash of 64 bits, which sees layout, and features of a fixed encoder, which see texture too.
An image counts as a candidate copy when it is nearer to a training photograph than held-out photographs are.
Source: Dar et al. 2024, arXiv:2402.01054, section "Memorization detection": the threshold is the 95th percentile of the
similarities between each validation image and the training image nearest to it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import encoder

HASH_SIDE, HASH_REDUCED = 8, 32  # bits a side; pixels a side before the transform
QUANTILE = 0.95  # of the held-out photographs' similarities: so 5 % of harmless images lie above, too

AT_ONCE = 8192  # photographs that all of ours are compared with

Pixels = NDArray[np.uint8]
Similarity = NDArray[np.float64]
Measure = Callable[[NDArray[Any]], Similarity]  # (M, ...) of theirs to (N, M), of ours to theirs


@dataclass(frozen=True)
class Nearest:
    """
    Similarities of k images to their nearest neighbours, by one measure; 1 is the same picture.

    threshold: QUANTILE of `expected`. expected: (m,), each held-out photograph to its nearest training photograph.
    to_train, to_held_out: (k,), each generated image to its nearest photograph of either set, the sets made equally
    large. copies: (k,), generated images above the threshold. where: (k,), index of the nearest training photograph.
    """

    threshold: float
    expected: Similarity
    to_train: Similarity
    to_held_out: Similarity
    copies: NDArray[np.bool_]
    where: NDArray[np.intp]

    @property
    def nearer_to_train(self) -> float:
        """
        Return the share of images that are nearer to a training photograph, a tie counting one half: 0.5 is chance.

        Hashes have few distances: of independent photographs, three in ten are as far from either set.
        """
        return float((self.to_train > self.to_held_out).mean() + (self.to_train == self.to_held_out).mean() / 2)

    def facts(self) -> dict[str, Any]:
        """Return statistics alone, as JSON values: no image, no name, no single photograph's figure."""
        return {
            "threshold": round(self.threshold, 5),
            "threshold_quantile": QUANTILE,
            "copies": int(self.copies.sum()),
            "copy_share": round(float(self.copies.mean()), 4),
            "nearer_to_train": round(self.nearer_to_train, 4),
            "generated_to_train": _quantiles(self.to_train),
            "generated_to_held_out": _quantiles(self.to_held_out),
            "held_out_to_train": _quantiles(self.expected),
        }


def _quantiles(values: Similarity) -> dict[str, float]:
    return {f"q{round(q * 100):02}": round(float(np.quantile(values, q)), 5) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}


def perceptual_hash(images: Pixels) -> NDArray[np.bool_]:
    """
    Return 64 bits for each image (N, S, S, 3): signs of its lowest frequencies about their median, (N, 64).

    Source: Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1 (pHash).
    """
    basis = _cosines(HASH_REDUCED)[:HASH_SIDE]
    low = basis @ np.stack([_grey(image) for image in images]) @ basis.T
    flat = low.reshape(len(low), -1)
    return flat > np.median(flat, axis=1, keepdims=True)


def _grey(image: Pixels) -> NDArray[np.float64]:
    small = Image.fromarray(image).convert("L").resize((HASH_REDUCED, HASH_REDUCED), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=np.float64)


def _cosines(size: int) -> NDArray[np.float64]:
    """Return the type II discrete cosine transform as a matrix (size, size)."""
    place = np.arange(size)
    return np.cos(np.pi * np.outer(place, 2 * place + 1) / (2 * size))


def features(images: Pixels, device: str = "cpu") -> NDArray[np.float32]:
    """Return EfficientNet-Lite0 features of square images (N, S, S, 3), enlarged to the encoder's size: (N, 1280)."""
    network = _network()
    size = (network.image_size, network.image_size)
    large = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images]
    return encoder.features(network, np.stack(large), device)


@functools.cache
def _network() -> encoder.Encoder:
    """Return the encoder; it is read once, for it is asked of several sets of images in a row."""
    return encoder.efficientnet_lite0()


def by_hash(ours: Pixels, theirs: NDArray[np.bool_]) -> Similarity:
    """
    Return the share of equal hash bits of each image (N, S, S, 3) and each hash (M, 64): (N, M).

    Training mirrors, so a copy may be mirrored.
    """
    b = _signs(theirs)
    both = (_signs(perceptual_hash(side)) for side in (ours, ours[:, :, ::-1]))
    return np.maximum(*(a @ b.T / b.shape[1] for a in both)) / 2 + 0.5


def _signs(bits: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(bits, 1.0, -1.0)


def by_features(ours: NDArray[np.float32], theirs: NDArray[np.float32], centre: NDArray[np.float32]) -> Similarity:
    """Return the correlation of every pair of feature vectors about `centre` (D,): what all share is no likeness."""
    a, b = (_unit(x.astype(np.float64) - centre) for x in (ours, theirs))
    return a @ b.T


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def best(measure: Measure, theirs: NDArray[Any]) -> tuple[Similarity, NDArray[np.intp]]:
    """
    Return how near each of ours comes to any of `theirs`, and which of them that is.

    In blocks: a site may hold half a million photographs, and all pairs at once would take gigabytes.
    """
    value, where = np.empty(0), np.empty(0, dtype=np.intp)
    for start in range(0, len(theirs), AT_ONCE):
        found = measure(theirs[start : start + AT_ONCE])
        most, place = found.max(axis=1), found.argmax(axis=1) + start
        if start == 0:
            value, where = most, place
        else:
            value, where = np.maximum(value, most), np.where(most > value, place, where)
    return value, where


def nearest(drawn: Measure, others: Measure, train: NDArray[Any], held_out: NDArray[Any], *, seed: int) -> Nearest:
    """
    Compare how near generated images come to the training set with how near harmless ones do.

    Args:
        drawn, others: measure the generated images, and the held-out photographs, against any of the next two.
        train, held_out: features or hashes of the photographs of either side.
        seed: of the draw that makes both sets equally large for `nearer_to_train`; a larger set has nearer neighbours.
    """
    expected, _ = best(others, train)
    threshold = float(np.quantile(expected, QUANTILE))
    rng, size = np.random.default_rng(seed), min(len(train), len(held_out))
    equal = [best(drawn, side[np.sort(rng.permutation(len(side))[:size])])[0] for side in (train, held_out)]
    alike, where = best(drawn, train)
    return Nearest(threshold, expected, equal[0], equal[1], alike > threshold, where)
