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

    manifests: one a shard. pixels_sha256: of the decoded pixels. chosen: LOOKED_AT of the images, or all,
    in order; chosen_rows: their places in `rows`.
    """

    paths: tuple[Path, ...]
    manifests: tuple[Manifest, ...]
    rows: tuple[Row, ...]
    tags: tuple[dict[str, str], ...]
    pixels_sha256: tuple[str, ...]
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
    keep: dict[int, np.ndarray] = {}
    draw = _Reservoir(LOOKED_AT, salt)
    for manifest, row, pixels, tag in images_of(paths, base.image_size):
        manifests[id(manifest)] = manifest
        draw.offer(len(rows), pixels, keep)
        rows.append(row)
        tags.append(tag)
        digests.append(hashlib.sha256(pixels.tobytes()).hexdigest())
        if len(rows) > MOST_IMAGES:
            raise KitError(f"There are more than {MOST_IMAGES:,} images.", code="too_many_images")
    order = sorted(keep)
    chosen = Drawn(np.stack([keep[n] for n in order]), np.array([rows[n].label for n in order]))
    return Seen(tuple(paths), tuple(manifests.values()), tuple(rows), tuple(tags), tuple(digests), chosen, tuple(order))


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
