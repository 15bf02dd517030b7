"""Reading the folder that a programme is made of: programme.toml, its texts, its base models."""

import json
import re
import tomllib
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_slug

from jobs.kit import generator
from jobs.kit.base import judge
from portal.agreements.shipped import Entry, beside
from portal.blueprint.tables import BlueprintInvalid, Table
from portal.institutions.vocabulary import COMMON_OPTIONS
from portal.programmes.models import CHECKS, KINDS, NECESSARY_CHECKS

FILE = "programme.toml"
SIGNERS = ["principal_investigator", "signing_official", "consortium"]
SEATS = ["board_member", "chair"]
BASE_FILES = ["config.json", "model.safetensors", "card.md"]
# Limits under which an untrusted file is opened at all; a programme cannot loosen them.
FIXED_THRESHOLDS = {"max_header_bytes", "max_tensors"}
CODE = re.compile(r"[a-z0-9_]{1,40}")
OF_DRAWN = {8, 9, 10, 11}  # checks of the images that check 7 draws: without it they do not run


@dataclass(frozen=True)
class Agreement:
    """One agreement that institutions sign before they contribute."""

    slug: str
    title: str
    summary: str
    texts: Entry  # the binding text, its side notes and translations
    change_note: str
    is_material: bool
    signing_order: list[str]
    months_valid: int  # 0: no expiry
    deletion_days: int  # 0: the text does not say so
    covers: list[str]
    key: str  # where it stands in the file, for problems found later


@dataclass(frozen=True)
class BaseFolder:
    folder: Path
    slug: str
    version: str
    sha256: str
    config: dict[str, Any]
    key: str


@dataclass(frozen=True)
class Task:
    slug: str
    name: str
    label: str
    dataset: str
    position: int
    key: str


@dataclass(frozen=True)
class Seat:
    email: str
    role: str
    key: str


@dataclass(frozen=True)
class Blueprint:
    """A programme as its folder describes it, valid in itself."""

    slug: str
    fields: dict[str, Any]  # the columns of Programme beside the slug
    profile: dict[str, dict[str, str]] = field(default_factory=dict)  # names by code, by list of the profile
    agreements: list[Agreement] = field(default_factory=list)
    base_models: list[BaseFolder] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)


def read(folder: Path, *, registered: Container[tuple[str, str, str]] = ()) -> Blueprint:
    """
    Return what the folder says.

    Args:
        registered: slug, version and SHA-256 of base models that are judged no more: they stay as they are.

    Raises:
        BlueprintInvalid: with every problem of the folder, not only the first.
    """
    table = Table(_toml(folder), f"{FILE}: ", [])
    slug = _slug(table, "slug")
    fields = _fields(table, folder)
    base_models = [_base_model(row, folder, registered) for row in table.tables("base_models")]
    agreements = [_agreement(row, folder, fields["kinds"]) for row in table.tables("agreements")]
    blueprint = Blueprint(
        slug=slug,
        fields=fields | _checks(table.inner("checks"), folder, base_models),
        profile=_profile(table.inner("profile")),
        agreements=agreements,
        base_models=base_models,
        tasks=[_task(row, position) for position, row in enumerate(table.tables("tasks"))],
        seats=[_seat(row) for row in table.tables("board")],
    )
    table.end()
    for key in ("agreements", "base_models", "tasks"):
        _each_once(table, key, [(row.slug, getattr(row, "version", "")) for row in getattr(blueprint, key)])
    if table.problems:
        raise BlueprintInvalid(table.problems)
    return blueprint


def _toml(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
    except OSError as exc:
        raise BlueprintInvalid([f"{folder} has no readable {FILE}. A programme is a folder with that file."]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BlueprintInvalid([f"{FILE}: is not TOML: {exc}."]) from exc


def _fields(table: Table, folder: Path) -> dict[str, Any]:
    return {
        "name": table.text("name", max_length=120),
        "modality": table.text("modality", max_length=120),
        "headline": table.text("headline", "", max_length=120),
        "description": table.text("description", max_length=600),
        "public_description": _text_file(table, "public_description", folder, default=""),
        "is_open": table.flag("is_open", True),
        "kinds": table.several("kinds", str, KINDS) or list(KINDS)[:1],
        "purposes": table.several("purposes", str, default=[]),
    }


def _profile(table: Table) -> dict[str, dict[str, str]]:
    """Return the answers that the specialty brings to the profile of an institution."""
    offered = {}
    for name, common in COMMON_OPTIONS.items():
        options = table.inner(name)
        for code in options.values:
            options.text(code, max_length=80)
            if not CODE.fullmatch(code) or code in dict(common):
                options.complain(code, "is no code of its own: small letters, digits and underscores, at most 40.")
        offered[name] = dict(options.values)
    table.end()
    return offered


def _checks(table: Table, folder: Path, base_models: list[BaseFolder]) -> dict[str, Any]:
    """Return which checks run, and the thresholds that replace those of every base model of the folder."""
    run = table.several("run", int, CHECKS, default=list(CHECKS))
    missing = sorted(set(NECESSARY_CHECKS) - set(run))
    if missing:
        table.complain("run", f"leaves out {', '.join(map(str, missing))}. No programme goes without these checks.")
    if 7 not in run and (idle := sorted(set(run) & OF_DRAWN)):
        table.complain("run", f"has {', '.join(map(str, idle))} without 7, which draws the images they look at. Add 7.")
    thresholds = table.inner("thresholds")
    known = [set(generator.THRESHOLDS) | set(base.config.get("checks") or ()) for base in base_models]
    changeable = set.intersection(*known) - FIXED_THRESHOLDS if known else set()
    for key, value in thresholds.values.items():
        if key in FIXED_THRESHOLDS:
            thresholds.complain(key, "is a limit of safety and the same for every programme.")
        elif key not in changeable:
            thresholds.complain(key, "is not a threshold of every base model in this folder.")
        elif problem := judge.of_threshold(key, value):
            thresholds.complain(key, f"{problem}.")
    table.end()
    return {"checks": sorted(run), "thresholds": thresholds.values}


def _agreement(table: Table, folder: Path, kinds: list[str]) -> Agreement:
    agreement = Agreement(
        slug=_slug(table, "slug"),
        title=table.text("title", max_length=200),
        summary=table.text("summary", "", max_length=600),
        texts=_texts(table, folder),
        change_note=table.text("change_note", "The first version."),
        is_material=table.flag("is_material", True),
        signing_order=table.several("signing_order", str, SIGNERS, default=SIGNERS),
        months_valid=table.number("months_valid", 0, low=1, high=120),
        deletion_days=table.number("deletion_days", 0, low=1, high=365),
        covers=table.several("covers", str, KINDS, default=kinds),
        key=table.where,
    )
    table.end()
    return agreement


def _texts(table: Table, folder: Path) -> Entry:
    """Return the Markdown file of the agreement, with the side notes and translations that lie beside it."""
    text = _text_file(table, "text", folder)
    try:
        return beside(folder / table.text("text")) if text else Entry("", {})
    except (OSError, ValueError) as exc:
        table.complain("text", f"what lies beside the file cannot be read: {exc}.")
        return Entry(text, {})


def _base_model(table: Table, folder: Path, registered: Container[tuple[str, str, str]]) -> BaseFolder:
    path = (folder / table.text("folder")).resolve()
    table.end()
    absent = [name for name in BASE_FILES if not (path / name).is_file()]
    if absent:
        table.complain("folder", f"{path.name} has no {', '.join(absent)}.")
        return BaseFolder(path, "", "", "", {}, table.where)
    config = _config(path)
    key = (str(config.get("slug")), str(config.get("version")), str(config.get("sha256")))
    for problem in [] if key in registered else judge.problems(path):
        table.complain("folder", f"{path.name}/{problem.removesuffix('.')}.")
    if not _is_text(path / "card.md"):
        table.complain("folder", f"{path.name}/card.md is no text in UTF-8.")
    return BaseFolder(path, *key, config, table.where)


def _is_text(path: Path) -> bool:
    try:
        return bool(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _config(folder: Path) -> dict[str, Any]:
    """Return a base model's config.json; an empty one where it is missing or no JSON object (told elsewhere)."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _task(table: Table, position: int) -> Task:
    task = Task(
        slug=_slug(table, "slug"),
        name=table.text("name", max_length=120),
        label=table.text("label", max_length=60),
        dataset=_slug(table, "dataset"),
        position=position,
        key=table.where,
    )
    table.end()
    return task


def _seat(table: Table) -> Seat:
    email = table.text("email")
    try:
        validate_email(email)
    except ValidationError:
        table.complain("email", f"“{email}” is not an e-mail address.")
    seat = Seat(email, table.choice("role", SEATS, "board_member"), table.where)
    table.end()
    return seat


def _slug(table: Table, key: str) -> str:
    value = table.text(key, max_length=50)
    try:
        validate_slug(value)
    except ValidationError:
        if value:
            table.complain(key, f"“{value}” may hold only letters, digits, hyphens and underscores.")
    return value


def _text_file(table: Table, key: str, folder: Path, default: str | None = None) -> str:
    """Return the content of the Markdown file that a key names."""
    name = table.text(key, default)
    if not name:
        return ""
    try:
        if not name.endswith(".md"):
            raise ValueError("it does not end in .md")
        text = (folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        table.complain(key, f"{name} cannot be read as a Markdown file: {getattr(exc, 'strerror', None) or exc}.")
        return ""
    if not text.strip():
        table.complain(key, f"{name} is empty.")
    return text


def _each_once(table: Table, key: str, names: list[tuple[str, str]]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1 and name[0]})
    for slug, version in twice:
        table.complain(key, f"{' '.join(filter(None, (slug, version)))} is there twice.")
