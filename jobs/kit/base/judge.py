"""
What is wrong with the folder of a base generator, told before it is registered.

Later is too late: a base is its bytes for ever, and what a check stumbles over in it ends every run of every site.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import generator
from ..checks.schema import check_schema
from ..container import METADATA, read_container
from ..errors import KitError

GRAIN = 16  # pixels: pictures are compared after reduction to 16 x 16 (likeness.py), so a side is a multiple of it
# Thresholds without a default, for every modality has its own; see base/train.py and the checks.
NEEDED = (
    "max_header_bytes", "max_tensors", "samples", "seed", "min_contrast", "min_brightness", "max_corner_ratio",
    "min_warmth", "min_smoothness", "min_fundus_like", "warn_fundus_like", "duplicate_distance",
    "max_near_duplicates", "warn_near_duplicates",
)  # fmt: skip
AT_LEAST_ONE = ("samples", "redrawn_images", "compared_images")


def problems(folder: Path) -> list[str]:
    """Return a sentence for each thing that is wrong; of a folder with config.json and model.safetensors."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"config.json cannot be read ({error})"]
    if not isinstance(config, dict):
        return ["config.json is no JSON object"]
    found = list(_entries(config))
    return found or [*_thresholds(config["checks"]), *_files(folder, config), *_whole(folder, config)]


def _text(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _count(grain: int = 1) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1 and value % grain == 0


def _schema(value: object) -> bool:
    rows = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(row, list) and len(row) == 2 and isinstance(row[1], list) for row in rows)


# entry: (rule, in words)
ENTRIES: dict[str, tuple[Callable[[object], bool], str]] = {
    "slug": (_text(r"[a-z0-9][a-z0-9-]{0,59}"), "small letters, digits and hyphens, 60 at most"),
    "version": (_text(r"\S{1,20}"), "a text of 20 characters at most, without blanks"),
    "licence": (_text(r"\S{1,60}"), "an SPDX identifier"),
    "sha256": (_text(METADATA["base_sha256"]), "that of model.safetensors, 64 hexadecimal digits"),
    "image_size": (_count(GRAIN), f"a multiple of {GRAIN} pixels"),
    "sampling_steps": (_count(), "a whole number, 1 at least"),
    "classes": (
        lambda value: isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value),
        "a list of names, the last for what nobody graded",
    ),
    "architecture": (lambda value: isinstance(value, dict), "a table"),
    "scheduler": (lambda value: isinstance(value, dict), "a table"),
    "checks": (lambda value: isinstance(value, dict), "a table"),
    "schema": (_schema, "a table of each tensor's number format and shape"),
}


def _entries(config: dict[str, Any]) -> Iterator[str]:
    for name, (rule, words) in ENTRIES.items():
        if not rule(config.get(name)):
            yield f"config.json: {name} is missing or of the wrong kind; it is {words}"


def _thresholds(checks: dict[str, Any]) -> Iterator[str]:
    for name in NEEDED:
        if name not in checks:
            yield f"config.json: checks lacks {name}"
    for name, value in checks.items():
        if problem := of_threshold(name, value):
            yield f"config.json: checks.{name} {problem}"


def of_threshold(name: str, value: object) -> str:
    """Return what is wrong with the value of a threshold, or an empty text."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "is not a number"
    return "is below 1: a check would look at nothing" if name in AT_LEAST_ONE and value < 1 else ""


def _files(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    files = {"model.safetensors": config["sha256"]}
    reference = config.get("reference")
    if reference is not None:
        files["reference.safetensors"] = reference.get("sha256") if isinstance(reference, dict) else ""
    for name, wanted in files.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield f"{name}, which config.json names, cannot be read ({error.strerror})"
            continue
        if found != wanted:
            yield f"config.json: sha256 is not that of {name} ({found})"
    if reference is None and (folder / "reference.safetensors").exists():
        yield "reference.safetensors is there, and config.json does not name it: write it with jobs.kit.base.reference"


def _whole(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    """Yield in what the entries do not fit each other or the file."""
    try:
        base = generator.load_base(folder)
        held = read_container(base.weights)
    except KitError as error:
        yield error.sentence
        return
    if base.is_adapter:
        return  # the schema is the adapter's; what the file must hold is known when the network is built
    side = config["architecture"].get("sample_size")
    if not isinstance(side, int) or side * generator.PATCH != base.image_size:
        yield f"config.json: image_size is not {generator.PATCH} times architecture.sample_size"
    told = check_schema(held, base)
    if told.verdict == "fail":
        yield f"model.safetensors is not what the schema of config.json says: {told.sentence}"
