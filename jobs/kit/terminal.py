"""What the commands share at the terminal: options, progress bars, the line of a check."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from tqdm import tqdm

from .client import Document

VERDICT_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)
new_folder = click.Path(file_okay=False, path_type=Path)


def print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2))


def say(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def bars(*, is_bytes: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Yield an on_progress that draws a bar for each text; what follows a comma in the text stands behind the bar."""
    bar, current = None, ""

    def show(done: int, total: int, text: str) -> None:
        nonlocal bar, current
        label, _, figure = text.partition(", ")
        if bar is None or label != current:
            if bar is not None:
                bar.close()
            every = 0.1 if sys.stderr.isatty() else 30.0  # seconds; a batch job's log is not a terminal
            unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} if is_bytes else {"unit": ""}
            bar = tqdm(total=total, initial=done, desc=label, file=sys.stderr, mininterval=every, **unit)
            current = label
        else:
            bar.update(done - bar.n)
        if figure:
            bar.set_postfix_str(figure, refresh=False)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def print_check(check: Document) -> None:
    verdict = click.style(f"{check['verdict']:<4}", fg=VERDICT_COLOURS.get(check["verdict"]))
    click.echo(f"{verdict}  {check['number']} {check['name']}: {check['sentence']}")
    for line in str(check.get("fix") or "").splitlines():
        click.echo(f"      {line}")
