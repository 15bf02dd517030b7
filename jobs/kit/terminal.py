"""What the commands share at the terminal: options, progress bars, the line of a check."""

import contextlib
import json
import math
import shlex
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from .client import Document
from .findings import EXIT_CODES, FAILS, HOLDS, NOTE, UNKNOWN, Finding, verdict

VERDICT_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}
FINDING_WORDS = {HOLDS: "holds", FAILS: "fails", UNKNOWN: "open ", NOTE: "note "}
FINDING_COLOURS = {HOLDS: "green", FAILS: "red", UNKNOWN: "yellow", NOTE: None}

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
existing_path = click.Path(exists=True, path_type=Path)
existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)
seed = click.IntRange(0, 2**63 - 1)  # as a training card takes it, and torch
new_folder = click.Path(file_okay=False, path_type=Path)


class Finite(click.FloatRange):
    """A number in a range; click takes "nan" for one in every range, and "inf" for one without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{found} is not a finite number.", param, ctx)
        return found


def print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2, allow_nan=False))  # NaN is no JSON, and other tools refuse it


def shown(text: object) -> str:
    """Return a text of a file or a portal as a terminal may show it: no control that moves, recolours or names it."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else "\ufffd" for c in str(text))


def quoted(path: Path | str) -> str:
    """Return a path as it stands in a command that people copy: one with blanks stays one word."""
    return shlex.quote(str(path))


def say(text: str) -> None:
    """Tell people; a log on a full disk, or a terminal that is gone, ends no work."""
    with contextlib.suppress(OSError):
        click.echo(shown(text), err=True)


class _Unfailing:
    """Standard error for a bar, as say() takes it."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def require_writable(path: Path) -> None:
    """Make the folder of a file to come and try writing there: before an hour of work, not after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.open("r+b").close()
    tempfile.TemporaryFile(dir=path.resolve().parent).close()


def write_json(path: Path, document: object) -> None:
    """Write a document whole or not at all: what stood there before stays until it is."""
    path = path.resolve()  # a link stays one
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Bars:
    """An on_progress that draws a bar for each text; what follows a comma in the text stands behind the bar."""

    def __init__(self, *, is_bytes: bool = False) -> None:
        self.look = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} if is_bytes else {"unit": "it"}
        self.every = 0.1 if sys.stderr.isatty() else 30.0  # seconds; a batch job's log is not a terminal
        self.bar: tqdm | None = None
        self.label = ""

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, done: int, total: int, text: str) -> None:
        label, _, figure = text.partition(", ")
        if self.bar is None or label != self.label:
            self.close()
            look = {"file": _Unfailing(), "mininterval": self.every, **self.look}
            self.bar = tqdm(total=total, initial=done, desc=label, **look)
            self.label = label
        else:
            self.bar.update(done - self.bar.n)
        if figure:
            self.bar.set_postfix_str(figure, refresh=False)

    def close(self) -> None:
        """End the bar, so that a line can be printed."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None


def print_check(check: Document) -> None:
    verdict = click.style(f"{check['verdict']:<4}", fg=VERDICT_COLOURS.get(check["verdict"]))
    click.echo(f"{verdict}  {shown(check['number'])} {shown(check['name'])}: {shown(check['sentence'])}")
    for line in shown(check.get("fix") or "").splitlines():
        click.echo(f"      {line}")


def print_findings(findings: list[Finding], sentences: dict[str, str], *, as_json: bool) -> int:
    """Print what was found and the verdict in its sentence, and return the exit status."""
    result = verdict(findings)
    if as_json:
        facts = [finding.facts() for finding in findings]
        print_json({"verdict": result, "sentence": sentences[result], "findings": facts})
    else:
        for finding in findings:
            word = click.style(FINDING_WORDS[finding.verdict], fg=FINDING_COLOURS[finding.verdict])
            click.echo(f"{word}  {finding.name}: {finding.sentence}")
        click.echo(sentences[result])
    return EXIT_CODES[result]
