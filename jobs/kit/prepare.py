"""
Prepare a folder of photographs for `fit` and `privacy`: crop to the field, grade, find copies, split by patient.

Everything stays on this machine. The prepared folder holds cropped copies under new names; index.csv says which
photograph became which, and never leaves.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import copies, images, likeness
from .errors import ImagesError

SIDE = 512  # pixels: a derivative that every encoder here can be fed from (BENCHMARKS.md section 4)
GRADED_AT = 256  # pixels at which the quality is measured
NEAR_BITS = 4  # of 64: hashes closer than this show the same picture
HELD_OUT = "held_out"
COLUMNS = ["file", "split", "quality", "patient_group", "dr_grade", "camera", "sha256"]
KEPT = {"patient_group", "dr_grade", "camera"}  # of the labels that came with the folder

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Prepared:
    """One photograph after reading: `square` (SIDE, SIDE, 3), its file's hash, its quality; `error` where it failed."""

    source: images.Photograph
    sha256: str = ""
    square: NDArray[np.uint8] | None = None
    quality: str = ""
    error: str = ""


def prepare(
    folder: Path | str,
    out_dir: Path | str,
    *,
    held_out: float = 0.2,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """
    Write OUT/images, OUT/labels.csv (for fit and privacy) and OUT/index.csv; return the counts as JSON values.

    Args:
        folder: see images.read_folder(); the column patient_group of labels.csv holds the site's pseudonyms.
        held_out: share of the photographs, above 0 and below 1, whose patients are kept out of training.
        seed: of that choice: the same patients for the same seed, also when photographs are added later.
    Raises:
        ImagesError: no photograph is left, or all are of one patient.
    """
    out_dir = Path(out_dir)
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    read = _read_all(images.read_folder(folder), on_progress)
    usable = [row for row in read if row.square is not None]
    kept, removed = _without_copies(usable)
    splits = split_by_patient([row.source.patient or row.sha256 for row in kept], held_out=held_out, seed=seed)
    rows = [_write(row, number, split, out_dir) for number, (row, split) in enumerate(zip(kept, splits, strict=True))]
    _table(out_dir / "labels.csv", COLUMNS, rows)
    index = [{"file": row["file"], "original": str(p.source.path)} for row, p in zip(rows, kept, strict=True)]
    left_out = [*((row, row.error) for row in read if row.error), *((row, "copy") for row in removed)]
    index += [{"file": why, "original": str(row.source.path)} for row, why in left_out]
    _table(out_dir / "index.csv", ["file", "original"], index)
    return {
        "photographs": len(rows),
        "patients": len({row["patient_group"] for row in rows if row["patient_group"]}) or None,
        "split": dict(Counter(splits)),
        "quality": dict(Counter(row["quality"] for row in rows)),
        "copies_removed": len(removed),
        "unreadable": sum(bool(row.error) for row in read),
        "without_pseudonym": sum(not row["patient_group"] for row in rows),
    }


def _read_all(photographs: list[images.Photograph], on_progress: Progress | None) -> list[Prepared]:
    found = []
    with ThreadPoolExecutor() as threads:  # Pillow decodes without the interpreter's lock
        for row in threads.map(_read, photographs):
            found.append(row)
            if on_progress is not None:
                on_progress(len(found), len(photographs), "Reading photographs")
    return found


def _read(photograph: images.Photograph) -> Prepared:
    try:
        square = images.load_square(photograph.path, SIDE)
    except ImagesError as error:
        return Prepared(photograph, error=error.code)
    digest = hashlib.sha256(photograph.path.read_bytes()).hexdigest()
    return Prepared(photograph, digest, square, quality(square))


def quality(square: NDArray[np.uint8]) -> str:
    """
    Grade a cropped photograph (S, S, 3): good, usable, poor, or other where it hardly looks like a fundus photograph.

    The three grades are those of EyeQ (Fu et al. 2019, arXiv:1907.05345), told apart by sharpness and exposure alone:
    the grade is recorded and counted, and leaves nothing out. The limits are quantiles of the 618 photographs of the
    shared sample; against the 215 quality scores that it has, sharpness correlates with 0.56.
    """
    small = np.asarray(Image.fromarray(square).resize((GRADED_AT, GRADED_AT), Image.Resampling.BOX)) / 255.0
    seen = likeness.measure(small)
    if seen.contrast < 0.04 or seen.brightness < 0.12 or seen.corner_ratio > 0.6 or seen.warmth < 0.1:
        return "other"
    sharp = sharpness(small.mean(axis=2))
    if sharp < 0.0021 or not 0.2 <= seen.brightness <= 0.97:
        return "poor"
    return "good" if sharp >= 0.0035 and seen.brightness >= 0.3 else "usable"


def sharpness(grey: NDArray[np.float64]) -> float:
    """Return the mean size of the second difference inside the field, 0-1: grey (S, S) in 0..1."""
    axis = (np.arange(len(grey)) + 0.5) / len(grey) * 2 - 1
    inside = np.hypot(axis[:, None], axis[None, :])[1:-1, 1:-1] < 0.8
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.abs(around / 4 - grey[1:-1, 1:-1])[inside].mean())


def _without_copies(rows: list[Prepared]) -> tuple[list[Prepared], list[Prepared]]:
    """Keep the first of each group that shows the same picture: equal files, or hashes closer than NEAR_BITS."""
    if not rows:
        raise ImagesError("No photograph in the folder can be read.", code="folder_empty", fix="See index.csv for why.")
    bits = copies.perceptual_hash(np.stack([row.square for row in rows if row.square is not None]))
    kept: list[int] = []
    digests: set[str] = set()
    for number, row in enumerate(rows):
        near = len(kept) and ((bits[kept] != bits[number]).sum(axis=1) < NEAR_BITS).any()
        if row.sha256 not in digests and not near:
            kept.append(number)
            digests.add(row.sha256)
    chosen = set(kept)
    return [rows[n] for n in kept], [row for n, row in enumerate(rows) if n not in chosen]


def split_by_patient(patients: list[str], *, held_out: float, seed: int) -> list[str]:
    """
    Return "train" or "held_out" for each photograph, all of a patient's alike.

    Patients are ordered by the hash of their pseudonym, and held out until the share of photographs is reached.

    Raises:
        ImagesError: there is only one patient.
    """
    counts = Counter(patients)
    order = sorted(counts, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    if len(order) < 2:
        raise ImagesError(
            "All photographs are of one patient, so none can be held out.",
            code="one_patient",
            fix="Fill in the column patient_group of labels.csv.",
        )
    out, reached = set(), 0
    for name in order[:-1]:
        if reached >= held_out * len(patients):
            break
        out.add(name)
        reached += counts[name]
    return [HELD_OUT if name in out else "train" for name in patients]


def _write(row: Prepared, number: int, split: str, out_dir: Path) -> dict[str, str]:
    path = out_dir / "images" / f"{number:06d}.png"
    assert row.square is not None
    Image.fromarray(row.square).save(path, compress_level=1)  # no metadata of the original comes along
    labels = {name: value for name, value in row.source.labels.items() if name in KEPT}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "split": split, "quality": row.quality, "sha256": digest, "patient_group": "", **labels}


def _table(path: Path, columns: list[str], rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
