"""
Check the container of a weights file: safetensors, and nothing but safetensors.

The header is read by our own rules because the safetensors library accepts duplicate keys, a million tensors and names
with `../`. Only the header is read here, at most `Limits.max_header_bytes`; tensor bytes are scan.py's.
Format: https://huggingface.co/docs/safetensors (8 bytes little-endian header length, JSON header, data).
"""

import itertools
import json
import math
import operator
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from .errors import ContainerError
from .stream import Stream

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
MAX_LOOSENESS = 2  # of a header over the shortest text of the same: one with an entry a line is below it
MAX_INTEGER_DIGITS = 19  # 2**63 has 19: larger numbers are no offset of any file

# Metadata travels with the weights and could carry a path, an e-mail address or a person's name out of the hospital.
# So there is no free text: every allowed key has a pattern its whole value must match.
METADATA = {
    "format": r"pt|np|flax|mlx|tf",
    "base_model": r"[a-z0-9][a-z0-9-]{0,63}",
    "base_sha256": r"[0-9a-f]{64}",
    "kit_version": r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}",
    "created": r"[0-9]{4}(-[0-9]{2}){0,2}",
    "licence": r"CC-BY(-NC)?(-ND|-SA)?-4\.0|CC0-1\.0|Apache-2\.0|MIT",
    "license": r"CC-BY(-NC)?(-ND|-SA)?-4\.0|CC0-1\.0|Apache-2\.0|MIT",
    "training_card_sha256": r"[0-9a-f]{64}",
}

NAME = re.compile(r"[A-Za-z0-9_]+([.:-][A-Za-z0-9_]+)*")  # module paths of torch and peft; no slash, no dot-dot

FOREIGN_SUFFIXES = {
    **dict.fromkeys((".pth", ".pt", ".ckpt", ".bin"), "a PyTorch checkpoint"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill"), "a Python pickle"),
    **dict.fromkeys((".zip", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".rar"), "an archive"),
    **dict.fromkeys((".npy", ".npz"), "a NumPy file"),
    **dict.fromkeys((".h5", ".hdf5", ".keras", ".pb", ".tflite"), "a TensorFlow or Keras file"),
    **dict.fromkeys((".onnx", ".gguf"), "a model file of another kind"),
}
FOREIGN_STARTS = (
    (b"PK\x03\x04", "a zip archive, as PyTorch checkpoints are"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file, as Keras models are"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"GGUF", "a GGUF file"),
    *((bytes((0x80, version)), "a Python pickle, as old PyTorch checkpoints are") for version in (2, 3, 4, 5)),
)

CONVERT = "Run `consortium convert model.pth` where it was made, and send the .safetensors file that it writes."
SAVE_AGAIN = 'Write the file again with save_file(tensors, path, {"format": "pt"}) of safetensors.torch and send that.'
SEND_AGAIN = "Compare its size with the original and send it again."


@dataclass(frozen=True)
class Limits:
    """What a header may hold. Defaults suit every model up to ViT-H; a base model's config.json can narrow them."""

    max_header_bytes: int = 16 * 1024 * 1024
    max_tensors: int = 4096
    max_rank: int = 8
    max_name_length: int = 256
    dtypes: tuple[str, ...] = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """One tensor's place: bytes start to stop (exclusive), counted from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def count(self) -> int:
        return (self.stop - self.start) // ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Container:
    """A header that passed every rule; `tensors` tile the file from `data_start` to `size` in order."""

    path: Path
    size: int
    data_start: int
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]
    stream: Stream | None = None  # where the file is read from, if it lies on no disk: once, in order

    @property
    def parameters(self) -> int:
        return sum(tensor.count for tensor in self.tensors)


def read_container(path: Path | str, limits: Limits | None = None, *, name: str = "") -> Container:
    """
    Read and check the header of a safetensors file; no tensor byte is read.

    Args:
        name: the name the file had at the site, when `path` is another; its ending is checked.
    Raises:
        ContainerError: with a code, a sentence and a fix; the first rule that is broken.
    """
    path = Path(path)
    descriptor = _open_regular(path, name or path.name)
    try:
        size = os.fstat(descriptor).st_size
        return _read(path, size, lambda count: os.pread(descriptor, count, 0), limits, name or path.name)
    finally:
        os.close(descriptor)


def read_stream(stream: Stream, limits: Limits | None = None, *, name: str) -> Container:
    """Read and check the header of a file that comes block by block, as read_container() does."""
    return replace(_read(Path(name), stream.size, stream.peek, limits, name), stream=stream)


def _read(path: Path, size: int, start: Callable[[int], bytes], limits: Limits | None, shown: str) -> Container:
    """Check a header; `start` returns the first bytes of the file."""
    limits = limits or Limits()
    first = start(16)
    _refuse_foreign(shown, first, size, limits)
    length = int.from_bytes(first[:8], "little")
    header = parse_header(start(8 + length)[8:], limits)
    metadata = _check_metadata(header.pop("__metadata__", {}))
    tensors = _check_tensors(header, limits, data_start=8 + length, size=size)
    return Container(path, size, 8 + length, tensors, metadata)


def _refuse(code: str, sentence: str, fix: str = SAVE_AGAIN) -> NoReturn:
    raise ContainerError(sentence, code=code, fix=fix)


def _open_regular(path: Path, shown: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        _refuse("unreadable", f"{shown} cannot be opened ({reason}).", "Give the path of an ordinary file.")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        _refuse("not_a_file", f"{shown} is not an ordinary file.", "Give the path of a .safetensors file.")
    return descriptor


def _refuse_foreign(shown: str, start: bytes, size: int, limits: Limits) -> None:
    """Refuse what is not safetensors from its name and first 16 bytes."""
    suffix = Path(shown).suffix.lower()
    if suffix in FOREIGN_SUFFIXES:
        sentence = f"{shown} is {FOREIGN_SUFFIXES[suffix]}; only safetensors files are accepted, and it was not opened."
        _refuse("not_safetensors", sentence, CONVERT)
    if size == 0:
        _refuse("empty_file", f"{shown} is empty (0 bytes).", SEND_AGAIN)
    length = int.from_bytes(start[:8], "little")
    if not (start[8:9] == b"{" and length <= limits.max_header_bytes):
        # A header length may begin like a magic number, so these are looked at only when the header is wrong anyway.
        for magic, kind in FOREIGN_STARTS:
            if start.startswith(magic):
                sentence = f"{shown} is {kind}; only safetensors files are accepted, and it was not opened."
                _refuse("not_safetensors", sentence, CONVERT)
    if size < 8:
        _refuse("truncated", f"{shown} has {size} bytes, too few for a safetensors file.", SEND_AGAIN)
    if length > limits.max_header_bytes:
        sentence = f"{shown} announces a header of {length:,} bytes; the limit is {limits.max_header_bytes:,}."
        _refuse("header_too_large", sentence, f"Only safetensors files are accepted. {CONVERT}")
    if length < 2:
        _refuse("header_empty", f"{shown} has an empty header, so it names no tensor.")
    if size < 8 + length:
        sentence = f"{shown} ends inside its header: {size:,} bytes of at least {8 + length:,}."
        _refuse("truncated", sentence, SEND_AGAIN)
    if start[8:9] != b"{":
        sentence = f"The header of {shown} does not begin with {{; only safetensors files are accepted."
        _refuse("header_not_json", sentence, CONVERT)


def parse_header(raw: bytes, limits: Limits) -> dict[str, Any]:
    """
    Parse the JSON header strictly: UTF-8, unique keys at every level, no fractions, no huge numbers, no nesting.

    Raises:
        ContainerError
    """
    _refuse_costly(raw, limits)
    text = raw.rstrip(b" ")  # writers pad with spaces so that the data is aligned; nothing else may follow
    try:
        header = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_small_integer,
            parse_float=_no_fraction,
            parse_constant=_no_fraction,
        )
        shortest = json.dumps(header, separators=(",", ":"))
    except UnicodeDecodeError:
        _refuse("header_not_utf8", "The header is not valid UTF-8 text.")
    except RecursionError:
        _refuse("header_too_deep", "The header is nested too deeply.")
    except ValueError as error:
        _refuse("header_not_json", f"The header is not valid JSON ({error}).")
    if not isinstance(header, dict) or not text.endswith(b"}"):
        _refuse("header_not_json", "The header is not one JSON object.")
    if len(text) > MAX_LOOSENESS * len(shortest) + 1024:
        _refuse("header_too_loose", "The header is mostly spaces between its entries, which could hide other data.")
    return header


def _refuse_costly(raw: bytes, limits: Limits) -> None:
    """Count brackets and commas before parsing: 16 MiB of small JSON values would become a gigabyte of objects."""
    if raw.count(b"{") > limits.max_tensors + 2:
        _refuse("too_many_tensors", f"The header names more than {limits.max_tensors:,} tensors.", "Send one model.")
    if raw.count(b"[") > 2 * limits.max_tensors + 2:
        _refuse("header_too_deep", "The header holds more lists than its tensors need.")
    if raw.count(b",") > (limits.max_rank + 6) * (limits.max_tensors + 2):
        _refuse("header_too_long", "The header holds more values than its tensors need.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        _refuse("duplicate_key", f"The header has the key {_quoted(twice)} twice, so two readers could see two models.")
    return found


def _small_integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        _refuse("number_out_of_range", f"The header holds a number of {len(text):,} digits.")
    if text == "-0":  # zero to Python, and no whole number to the library
        _refuse("number_out_of_range", "The header holds the number -0.")
    return int(text)


def _no_fraction(text: str) -> NoReturn:
    _refuse("number_not_integer", f"The header holds {text[:20]}, where only whole numbers are allowed.")


def _quoted(name: str) -> str:
    """Show a name from the file without letting it paint the page or terminal: ASCII, 60 characters."""
    return ascii(name if len(name) <= 60 else name[:57] + "...")


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict):
        _refuse("metadata_invalid", "The __metadata__ of the file is not a list of key and text.")
    for key, value in metadata.items():
        if key not in METADATA:
            allowed = ", ".join(METADATA)
            sentence = f"The metadata key {_quoted(key)} is not allowed; it could carry paths or names of people."
            _refuse("metadata_key", sentence, f"Allowed are: {allowed}. {SAVE_AGAIN}")
        if not isinstance(value, str):
            _refuse("metadata_not_text", f"The metadata value of {_quoted(key)} is not text.")
        if not re.fullmatch(METADATA[key], value, re.ASCII):
            sentence = f"The metadata value of {_quoted(key)} is not of the allowed form; free text could name people."
            _refuse("metadata_value", sentence, f"It must match {METADATA[key]}. {SAVE_AGAIN}")
    return metadata


def _check_tensors(header: dict[str, Any], limits: Limits, *, data_start: int, size: int) -> tuple[Tensor, ...]:
    """Check every entry, and that the tensors tile the rest of the file in order: no gap, overlap or tail."""
    if not header:
        _refuse("no_tensors", "The file holds no tensor.")
    if len(header) > limits.max_tensors:
        _refuse("too_many_tensors", f"The file holds {len(header):,} tensors; the limit is {limits.max_tensors:,}.")
    tensors = []
    expected = data_start
    for name, entry in header.items():
        _check_name(name, limits)
        tensor = _check_entry(name, entry, limits, data_start)
        if tensor.start != expected:
            kind = "leaves a gap after" if tensor.start > expected else "overlaps or precedes"
            _refuse("offsets_not_contiguous", f"The tensor {name} {kind} the bytes of the one before it.")
        expected = tensor.stop
        tensors.append(tensor)
    if size < expected:
        sentence = f"The file is cut off: {size:,} bytes of {expected:,} that its header describes."
        _refuse("truncated", sentence, SEND_AGAIN)
    if size > expected:
        _refuse("trailing_bytes", f"{size - expected:,} bytes follow the last tensor, and nothing describes them.")
    return tuple(tensors)


def _check_name(name: str, limits: Limits) -> None:
    if len(name) > limits.max_name_length:
        _refuse("name_too_long", f"A tensor name has {len(name):,} characters; the limit is {limits.max_name_length}.")
    if not NAME.fullmatch(name):
        sentence = f"The tensor name {_quoted(name)} is not a module path (letters, digits, _ with . - or : between)."
        _refuse("name_invalid", sentence)


def _check_entry(name: str, entry: Any, limits: Limits, data_start: int) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse("entry_invalid", f"The entry of tensor {name} must have exactly dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in limits.dtypes:
        sentence = (
            f"The tensor {name} has the number format {_quoted(str(dtype))}; allowed: {', '.join(limits.dtypes)}."
        )
        _refuse("dtype_not_allowed", sentence)
    if not _whole_numbers(shape) or len(shape) > limits.max_rank:
        _refuse(
            "shape_invalid", f"The shape of tensor {name} is not a list of at most {limits.max_rank} whole numbers."
        )
    if any(product >= 2**63 for product in itertools.accumulate(shape, operator.mul)):  # also before a side of zero
        _refuse("shape_invalid", f"The shape of tensor {name} is larger than any file.")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[1] < offsets[0]:
        _refuse("offsets_invalid", f"The data_offsets of tensor {name} are not two rising whole numbers.")
    needed = math.prod(shape) * ITEM_BYTES[dtype]  # Python integers do not overflow
    if needed != offsets[1] - offsets[0]:
        sentence = f"The tensor {name} of shape {shape} needs {needed:,} bytes but has {offsets[1] - offsets[0]:,}."
        _refuse("size_mismatch", sentence)
    return Tensor(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _whole_numbers(values: Any) -> bool:
    """Return whether it is a list of integers >= 0; True and False are integers to Python, and not to us."""
    return (
        isinstance(values, Sequence) and not isinstance(values, str) and all(type(v) is int and v >= 0 for v in values)
    )
