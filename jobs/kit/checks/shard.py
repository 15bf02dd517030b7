"""Check 1 of synthetic images: the shards hold images of the kit, and nothing else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import KitError
from ..generator import Base
from ..synthetic import MOST_IMAGES, Manifest, Row, images_of
from .drawn import Drawn
from .results import CheckResult

LOOKED_AT = 256  # images that the checks with features look at, taken at random


@dataclass(frozen=True)
class Seen:
    """
    What one pass over the shards found; each list has one entry an image.

    manifests: one a shard. pixels_sha256: of the decoded pixels. coarse: see _coarse(). chosen: LOOKED_AT of the
    images, or all, in order; chosen_rows: their places in `rows`.
    """

    paths: tuple[Path, ...]
    manifests: tuple[Manifest, ...]
    rows: tuple[Row, ...]
    tags: tuple[dict[str, str], ...]
    pixels_sha256: tuple[str, ...]
    coarse: tuple[tuple[bytes, ...], ...]
    chosen: Drawn
    chosen_rows: tuple[int, ...]


def check_shards(paths: list[Path], base: Base, *, salt: str = "") -> tuple[CheckResult, Seen | None]:
    """
    Check 1: every byte is a canonical tar's, a listed PNG's pixels, or a tag that the kit writes.

    Args:
        salt: of the choice of images that later checks look at; the centre's is not known before.
    """
    try:
        seen = _read(paths, base, salt)
    except KitError as error:
        return CheckResult(1, "container", "fail", error.sentence, error.fix, {"code": error.code}), None
    evidence = {
        "shards": len(paths),
        "images": len(seen.rows),
        "size_bytes": sum(path.stat().st_size for path in paths),
        "classes": {
            name: count
            for number, name in enumerate(base.config["classes"])
            if (count := sum(row.label == number for row in seen.rows))
        },
    }
    files = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    sentence = f"{len(seen.rows):,} images in {files}, as the kit writes them, and nothing else."
    return CheckResult(1, "container", "pass", sentence, evidence=evidence), seen


def _read(paths: list[Path], base: Base, salt: str) -> Seen:
    manifests: dict[int, Manifest] = {}
    rows: list[Row] = []
    tags: list[dict[str, str]] = []
    digests: list[str] = []
    coarse: list[tuple[bytes, ...]] = []
    step = base.thresholds["duplicate_distance"] * 255
    keep: dict[int, np.ndarray] = {}
    draw = _Reservoir(LOOKED_AT, salt)
    for manifest, row, pixels, tag in images_of(paths, base.image_size):
        manifests[id(manifest)] = manifest
        draw.offer(len(rows), pixels, keep)
        rows.append(row)
        tags.append(tag)
        digests.append(hashlib.sha256(pixels.tobytes()).hexdigest())
        coarse.append(_coarse(pixels, step))
        if len(rows) > MOST_IMAGES:
            raise KitError(f"There are more than {MOST_IMAGES:,} images.", code="too_many_images")
    order = sorted(keep)
    chosen = Drawn(np.stack([keep[n] for n in order]), np.array([rows[n].label for n in order]))
    return Seen(
        tuple(paths), tuple(manifests.values()), tuple(rows), tuple(tags), tuple(digests), tuple(coarse), chosen,
        tuple(order),
    )  # fmt: skip


def _coarse(pixels: np.ndarray, step: float) -> tuple[bytes, ...]:
    """
    Return two digests of an image (S, S, 3), equal for pictures that differ in what nobody sees, mirrored or not.

    They are the means of 4 x 4 blocks, in steps; a mean averages what changes in single pixels. A mean at the edge of
    a step falls to one side or the other, so the second digest's steps lie half a step aside. With steps of
    duplicate_distance, a twin is about as near as in likeness.near_duplicates().

    Measured on fundus-64, steps of 8: of 230 photographs, none has a twin, nor of 240 drawn images; of 3,000 mixtures
    of two photographs 24 do. Of pictures sent again with one pixel changed all do, with every one by up to 2, seven in
    ten.

    Source: Yang, Gu and Niu 2006, Block Mean Value Based Image Perceptual Hashing, doi:10.1109/IIH-MSP.2006.265125;
    the steps are ours, for its threshold, the median, leaves one bit of a block.
    """
    side = len(pixels) // 4
    means = pixels.reshape(4, side, 4, side, 3).mean(axis=(1, 3))
    steps = [np.floor(means / step + aside).astype(np.uint8) for aside in (0, 0.5)]
    return tuple(min(one.tobytes(), one[:, ::-1].tobytes()) for one in steps)


class _Reservoir:
    """A random sample of a stream of unknown length (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, salt: str) -> None:
        self.size = size
        self.rng = np.random.default_rng(list(hashlib.sha256(salt.encode()).digest()))
        self.places: list[int] = []

    def offer(self, number: int, pixels: np.ndarray, keep: dict[int, np.ndarray]) -> None:
        if number < self.size:
            self.places.append(number)
            keep[number] = pixels
        elif (place := int(self.rng.integers(number + 1))) < self.size:
            del keep[self.places[place]]
            self.places[place] = number
            keep[number] = pixels
