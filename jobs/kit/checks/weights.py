"""Run the checks of a weights file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..container import Stream
from ..generator import Base
from .container import check_container
from .declaration import check_declaration
from .dossier import Dossier
from .numerics import check_numerics
from .results import CheckResult
from .runner import OnEvent, Step, progress_of, run_steps
from .schema import check_schema
from .signature import check_signature

ALL = range(1, 12)


def run_checks(
    path: Path | str,
    base: Base,
    out_dir: Path | str,
    on_event: OnEvent | None = None,
    *,
    name: str = "",
    dossier: Dossier | None = None,
    stream: Stream | None = None,
    numbers: range = ALL,
) -> list[CheckResult]:
    """
    Run the checks in order until one fails.

    Args:
        out_dir: receives samples.png (8 images a row) when check 7 is reached, neighbours.png when check 9 is.
        on_event: gets each event as a dictionary of JSON values: progress, log, check, file, end.
        name: the name the file had at the site, when `path` is another.
        dossier: what came beside the file; without it the checks of that say that they were not run.
        stream: where the file comes from instead of `path`: once, so for the checks up to 6 alone.
        numbers: of the checks to run. The later ones rely on the earlier ones having passed before.
    Returns:
        The results in order; the last is the failed one, if any failed.
    """
    emit = on_event or (lambda event: None)
    run = _Run(Path(path), base, Path(out_dir), emit, name, dossier or Dossier(), stream, numbers)
    return run_steps(run.steps(), run.out_dir, emit)


class _Run:
    """The checks of one file in their order; what one finds out, later ones use."""

    def __init__(
        self,
        path: Path,
        base: Base,
        out_dir: Path,
        emit: OnEvent,
        name: str,
        dossier: Dossier,
        stream: Stream | None,
        numbers: range,
    ) -> None:
        self.path, self.base, self.out_dir, self.emit = path, base, out_dir, emit
        self.name, self.dossier, self.stream, self.numbers = name, dossier, stream, numbers

    def steps(self) -> Iterator[Step]:
        """Yield each check that runs; the next is asked for only after the last has passed."""
        of_the_file: list[tuple[int, Step]] = [
            (1, self._container),
            (2, lambda: check_signature(str(self.path), self.dossier)),
            (4, lambda: check_schema(self.container, self.base)),
            (5, self._numerics),
            (6, lambda: check_declaration(self.base, self.dossier)),
        ]
        yield from self._asked(of_the_file)
        if self.numbers.stop > 7 and self.base.asks_for(7):
            from .samples import Samples  # noqa: PLC0415 -- a third of the start of a child that stops before

            samples = Samples(self.path, self.base, self.out_dir, self.emit, self.dossier)
            yield from self._asked(samples.steps())

    def _asked(self, steps: list[tuple[int, Step]]) -> Iterator[Step]:
        return (step for number, step in steps if number in self.numbers and self.base.asks_for(number))

    def _container(self) -> CheckResult:
        result, container = check_container(self.path, self.base, name=self.name, stream=self.stream)
        if container is not None:
            self.container = container
        return result

    def _numerics(self) -> CheckResult:
        size, count = self.container.size, self.container.parameters
        self.emit({"type": "log", "text": f"Reading {size:,} bytes, {count:,} numbers"})
        progress = progress_of(self.emit)
        result = check_numerics(self.container, self.base, self.dossier.peers, progress)
        if self.stream is not None:
            return result
        found = result.evidence["sha256"]
        if self.dossier.known_sha256 not in {"", found}:
            raise RuntimeError("The file is not the one that was hashed before: this machine's disk or memory erred.")
        self.dossier = replace(self.dossier, known_sha256=found)
        return result
