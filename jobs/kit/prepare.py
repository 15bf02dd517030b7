"""
Prepare a folder of photographs for `fit` and `privacy`: crop to the field, grade, find copies, split by patient.

Everything stays on this machine. The prepared folder holds cropped copies under new names; index.csv says which
photograph became which, and never leaves.
"""

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import copies, images, likeness, locks
from .errors import ImagesError

SIDE = 512  # pixels: a derivative that every encoder here can be fed from (BENCHMARKS.md section 4)
GRADED_AT = 256  # pixels at which the quality is measured
NEAR_BITS = 4  # of 64: hashes closer than this show the same picture
HELD_OUT = "held_out"
SIDES = {"train": "train", HELD_OUT: HELD_OUT, "val": HELD_OUT, "test": HELD_OUT}  # of a split that labels.csv has
COLUMNS = ["file", "split", "quality", "patient_group", "class_name", "dr_grade", "camera", "sha256"]
KEPT = {"patient_group", "class_name", "dr_grade", "camera"}  # of the labels that came with the folder
OWNER_ALONE = 0o700  # mode of a folder that we make: the originals may lie where nobody else can read them
WRITTEN = ("images", "index.csv", "labels.csv")  # in this order, so that labels.csv says that all is there

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Prepared:
    """One photograph after reading: its file's hash, `square` (SIDE, SIDE, 3), 64 `bits` of its perceptual hash."""

    source: images.Photograph
    sha256: str
    square: NDArray[np.uint8]
    bits: np.uint64
    quality: str


def prepare(
    folder: Path | str,
    out_dir: Path | str,
    *,
    held_out: float = 0.2,
    seed: int = 0,
    without_patients: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """
    Write OUT/images, OUT/labels.csv (for fit and privacy) and OUT/index.csv; return the counts as JSON values.

    Until all is there it stands in OUT.partial (OUT/.partial where OUT exists: it may be a volume of its own), which
    goes when this is interrupted.

    Args:
        folder: see images.read_folder(); the column patient_group of labels.csv holds the site's pseudonyms.
        held_out: share of the photographs, above 0 and below 1, whose patients are kept out of training; not used where
            labels.csv has a split of its own, which is kept.
        seed: of that choice: the same patients for the same seed, also when photographs are added later.
        without_patients: labels.csv may lack the column patient_group, or be missing.
    Raises:
        KitError: code folder_in_use, where another run prepares OUT.
        ImagesError: OUT is not apart from the photographs or holds some already, no photograph is left, all are of one
            patient, labels.csv does not tell patients apart, or its split is not of each photograph and by patient.
    """
    folder, out_dir = Path(folder), Path(out_dir)
    _require_apart(folder, out_dir)
    photographs = images.read_folder(folder)
    _require_patients(folder, photographs, without_patients)
    photographs.sort(key=lambda row: not row.patient)  # of copies, the one that says whose it is stays
    given = given_split(photographs)
    whole = out_dir.resolve()
    partial = whole / ".partial" if whole.exists() else whole.with_name(f"{whole.name}.partial")
    _require_own(partial)
    if not given and all(row.patient for row in photographs):  # before an hour of reading, not after it
        split_by_patient([row.patient for row in photographs], held_out=held_out, seed=seed)
    try:
        with _alone(partial):
            counts = _write_all(photographs, partial, given, held_out=held_out, seed=seed, on_progress=on_progress)
            _put(partial, whole)
    except OSError as error:
        error.filename = error.filename or str(out_dir)  # a write to a full disk names no file
        raise
    return {**counts, "passed_over": images.passed_over(folder)}


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Lend an empty folder that no other run writes to and no other user reads; nothing of it stays."""
    partial.mkdir(mode=OWNER_ALONE, parents=True, exist_ok=True)
    with locks.only_one(partial):
        try:
            for name in WRITTEN[1:]:  # of a run that was killed
                (partial / name).unlink(missing_ok=True)
            shutil.rmtree(partial / "images", ignore_errors=True)
            (partial / "images").mkdir()
            yield
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _require_apart(folder: Path, out_dir: Path) -> None:
    """Refuse to write among the photographs, or among what was prepared before."""
    source, target = folder.resolve(), out_dir.resolve()
    if source in (target, *target.parents) or target in source.parents:
        raise ImagesError(
            f"{out_dir} and the photographs in {folder} are not apart.",
            code="out_not_apart",
            fix="Choose an --out beside that folder: photographs are never written over.",
        )
    if (out_dir / "labels.csv").exists():
        raise ImagesError(f"{out_dir} is prepared already.", code="out_not_empty", fix="Choose another --out.")
    if (out_dir / "images").exists() and any((out_dir / "images").iterdir()):
        raise ImagesError(f"{out_dir}/images holds files already.", code="out_not_empty", fix="Choose another --out.")


def _require_patients(folder: Path, photographs: list[images.Photograph], without_patients: bool) -> None:
    if without_patients or any(row.patient for row in photographs):
        return
    path = images.labels_file(folder)
    fix = "Add the column, with a pseudonym for each patient, or --no-patients where nobody knows."
    if path is None and (other := images.misnamed_labels(folder)):
        what, fix = f"{other} is not read", "Rename it to labels.csv, all in small letters."
    elif path is None:
        what, fix = (
            f"{folder} has no labels.csv",
            "Write one with the columns file and patient_group, or --no-patients.",
        )
    elif not any(row.labels for row in photographs):
        what = "labels.csv names no photograph"
    elif any("patient_group" in row.labels for row in photographs):
        what, fix = (
            "The column patient_group of labels.csv is empty",
            "Fill it in, with a pseudonym for each patient, or --no-patients where nobody knows.",
        )
    else:
        what = "labels.csv has no column patient_group"
    sentence = f"{what}, so photographs of one patient could be on both sides."
    raise ImagesError(sentence, code="no_patients", fix=fix)


def given_split(photographs: list[images.Photograph]) -> dict[Path, str]:
    """
    Return the side of each photograph as labels.csv has it; empty where it says of none.

    Raises:
        ImagesError: code split_incomplete, split_unknown, one_side or patient_on_both_sides.
    """
    said = {row.path: row.labels.get("split", "").casefold() for row in photographs}
    if not any(said.values()):
        return {}
    fix = "Say train or held_out of each (val and test are held out), or remove the column to have patients chosen."
    if unsaid := [path.name for path, value in said.items() if not value]:
        sentence = f"{len(unsaid)} photographs have no split in labels.csv, the first is {unsaid[0]}."
        raise ImagesError(sentence, code="split_incomplete", fix=fix)
    if odd := [path for path, value in said.items() if value not in SIDES]:
        sentence = f"labels.csv gives {odd[0].name} the split {said[odd[0]]!r}."
        raise ImagesError(sentence, code="split_unknown", fix=fix)
    found = {path: SIDES[value] for path, value in said.items()}
    if len(set(found.values())) == 1:
        sentence = f"labels.csv gives every photograph the split {found[photographs[0].path]}."
        raise ImagesError(sentence, code="one_side", fix=fix)
    on = {side: {row.patient for row in photographs if row.patient and found[row.path] == side} for side in SIDES}
    if both := len(on["train"] & on[HELD_OUT]):
        have = "1 patient has" if both == 1 else f"{both} patients have"
        sentence = f"{have} photographs on both sides of the split in labels.csv, training and held out."
        raise ImagesError(sentence, code="patient_on_both_sides", fix="Put each on one side, or remove the column.")
    return found


def _require_own(partial: Path) -> None:
    """Refuse a folder in the place of ours that a run of ours did not leave."""
    if partial.exists() and {path.name for path in partial.iterdir()} - {*WRITTEN, locks.NAME}:
        raise ImagesError(f"{partial} is in the way.", code="out_not_empty", fix="Move it, or choose another --out.")


def _put(partial: Path, out_dir: Path) -> None:
    """Give what is whole its names, on the same disk; what stops this half-way leaves nothing of it."""
    out_dir.mkdir(mode=OWNER_ALONE, exist_ok=True)
    try:
        for name in WRITTEN:
            (partial / name).replace(out_dir / name)  # an empty folder images gives way
    except BaseException:
        for name in reversed(WRITTEN):
            if not (partial / name).exists():
                (out_dir / name).replace(partial / name)
        raise


def _write_all(
    photographs: list[images.Photograph],
    out_dir: Path,
    given: dict[Path, str],
    *,
    held_out: float,
    seed: int,
    on_progress: Progress | None,
) -> dict[str, Any]:
    """Write the prepared folder, each photograph as it is read; return the counts."""
    bits = np.zeros(len(photographs), dtype=np.uint64)  # of those kept, in the first rows
    digests: set[str] = set()
    rows: list[dict[str, str]] = []
    left_out: list[dict[str, str]] = []
    kept: list[images.Photograph] = []
    patients: list[str] = []
    for done, (photograph, found) in enumerate(_read_all(photographs), start=1):
        original = str(photograph.path)
        if isinstance(found, ImagesError):
            left_out.append({"file": found.code, "original": original})
        elif found.sha256 in digests or (np.bitwise_count(bits[: len(rows)] ^ found.bits) < NEAR_BITS).any():
            left_out.append({"file": "copy", "original": original})
        else:
            bits[len(rows)] = found.bits
            digests.add(found.sha256)
            kept.append(photograph)
            patients.append(photograph.patient or found.sha256)
            rows.append(_write(found, len(rows), out_dir) | {"original": original})
        if on_progress is not None:
            on_progress(done, len(photographs), "Reading photographs")
    if not rows:
        why = f"The first, {photographs[0].path.name}: {left_out[0]['file'].replace('_', ' ')}."
        raise ImagesError("No photograph in the folder can be read.", code="folder_empty", fix=why)
    if given:
        splits = [given[photograph.path] for photograph in kept]
        if on_progress is not None:
            on_progress(len(kept), len(kept), "Keeping the split of labels.csv; --held-out and --seed are not used")
    else:
        splits = split_by_patient(patients, held_out=held_out, seed=seed)
    _table(out_dir / "index.csv", ["file", "original"], [*rows, *left_out])
    _table(out_dir / "labels.csv", COLUMNS, [{**row, "split": s} for row, s in zip(rows, splits, strict=True)])
    removed = sum(row["file"] == "copy" for row in left_out)
    return {
        "photographs": len(rows),
        "patients": len({row["patient_group"] for row in rows if row["patient_group"]}) or None,
        "graded": sum(bool(row.get("class_name") or row.get("dr_grade")) for row in rows),
        "split": dict(Counter(splits)),
        "split_from": "labels.csv" if given else "--held-out",
        "quality": dict(Counter(row["quality"] for row in rows)),
        "copies_removed": removed,
        "unreadable": len(left_out) - removed,
        "without_pseudonym": sum(not row["patient_group"] for row in rows),
    }


def _read_all(photographs: list[images.Photograph]) -> Iterator[tuple[images.Photograph, Prepared | ImagesError]]:
    """Yield each photograph with what reading it gave, in order, few of them in memory."""
    with ThreadPoolExecutor() as threads:  # Pillow decodes without the interpreter's lock
        for start in range(0, len(photographs), images.AT_ONCE):
            some = photographs[start : start + images.AT_ONCE]
            yield from zip(some, threads.map(_read, some), strict=True)


def _read(photograph: images.Photograph) -> Prepared | ImagesError:
    try:
        square = images.load_square(photograph.path, SIDE)
    except ImagesError as error:
        return error
    digest = hashlib.sha256(photograph.path.read_bytes()).hexdigest()
    bits = np.packbits(copies.perceptual_hash(square[None])).view(np.uint64)[0]
    return Prepared(photograph, digest, square, bits, quality(square))


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


def split_by_patient(patients: list[str], *, held_out: float, seed: int) -> list[str]:
    """
    Return "train" or "held_out" for each photograph, all of a patient's alike.

    Patients are ordered by the hash of their pseudonym, and held out until the share of photographs is reached. One who
    has more photographs than all that are asked for comes last, the largest behind the others.

    Raises:
        ImagesError: there is only one patient.
    """
    counts = Counter(patients)
    wanted = held_out * len(patients)
    order = sorted(
        counts,
        key=lambda name: (max(counts[name], wanted), hashlib.sha256(f"{seed}\0{name}".encode()).digest()),
    )
    if len(order) < 2:
        raise ImagesError(
            "All photographs are of one patient, so none can be held out.",
            code="one_patient",
            fix="Fill in the column patient_group of labels.csv.",
        )
    out, reached = set(), 0
    for name in order[:-1]:
        if reached >= wanted:
            break
        out.add(name)
        reached += counts[name]
    return [HELD_OUT if name in out else "train" for name in patients]


def _write(row: Prepared, number: int, out_dir: Path) -> dict[str, str]:
    path = out_dir / "images" / f"{number:06d}.png"
    Image.fromarray(row.square).save(path, compress_level=1)  # no metadata of the original comes along
    labels = {name: value for name, value in row.source.labels.items() if name in KEPT}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "quality": row.quality, "sha256": digest, "patient_group": "", **labels}


def _table(path: Path, columns: list[str], rows: Iterable[dict[str, str]]) -> None:
    # A name that is no text (Latin-1 on a disk of UTF-8) goes back to the bytes that it came from.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as lines:
        writer = csv.DictWriter(lines, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
