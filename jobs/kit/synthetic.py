"""Synthetic images on their way: drawn into a folder that people can look through, packed into shards, read back."""

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__, generator, locks, pngs, scan, shards
from .container import METADATA
from .errors import KitError
from .generator import Base

FORMAT = "urn:consortium:synthetic-images:1"
LISTING = "manifest.csv"
BATCH = 64
COLUMNS = ["file", "sha256", "seed", "class", "class_name", "synthetic", "base", "generator_sha256", "date", "steps",
           "kit_version"]  # fmt: skip
ONE_OF_ALL = ("generator_sha256", "date", "steps", "kit_version")  # columns that every row has alike
MOST_SHARDS = 200  # as a portal takes of one contribution
MOST_IMAGES = MOST_SHARDS * shards.IMAGES_A_SHARD
SEEDS = 2**32  # the generator of random numbers takes no more of a seed: a larger one draws a smaller one's image
SHA256 = r"[0-9a-f]{64}"

Progress = Callable[[int, int, str], None]


class SyntheticError(KitError):
    """A folder or a shard of synthetic images that cannot be used."""

    default_code = "synthetic_unusable"


@dataclass(frozen=True)
class Row:
    """One image: its name in the shard, the SHA-256 of its file, the seed and the class that it was drawn with."""

    file: str
    sha256: str
    seed: int
    label: int


@dataclass(frozen=True)
class Manifest:
    """What a shard says of its images; all but `rows` is alike in every shard of a contribution."""

    generator_sha256: str
    base: dict[str, str]
    date: str
    steps: int
    kit_version: str
    drawn: int  # before the site took images out
    rows: tuple[Row, ...]

    def alike(self) -> tuple[Any, ...]:
        return self.generator_sha256, self.base, self.date, self.steps, self.kit_version, self.drawn


# Drawing


def draw(
    model: Any,
    base: Base,
    weights: Path,
    out_dir: Path,
    *,
    count: int,
    seed: int,
    date: str,
    on_progress: Progress | None = None,
) -> int:
    """
    Draw images into a folder, classes in turn, image i with seed + i; go on where a stopped run ended.

    Args:
        date: of today, YYYY-MM-DD; a run that goes on keeps the date that it began with.
    Returns:
        How many were drawn now.
    Raises:
        SyntheticError: the folder holds images of another generator or seed, or a seed is too large.
    """
    if seed + count > SEEDS:
        sentence = f"The last image would have the seed {seed + count - 1:,}; seeds end at {SEEDS - 1:,}."
        raise SyntheticError(sentence, code="seed_too_large", fix="Choose a smaller --seed.")
    out_dir.mkdir(parents=True, exist_ok=True)
    with locks.only_one(out_dir):
        listing = out_dir / LISTING
        digest = scan.sha256_of(weights)
        rows = _whole_rows(listing) if listing.exists() else []
        if rows:
            _require_the_same(rows[0], out_dir, base, seed=seed, digest=digest)
        date = rows[0]["date"] if rows else date
        with listing.open("a", encoding="utf-8", newline="") as lines:
            if not listing.stat().st_size:
                lines.write(_written([], header=True))
            for start in range(len(rows), count, BATCH):
                numbers = range(start, min(start + BATCH, count))
                drawn = list(_batch(model, base, out_dir, numbers, seed=seed, digest=digest, date=date))
                lines.write(_written(drawn))
                lines.flush()
                if on_progress is not None:
                    on_progress(numbers[-1] + 1, count, "Drawing images")
        return max(0, count - len(rows))


def _whole_rows(listing: Path) -> list[dict[str, str]]:
    """Take a last row without its newline out of the file: a full disk cut it off. Return the others."""
    content = listing.read_bytes()
    if (end := content.rfind(b"\n") + 1) < len(content):
        os.truncate(listing, end)
    return _listed(listing)


def _written(rows: list[dict[str, Any]], *, header: bool = False) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _require_the_same(first: dict[str, str], out_dir: Path, base: Base, *, seed: int, digest: str) -> None:
    """Refuse to go on where a row would not be like those that are there; the date is that of the first."""
    if (first["generator_sha256"], int(first["seed"])) != (digest, seed):
        raise SyntheticError(
            f"{out_dir} holds images of another generator or seed.", code="out_not_empty", fix="Choose another --out."
        )
    now = {"base": base.slug, "steps": str(int(base.config["sampling_steps"])), "kit_version": __version__}
    for name, value in now.items():
        if first[name] != value:
            raise SyntheticError(
                f"{out_dir} was begun with {name} {first[name]}, and this is {value}: the images would not be alike.",
                code="out_differs",
                fix="Go on with the version of the kit and the base that it was begun with, or choose another --out.",
            )


def _batch(
    model: Any, base: Base, out_dir: Path, numbers: range, *, seed: int, digest: str, date: str
) -> Iterator[dict[str, Any]]:
    """Draw and save images; yield the row of each."""
    names, steps = base.config["classes"], int(base.config["sampling_steps"])
    labels = [number % len(names) for number in numbers]
    for number, label, pixels in zip(numbers, labels, redrawn(model, base, labels, seed + numbers[0]), strict=True):
        row = {
            "file": f"{number:06d}.png", "seed": seed + number, "class": label, "class_name": names[label],
            "synthetic": "true", "base": base.slug, "generator_sha256": digest, "date": date, "steps": steps,
            "kit_version": __version__,
        }  # fmt: skip
        data = pngs.encode(pixels, tags_of(row))
        (out_dir / row["file"]).write_bytes(data)
        yield {**row, "sha256": hashlib.sha256(data).hexdigest()}


def redrawn(model: Any, base: Base, labels: list[int], first_seed: int) -> NDArray[np.uint8]:
    """Draw images of consecutive seeds, (N, S, S, 3), as every site and the centre draw them."""
    settings, steps = base.config["scheduler"], int(base.config["sampling_steps"])
    return generator.to_uint8(generator.sample(model, settings, labels, seed=first_seed, steps=steps))


def tags_of(row: dict[str, Any]) -> dict[str, str]:
    """Return what an image says of itself, from its row of the listing."""
    names = ("synthetic", "generator_sha256", "base", "class", "seed", "date")
    return {name: str(row[name]) for name in names} | {"Software": f"consortium-kit {row['kit_version']}"}


# Packing


def pack(folder: Path, base: Base) -> list[Path]:
    """
    Write FOLDER/shards from the images that manifest.csv lists; the same folder gives the same bytes.

    A site may take images out: delete the files, and they are left out here. What stays must be unchanged.

    Raises:
        SyntheticError: there is no listing, no image is left, or one differs from its row.
    """
    with locks.only_one(folder):
        return _pack(folder, base)


def _pack(folder: Path, base: Base) -> list[Path]:
    rows = _listed(folder / LISTING)
    kept = [row for row in rows if (folder / row["file"]).is_file()]
    if not kept:
        raise SyntheticError(f"No image that {LISTING} lists is in {folder}.", code="no_images", fix=_DRAW)
    if len(kept) > MOST_IMAGES:
        sentence = f"{folder} holds {len(kept):,} images; at most {MOST_IMAGES:,} are one contribution."
        raise SyntheticError(sentence, code="too_many_images", fix="Draw several folders, each with another --seed.")
    out_dir = folder / "shards"
    out_dir.mkdir(exist_ok=True)
    starts = range(0, len(kept), shards.IMAGES_A_SHARD)
    paths = [out_dir / shards.name_of(number) for number in range(len(starts))]
    for old in set(out_dir.glob("synthetic-*.tar")) - set(paths):
        old.unlink()  # the others give way to the new ones, whole: somebody may be sending them
    for path, start in zip(paths, starts, strict=True):
        shards.write(path, _members(folder, base, kept[start : start + shards.IMAGES_A_SHARD], drawn=len(rows)))
    return paths


_DRAW = "Draw images with `consortium sample --weights weights.safetensors --n 1000 --out FOLDER`."


def _listed(listing: Path) -> list[dict[str, str]]:
    """Return the rows of manifest.csv."""
    if not listing.is_file():
        raise SyntheticError(f"{listing.parent} holds no synthetic images of the kit.", code="no_listing", fix=_DRAW)
    with listing.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows:
        return []
    if set(COLUMNS) - set(rows[0]) or any(row[name] != rows[0][name] for row in rows for name in ONE_OF_ALL):
        raise SyntheticError(f"{listing} is not as `consortium sample` wrote it.", code="listing_invalid", fix=_DRAW)
    return rows


def _members(folder: Path, base: Base, rows: list[dict[str, str]], *, drawn: int) -> Iterator[tuple[str, bytes]]:
    first = rows[0]
    manifest = Manifest(
        first["generator_sha256"],
        {"slug": base.slug, "sha256": base.sha256},
        first["date"],
        int(first["steps"]),
        first["kit_version"],
        drawn,
        tuple(Row(row["file"], row["sha256"], int(row["seed"]), int(row["class"])) for row in rows),
    )
    yield shards.MANIFEST, written(manifest)
    for row in rows:
        data = (folder / row["file"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise SyntheticError(
                f"{row['file']} in {folder} was changed after it was drawn.",
                code="image_changed",
                fix="Send images as they were drawn: delete it, or draw it again.",
            )
        yield f"images/{row['file']}", data


def written(manifest: Manifest) -> bytes:
    """Return the one text that a manifest has."""
    facts = {
        "format": FORMAT,
        "synthetic": True,
        "generator_sha256": manifest.generator_sha256,
        "base": manifest.base,
        "date": manifest.date,
        "steps": manifest.steps,
        "kit_version": manifest.kit_version,
        "drawn": manifest.drawn,
        "images": [
            {"file": row.file, "sha256": row.sha256, "seed": row.seed, "class": row.label} for row in manifest.rows
        ],
    }
    return json.dumps(facts, indent=0, sort_keys=True).encode()


def hashed(paths: list[Path]) -> list[tuple[str, str]]:
    """Return (name, SHA-256) of each shard."""
    return [(path.name, scan.sha256_of(path)) for path in paths]


# Reading


def manifest_of(data: bytes, shard: str) -> Manifest:
    """
    Read the manifest of a shard.

    Raises:
        SyntheticError: it is not as pack() writes it.
    """
    try:
        found = json.loads(data)
        rows = tuple(
            Row(str(row["file"]), _text(row["sha256"], SHA256), _whole(row["seed"], SEEDS), _whole(row["class"]))
            for row in found["images"]
        )
        manifest = Manifest(
            _text(found["generator_sha256"], SHA256),
            {"slug": _text(found["base"]["slug"], METADATA["base_model"]), "sha256": str(found["base"]["sha256"])},
            _text(found["date"], r"\d{4}-\d{2}-\d{2}"),
            _whole(found["steps"]),
            _text(found["kit_version"], METADATA["kit_version"]),
            _whole(found["drawn"]),
            rows,
        )
        datetime.strptime(manifest.date, "%Y-%m-%d").replace(tzinfo=UTC)
        # Another text of the same facts could carry more than they say: in keys that nobody reads, or in its spaces.
        if written(manifest) != data or not 1 <= len(rows) <= shards.IMAGES_A_SHARD:
            raise ValueError("written otherwise, or too many images")
        return manifest
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SyntheticError(
            f"The manifest of {shard} is not as the kit writes it ({type(error).__name__}).",
            code="manifest_invalid",
            fix=shards.AGAIN,
        ) from None


def _whole(value: object, end: int = 2**31) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < end:
        raise ValueError("no whole number")
    return value


def _text(value: object, pattern: str) -> str:
    """Return a text of a form that leaves no room for names."""
    if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError("a text of another form")
    return value


def images_of(paths: list[Path], side: int) -> Iterator[tuple[Manifest, Row, NDArray[np.uint8], dict[str, str]]]:
    """
    Yield each image of each shard with its manifest, row, pixels (side, side, 3) and tags, in order.

    Raises:
        ShardError, PngError, SyntheticError: the first thing that is not as the kit writes it.
    """
    for path in paths:
        members = shards.read(path)
        manifest = manifest_of(next(members)[1], path.name)
        for row in manifest.rows:
            name, data = next(members, ("nothing", b""))
            _require_listed(path, name, data, row)
            try:
                pixels, tags = pngs.decode(data, side)
            except pngs.PngError as error:
                raise SyntheticError(
                    f"{row.file} in {path.name}: {error.sentence}.", code=error.code, fix=shards.AGAIN
                ) from None
            yield manifest, row, pixels, tags
        if (more := next(members, None)) is not None:
            raise SyntheticError(
                f"{path.name} holds {more[0]}, which its manifest does not list.",
                code="not_as_listed",
                fix=shards.AGAIN,
            )


def _require_listed(path: Path, name: str, data: bytes, row: Row) -> None:
    if name != f"images/{row.file}" or hashlib.sha256(data).hexdigest() != row.sha256:
        raise SyntheticError(
            f"{path.name} holds {name}, which is not what its manifest lists there.",
            code="not_as_listed",
            fix=shards.AGAIN,
        )


def some(paths: list[Path], base: Base, count: int) -> NDArray[np.uint8]:
    """Return `count` images (or all, where there are fewer) spread evenly over the shards: (count, S, S, 3)."""
    total = sum(len(manifest_of(next(shards.read(path))[1], path.name).rows) for path in paths)
    wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
    every = images_of(paths, base.image_size)
    return np.stack([pixels for number, (_, _, pixels, _) in enumerate(every) if number in wanted])
