"""Read a folder of fundus photographs: labels, crop to the round field, resize."""

import errno
import hashlib
import os
import struct
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from . import labels
from .errors import ImagesError

LABELS = "labels.csv"
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
MAX_PIXELS = 100_000_000  # the largest fundus cameras give about 50 megapixels; more is a decompression bomb
OF_THE_FILE = {None, errno.EINVAL, errno.EOVERFLOW}  # errno of Pillow's own errors, and of an offset that is none
AT_ONCE = 64  # photographs in memory
FIELD_LEVEL = 24  # of 255: camera black stays below, the darkest retina above (red is never 0 in living tissue)


@dataclass(frozen=True)
class Photograph:
    """One file of a folder, with its row of labels.csv (empty when there is none)."""

    path: Path
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def dr_grade(self) -> int | None:
        """Return the diabetic retinopathy grade 0-4 (ICDR, Wilkinson et al. 2003), or None when not graded."""
        found = labels.GRADE.fullmatch(self.labels.get("dr_grade", ""))
        return int(found[1]) if found else None

    @property
    def class_name(self) -> str:
        """Return the class of the base generator that labels.csv names, or an empty text."""
        return self.labels.get("class_name", "")

    @property
    def patient(self) -> str:
        return self.labels.get("patient_group", "")


def read_folder(folder: Path | str, *, split: str | None = None) -> list[Photograph]:
    """
    List the photographs of a folder, in the order of their names.

    Args:
        folder: holds the images, or a subfolder `images` with them; `labels.csv` (columns file, dr_grade, ...)
            lies in it or beside it; see labels.read().
        split: when given, only the rows of labels.csv whose column `split` equals it.
    Raises:
        ImagesError: no folder, no image, a label without its image, labels.csv is malformed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImagesError(f"There is no folder {folder}.", code="folder_missing", fix="Give the path of your images.")
    image_dir = _image_dir(folder)
    labels_path = labels_file(folder)
    if labels_path is None:
        photographs = [Photograph(path) for path in _image_files(image_dir)]
    else:
        photographs = _labelled(image_dir, labels_path)
    if split is not None:
        photographs = [p for p in photographs if p.labels.get("split") == split]
    if not photographs:
        wanted = f" of the split {split!r}" if split else ""
        kinds, other = ", ".join(sorted(SUFFIXES)), passed_over(folder)
        seen = f" Not looked at: {', '.join(f'{count} {kind}' for kind, count in other.items())}." if other else ""
        raise ImagesError(
            f"{folder} holds no photograph{wanted}.{seen}", code="folder_empty", fix=f"Put {kinds} files there."
        )
    return photographs


def labels_file(folder: Path | str) -> Path | None:
    """Return the labels.csv of a folder: in it, or beside it where the folder is the one of the images."""
    return next((path for place in _labels_places(folder) if (path := place / LABELS).is_file()), None)


def misnamed_labels(folder: Path | str) -> Path | None:
    """Return the file that would be labels.csv but for its capitals, and is read by nothing."""
    places = (place for place in _labels_places(folder) if os.access(place, os.R_OK))
    near = (path for place in places for path in sorted(place.iterdir()))
    return next((path for path in near if path.name.lower() == LABELS != path.name), None)


def _labels_places(folder: Path | str) -> list[Path]:
    return [Path(folder), _image_dir(Path(folder)).parent]


def passed_over(folder: Path | str) -> dict[str, int]:
    """Count what read_folder() does not look at, by suffix; hidden files and tables are no photographs."""
    rest = [
        path
        for path in _image_dir(Path(folder)).iterdir()
        if not path.name.startswith(".") and not (path.is_file() and path.suffix.lower() in {*SUFFIXES, ".csv"})
    ]
    return dict(sorted(Counter(map(_kind_of, rest)).items()))


def _kind_of(path: Path) -> str:
    if path.is_dir():
        return "subfolder"
    is_lost = path.is_symlink() and not path.exists()  # to a share that is not there now, for instance
    return "broken link" if is_lost else path.suffix.lower() or "without suffix"


def sides(photographs: Iterable[Photograph]) -> tuple[list[Photograph], list[Photograph]]:
    """
    Return those to train on and those held out; where labels.csv has no column split, all are to train on.

    Raises:
        ImagesError: labels.csv has the column, and does not say it of each, or says train of none.
    """
    rows = list(photographs)
    if not any("split" in row.labels for row in rows):
        return rows, []
    unsaid = [row.path.name for row in rows if not row.labels.get("split")]
    if unsaid:
        raise ImagesError(
            f"{len(unsaid)} photographs have no split in labels.csv, the first is {unsaid[0]}.",
            code="not_prepared",
            fix="Prepare the folder again with `consortium prepare`, or say train or held_out of each.",
        )
    train = [row for row in rows if row.labels["split"].casefold() == "train"]
    if not train:
        raise ImagesError(
            f"labels.csv says train of no photograph in its column split; of the first it says "
            f"{rows[0].labels['split']!r}.",
            code="split_unknown",
            fix="Write train or held_out, or prepare the folder with `consortium prepare`.",
        )
    return train, [row for row in rows if row.labels["split"].casefold() != "train"]


def require_apart(train: Iterable[Photograph], held_out: Iterable[Photograph]) -> None:
    """
    Refuse a patient on both sides, whom the privacy report would refuse after the training.

    Raises:
        ImagesError: code patient_on_both_sides.
    """
    if both := {row.patient for row in train if row.patient} & {row.patient for row in held_out}:
        raise ImagesError(
            f"Of {len(both)} patients there are photographs on both sides of the split, training and held out.",
            code="patient_on_both_sides",
            fix="Put each on one side, or let `consortium prepare` split the folder.",
        )


def classes_of(photographs: Iterable[Photograph], names: Sequence[str]) -> np.ndarray:
    """
    Return the base generator's class of each photograph, (N,) int64.

    It is what the column class_name says, else dr_grade where the base has the grades, else the last of `names`, which
    stands for every class.

    Raises:
        ImagesError: code class_unknown.
    """
    numbers = {name.casefold(): number for number, name in enumerate(names)}
    return np.array([_class_of(row, names, numbers) for row in photographs], dtype=np.int64)


def _class_of(photograph: Photograph, names: Sequence[str], numbers: dict[str, int]) -> int:
    if not photograph.class_name and (photograph.dr_grade is None or labels.are_grades(names)):
        return len(names) - 1 if photograph.dr_grade is None else photograph.dr_grade
    found = numbers.get(photograph.class_name.casefold())
    if found is None:
        said = f"the class {photograph.class_name!r}" if photograph.class_name else "a grade of diabetic retinopathy"
        raise ImagesError(
            f"labels.csv gives {photograph.path.name} {said}, which the base generator does not have.",
            code="class_unknown",
            fix=f"Its classes are {', '.join(names)}. Say one in the column class_name, or empty both cells.",
        )
    return found


def _image_dir(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder


def _image_files(image_dir: Path) -> list[Path]:
    """Hidden files are none: a Mac leaves a ._NAME.jpg beside every NAME.jpg on a disk of another kind."""
    shown = (path for path in image_dir.iterdir() if not path.name.startswith("."))
    return sorted(path for path in shown if path.is_file() and path.suffix.lower() in SUFFIXES)


def _labelled(image_dir: Path, labels_path: Path) -> list[Photograph]:
    """Join labels.csv with the files; images without a row stay, unlabelled."""
    files = [(labels.one_form(path.name), path) for path in _image_files(image_dir)]
    rows = labels.read(labels_path)
    missing = sorted(set(rows) - {name for name, _ in files})
    if missing:
        raise ImagesError(
            f"{labels_path} names {len(missing)} images that are not there, the first is {missing[0]}.",
            code="labels_without_image",
            fix="Copy the images, or remove the lines.",
        )
    return [Photograph(path, rows.get(name, {})) for name, path in files]


def without_duplicates(
    photographs: Sequence[Photograph], on_progress: Callable[[int, int, str], None] | None = None
) -> list[Photograph]:
    """Keep the first of every group of byte-identical files (SHA-256)."""
    seen: set[str] = set()
    kept = []
    for done, photograph in enumerate(photographs, start=1):
        digest = hashlib.sha256(photograph.path.read_bytes()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            kept.append(photograph)
        if on_progress is not None:
            on_progress(done, len(photographs), "Looking for equal files")
    return kept


def open_image(path: Path | str) -> Image.Image:
    """
    Decode one photograph to RGB, as upright().

    Raises:
        ImagesError: not an image, damaged, more than MAX_PIXELS pixels, or of a range of values that nobody knows.
        OSError: the disk or the share did not give the file, which says nothing of the photograph.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
            warnings.simplefilter("ignore", UserWarning)  # of tags that do not matter here
            # Not by its name: Pillow would map a plain grey TIFF into memory, and garble one that is turned.
            with path.open("rb") as file, Image.open(file, formats=("JPEG", "PNG", "TIFF")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_large(f"{path.name} has {image.width} x {image.height} pixels.")
                return upright(image, path.name)
    except (ImagesError, MemoryError):
        raise
    except Exception as error:  # Pillow has no end of names for what is wrong in a file
        if isinstance(error, OSError) and error.errno not in OF_THE_FILE:
            error.filename = error.filename or str(path)  # a read that fails names no file
            raise
        raise ImagesError(
            f"{path.name} cannot be read as a photograph ({error}).",
            code="image_unreadable",
            fix="Remove it from the folder or export it again as JPEG or PNG.",
        ) from error


def upright(image: Image.Image, name: str) -> Image.Image:
    """
    Return an open image as RGB of 8 bits, turned as its EXIF says; 16 bits are divided by 257 and rounded, and what is
    transparent is black.

    Raises:
        ImagesError: code image_range_unknown; also of 16 bits that use 12, as cameras of 12 bits write them.
    """
    is_deep = any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )  # Pillow reads such colours as 8 bits, cutting the rest
    image.load()
    try:
        image = ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        pass  # nobody can read how that one was held, viewers show it as it is
    if image.mode != "F" and not image.mode.startswith("I"):
        colours = _on_black(image)
        if is_deep and np.asarray(colours).max() < 2**4:
            raise _too_dark(name)
        return colours
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65_535:
        raise ImagesError(
            f"{name} holds numbers whose black and white nobody knows (mode {image.mode}).",
            code="image_range_unknown",
            fix="Export it again with 8 or 16 bits for each colour.",
        )
    if values.max() < 2**12:
        raise _too_dark(name)
    # Pillow's own convert() cuts off what is above 255. 65,535 / 257 is 255.
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


def _on_black(image: Image.Image) -> Image.Image:
    """Return an image as RGB; what is transparent is black, as around the field, whatever colour hides there."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")


def _too_dark(name: str) -> ImagesError:
    return ImagesError(
        f"{name} has 16 bits and uses 12 of them at most: as it stands it is black.",
        code="image_range_unknown",
        fix="Its camera has fewer bits. Export it again so that white is 65,535, or with 8 bits.",
    )


def field_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """
    Find the bounding box of the illuminated field of a fundus photograph.

    Args:
        pixels: (H, W, 3) uint8.
    Returns:
        left, top, right, bottom (right and bottom exclusive); the whole image when nothing is lit.
    """
    lit = pixels.max(axis=2) > FIELD_LEVEL
    # A line belongs to the field when 5 % of it is lit: burned-in words and dust outside the field do not count.
    columns = np.flatnonzero(lit.mean(axis=0) > 0.05)
    rows = np.flatnonzero(lit.mean(axis=1) > 0.05)
    if len(columns) == 0 or len(rows) == 0:
        return 0, 0, pixels.shape[1], pixels.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _too_large(sentence: str) -> ImagesError:
    return ImagesError(sentence, code="image_too_large", fix=f"The limit is {MAX_PIXELS:,} pixels.")


def crop_to_field(image: Image.Image, name: str = "The photograph") -> Image.Image:
    """
    Crop to the field and pad with black to a square, so that the field's centre is the image's centre.

    Raises:
        ImagesError: the square would have more than MAX_PIXELS pixels.
    """
    box = field_box(np.asarray(image))
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    if side * side > MAX_PIXELS:
        raise _too_large(f"{name} shows a field of {width} x {height} pixels, too long to be padded to a square.")
    square = Image.new("RGB", (side, side))
    square.paste(image.crop(box), ((side - width) // 2, (side - height) // 2))
    return square


def load_square(path: Path | str, size: int) -> np.ndarray:
    """Return one photograph cropped to its field: (size, size, 3) uint8."""
    square = crop_to_field(open_image(path), Path(path).name)
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def read_squares(
    photographs: Sequence[Photograph], size: int, on_progress: Callable[[int, int, str], None] | None = None
) -> Iterator[np.ndarray]:
    """Yield each photograph cropped to its field, (size, size, 3) uint8, in order; few of them are in memory."""
    with ThreadPoolExecutor() as threads:  # Pillow decodes without the interpreter's lock
        for start in range(0, len(photographs), AT_ONCE):
            some = photographs[start : start + AT_ONCE]
            squares = threads.map(lambda row: load_square(row.path, size), some)
            for done, square in enumerate(squares, start=start + 1):
                yield square
                if on_progress is not None:
                    on_progress(done, len(photographs), "Reading photographs")


def load_squares(photographs: Sequence[Photograph], size: int) -> np.ndarray:
    """Return all photographs cropped to their fields: (N, size, size, 3) uint8."""
    squares = np.empty((len(photographs), size, size, 3), dtype=np.uint8)
    for index, square in enumerate(read_squares(photographs, size)):
        squares[index] = square
    return squares


def squares_on_disk(
    photographs: Sequence[Photograph],
    size: int,
    folder: Path,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> np.ndarray:
    """
    Return what load_squares() does, mapped from a file without a name in `folder`, which goes with the array.

    100,000 photographs of 512 pixels are 79 GB, more than a site's memory.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for square in read_squares(photographs, size, on_progress):
                file.write(square.tobytes())  # written, not mapped: a full disk is an error then, not the end of us
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=(len(photographs), size, size, 3))
    except OSError as error:
        error.filename = error.filename or str(folder)  # a write to a full disk names no file
        raise
