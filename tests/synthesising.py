"""Synthetic images for tests: folders and shards as the kit writes them, with one thing wrong where a test wants it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from jobs.kit import generator, pngs, shards, synthetic
from jobs.kit.phantom import phantom

BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")
GENERATOR = hashlib.sha256(b"a generator").hexdigest()
SHARED = {"generator_sha256": GENERATOR, "date": "2026-11-27", "steps": 20, "kit_version": "1.0"}


def picture(seed: int) -> np.ndarray:
    """Return a picture that looks like a fundus photograph, (64, 64, 3), another for each seed from 0 to 11."""
    # Each lighter or darker than the others, so that no two count as nearly the same.
    drawn = phantom(seed, seed % 5, eye="RL"[seed % 2], pigmentation=seed * 5 % 12 / 12, size=64)
    return (drawn * (0.4 + 0.6 * seed / 11)).astype(np.uint8)


def row(number: int, **changed: Any) -> dict[str, Any]:
    """Return an image's row of the listing."""
    label = number % 6
    return {
        "file": f"{number:06d}.png", "seed": 100 + number, "class": label, "synthetic": "true", "base": BASE.slug,
        **SHARED, **changed,
    }  # fmt: skip


def members(pictures: list[np.ndarray], rows: list[dict[str, Any]] | None = None, **facts: Any):
    """Return the members of a shard; `facts` replace those of its manifest."""
    rows = rows or [row(number) for number in range(len(pictures))]
    files = [pngs.encode(pixels, synthetic.tags_of(one)) for pixels, one in zip(pictures, rows, strict=True)]
    listed = [
        {"file": one["file"], "sha256": hashlib.sha256(data).hexdigest(), "seed": one["seed"], "class": one["class"]}
        for one, data in zip(rows, files, strict=True)
    ]
    manifest = {
        "format": synthetic.FORMAT, "synthetic": True, "base": {"slug": BASE.slug, "sha256": BASE.sha256},
        "drawn": len(rows), "images": listed, **SHARED, **facts,
    }  # fmt: skip
    images = [(f"images/{one['file']}", data) for one, data in zip(rows, files, strict=True)]
    return [(shards.MANIFEST, json.dumps(manifest, indent=0, sort_keys=True).encode()), *images]


def shard(folder: Path, pictures: list[np.ndarray], *, number: int = 0, **given: Any) -> Path:
    """Write a shard of pictures; `given` as for members()."""
    path = folder / shards.name_of(number)
    shards.write(path, members(pictures, **given))
    return path
