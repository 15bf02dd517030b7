"""Image sets with labels: a folder, or one plain tar of it, read the same way."""

import csv
import hashlib
import io
import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import ImagesError, KitError
from .images import MAX_PIXELS, upright

LABELS_NAME = "labels.csv"
REQUIRED_COLUMNS = ("file", "patient_group")
CROP = "centre square of the shorter side"
RESIZE = "bicubic, antialiased (Pillow)"
MAX_LABELS_BYTES = 256 * 2**20
MAX_IMAGE_BYTES = 128 * 2**20

Pixels = NDArray[np.uint8]


class DatasetError(KitError):
    """An image set that is incomplete, damaged or not laid out as `images/` and `labels.csv`."""

    default_code = "dataset_invalid"


@dataclass(frozen=True)
class Record:
    """
    One photograph and its row of labels.csv.

    columns: the whole row. An empty value means "not stated" or "not graded for this", never "negative".
    sha256: hex, of the bytes of the image file.
    """

    file: str
    patient_group: str
    sha256: str
    columns: Mapping[str, str]

    def column(self, name: str) -> str:
        """Return the value of a column, empty where the set has no such column."""
        return self.columns.get(name, "")

    @property
    def country(self) -> str:
        return self.column("country")

    @property
    def source(self) -> str:
        return self.column("source")

    @property
    def camera(self) -> str:
        return self.column("camera")

    @property
    def split(self) -> str:
        return self.column("split")


@dataclass(frozen=True)
class ImageSet:
    """
    A labelled image set on disk, its records in the order of labels.csv.

    labels_sha256: hex, of the bytes of labels.csv.
    """

    path: Path
    records: tuple[Record, ...]
    labels_sha256: str

    def where(self, column: str, *values: str) -> "ImageSet":
        """Return the set restricted to the records whose column has one of the values."""
        kept = tuple(record for record in self.records if record.column(column) in values)
        return ImageSet(self.path, kept, self.labels_sha256)


def read_image_set(path: Path | str) -> ImageSet:
    """
    Read the records of an image set and hash every image; no image is decoded.

    Args:
        path: a folder holding labels.csv and images/, or an uncompressed tar of the same two.
    Raises:
        DatasetError: labels.csv is missing or malformed, an image is missing, is named twice, or differs from the
            SHA-256 its row declares.
    """
    path = Path(path)
    labels = _read_labels(path)
    rows = _rows(labels)
    digests = {
        name: hashlib.sha256(data).hexdigest() for name, data in _image_files(path, {row["file"] for row in rows})
    }
    records = tuple(_record(row, digests) for row in rows)
    return ImageSet(path, records, hashlib.sha256(labels).hexdigest())


def load_pixels(image_set: ImageSet, size: int, on_progress: Callable[[int, int, str], None] | None = None) -> Pixels:
    """
    Decode the images, cropped to the centre square of the shorter side and resized.

    Returns:
        (N, size, size, 3), in the order of the records.
    Raises:
        DatasetError: an image is missing, damaged, changed since the records were read, or larger than MAX_PIXELS.
    """
    row_of = {record.file: index for index, record in enumerate(image_set.records)}
    pixels = np.empty((len(row_of), size, size, 3), dtype=np.uint8)
    filled = 0
    for name, data in _image_files(image_set.path, set(row_of)):
        if hashlib.sha256(data).hexdigest() != image_set.records[row_of[name]].sha256:
            raise DatasetError(f"The image {name} changed while it was in use.", fix="Start again on a frozen copy.")
        pixels[row_of[name]] = _square(name, data, size)
        filled += 1
        if on_progress is not None:
            on_progress(filled, len(row_of), "Decoding photographs")
    if filled != len(row_of):
        raise DatasetError(f"{len(row_of) - filled} of {len(row_of)} images disappeared while the set was in use.")
    return pixels


def manifest_sha256(records: Iterable[Record]) -> str:
    """Return the SHA-256 over the sorted lines `sha256  file\\n` of the images, as in a SHA256SUMS file."""
    lines = sorted(f"{record.sha256}  {record.file}\n" for record in records)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_tar(folder: Path | str, path: Path | str) -> str:
    """
    Write the image set of a folder as one plain tar, labels.csv first; equal contents give equal bytes.

    Files that labels.csv does not name stay behind. Members carry no owner and the date 0.

    Returns:
        the SHA-256 of the tar, hex.
    """
    image_set = read_image_set(folder)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        _add_member(archive, LABELS_NAME, _read_labels(image_set.path))
        for name, data in _folder_images(image_set.path, {record.file for record in image_set.records}):
            _add_member(archive, f"images/{name}", data)
    with open(path, "rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def _add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _read_labels(path: Path) -> bytes:
    if path.is_dir():
        labels = path / LABELS_NAME
        if not labels.is_file():
            raise DatasetError(f"{path} has no {LABELS_NAME}.", fix="Put it beside the folder images/.")
        if labels.stat().st_size > MAX_LABELS_BYTES:
            raise DatasetError(f"{LABELS_NAME} is larger than {MAX_LABELS_BYTES:,} bytes.")
        return labels.read_bytes()
    for name, data in _tar_members(path):
        if name == LABELS_NAME:
            return data
    raise DatasetError(f"{path.name} has no {LABELS_NAME}.", fix="Write the tar with consortium_kit.dataset.write_tar.")


def _rows(labels: bytes) -> list[dict[str, str]]:
    """Parse labels.csv, every row with its required columns, no file twice."""
    try:
        reader = csv.DictReader(io.StringIO(labels.decode("utf-8-sig")), strict=True)
        rows = [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{LABELS_NAME} cannot be read ({error}).", fix="Save it as CSV in UTF-8.") from error
    missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise DatasetError(f"{LABELS_NAME} has no column {', '.join(missing)}.")
    if not rows:
        raise DatasetError(f"{LABELS_NAME} names no image.")
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        if not _is_plain_name(row["file"]) or not row["patient_group"].strip():
            raise DatasetError(f"Row {number} of {LABELS_NAME} lacks a plain file name or a patient group.")
        if row["file"] in seen:
            raise DatasetError(f"{LABELS_NAME} names {row['file']} twice.")
        seen.add(row["file"])
    return rows


def _is_plain_name(name: str) -> bool:
    return bool(name) and PurePosixPath(name).name == name and name not in {".", ".."} and "\\" not in name


def _record(row: dict[str, str], digests: Mapping[str, str]) -> Record:
    name = row["file"]
    if name not in digests:
        raise DatasetError(f"The image {name} of {LABELS_NAME} is not in the set.", fix="Add it, or remove its row.")
    declared = row.get("sha256", "").lower()
    if declared and declared != digests[name]:
        raise DatasetError(f"The image {name} is not the one that {LABELS_NAME} declares: its SHA-256 differs.")
    return Record(name, row["patient_group"], digests[name], row)


def _image_files(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (file, bytes) of the wanted images that are there, each once."""
    if path.is_dir():
        yield from _folder_images(path, wanted)
        return
    left = {f"images/{name}" for name in wanted}
    for member, data in _tar_members(path, left):
        if member in left:
            left.remove(member)
            yield member.removeprefix("images/"), data


def _folder_images(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    for name in sorted(wanted):
        image = path / "images" / name
        if not image.is_file():
            continue
        if image.stat().st_size > MAX_IMAGE_BYTES:
            raise DatasetError(f"The image {name} is larger than {MAX_IMAGE_BYTES:,} bytes.")
        yield name, image.read_bytes()


def _tar_members(path: Path, wanted: set[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the regular members of a plain tar, read in memory: nothing is extracted to disk."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg() or (wanted is not None and member.name not in wanted):
                    continue
                limit = MAX_LABELS_BYTES if member.name == LABELS_NAME else MAX_IMAGE_BYTES
                if member.size > limit:
                    raise DatasetError(f"The file {member.name} of {path.name} is larger than {limit:,} bytes.")
                reader = archive.extractfile(member)
                if reader is not None:
                    yield member.name, reader.read()
    except FileNotFoundError as error:
        raise DatasetError(f"There is no image set at {path}.", code="dataset_missing") from error
    except (tarfile.TarError, OSError) as error:
        raise DatasetError(f"{path.name} is neither a folder nor a plain tar ({error}).") from error


def _square(name: str, data: bytes, size: int) -> Pixels:
    """Return the centre square of one photograph, upright, (size, size, 3)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
            warnings.simplefilter("ignore", UserWarning)  # of tags that do not matter here
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DatasetError(f"The image {name} has more than {MAX_PIXELS:,} pixels.")
                photograph = upright(image, f"The image {name}")
    except ImagesError as error:
        raise DatasetError(error.sentence, code=error.code, fix=error.fix) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"The image {name} cannot be decoded ({error}).", fix="Export it again.") from error
    side = min(photograph.size)
    left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
    box = (left, top, left + side, top + side)
    # Cropped first: resize(box=...) would let pixels from outside the box into the margin.
    return np.asarray(photograph.crop(box).resize((size, size), Image.Resampling.BICUBIC))
