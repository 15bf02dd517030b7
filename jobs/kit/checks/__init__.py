"""
The checks of a weights file, one module each; DESIGN.md section 5 has the table.

    1 container, 2 signature, 4 schema, 5 numerics, 6 declaration, 7 generation, 8 fidelity, 9 privacy, 10 poisoning,
    11 utility; 0 transfer and 3 agreement are the portal's, 12 is the board.

They run from cheap to dear, and the first that fails stops. The same functions run at a site (`consortium check`) and
inside the centre's sandbox (child.py), with the same verdicts. Thresholds are the base generator's own (`checks` in its
config.json), and the programme says which checks run (`checks_run`).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ..container import Stream
from ..generator import Base
from . import declaration, privacy
from .container import check_container
from .declaration import check_declaration
from .dossier import Dossier, load_dossier
from .drawn import load_reference
from .fidelity import check_fidelity
from .generation import check_generation, judge_samples
from .numerics import check_numerics
from .poisoning import check_poisoning
from .privacy import check_privacy
from .results import CheckResult
from .runner import OnEvent, run_steps, verdict_of
from .schema import check_schema
from .signature import check_signature
from .sites import save_drawn
from .synthetic import run_synthetic_checks
from .utility import check_utility

__all__ = [
    "CheckResult",
    "Dossier",
    "check_container",
    "check_declaration",
    "check_fidelity",
    "check_generation",
    "check_numerics",
    "check_poisoning",
    "check_privacy",
    "check_schema",
    "check_signature",
    "check_utility",
    "declaration",
    "judge_samples",
    "load_dossier",
    "privacy",
    "run_checks",
    "run_synthetic_checks",
    "verdict_of",
]

ALL = range(1, 12)
OF_A_STREAM = range(1, 7)  # what needs no second look at the file


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

    def steps(self) -> Iterator[Callable[[], CheckResult]]:
        """Yield each check that runs; the next is asked for only after the last has passed."""
        every: list[tuple[int, Callable[[], CheckResult]]] = [
            (1, self._container),
            (2, lambda: check_signature(str(self.path), self.dossier)),
            (4, lambda: check_schema(self.container, self.base)),
            (5, self._numerics),
            (6, lambda: check_declaration(self.base, self.dossier)),
            (7, self._generation),
            (8, lambda: check_fidelity(self.drawn, self.reference, self.base)),
            (9, self._privacy),
            (10, self._poisoning),
            (11, lambda: check_utility(self.drawn, self.reference, self.base)),
        ]
        for number, step in every:
            if number in self.numbers and self.base.asks_for(number) and (number <= 7 or self.base.asks_for(7)):
                yield step

    def _container(self) -> CheckResult:
        result, container = check_container(self.path, self.base, name=self.name, stream=self.stream)
        if container is not None:
            self.container = container
        return result

    def _numerics(self) -> CheckResult:
        size, count = self.container.size, self.container.parameters
        self.emit({"type": "log", "text": f"Reading {size:,} bytes, {count:,} numbers"})
        result = check_numerics(self.container, self.base, self.dossier.peers, self._progress)
        if self.stream is not None:
            return result
        found = result.evidence["sha256"]
        if self.dossier.known_sha256 not in {"", found}:
            raise RuntimeError("The file is not the one that was hashed before: this machine's disk or memory erred.")
        self.dossier = replace(self.dossier, known_sha256=found)
        return result

    def _generation(self) -> CheckResult:
        self.emit({"type": "log", "text": f"Generating {int(self.base.thresholds['samples'])} images from fixed seeds"})
        result, self.drawn = check_generation(self.path, self.base, self.out_dir, self._progress)
        self.reference = load_reference(self.base.folder / "reference.safetensors")
        return result

    def _privacy(self) -> CheckResult:
        return check_privacy(self.path, self.base, self.dossier, self.drawn, self.reference, self.out_dir)

    def _poisoning(self) -> CheckResult:
        save_drawn(self.drawn, self.out_dir)
        return check_poisoning(self.drawn, self.reference, self.base, self.dossier.others)

    def _progress(self, done: int, total: int, text: str) -> None:
        self.emit({"type": "progress", "done": done, "total": total, "text": text})
