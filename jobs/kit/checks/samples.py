"""Checks 7 to 11 of a weights file: of the images that are drawn from it."""

from pathlib import Path

from ..generator import Base
from .dossier import Dossier
from .drawn import load_reference
from .fidelity import check_fidelity
from .generation import check_generation
from .poisoning import check_poisoning
from .privacy import check_privacy
from .results import CheckResult
from .runner import OnEvent, Step, progress_of
from .sites import save_drawn
from .utility import check_utility


class Samples:
    """The checks in their order: 7 draws the images, the others look at them."""

    def __init__(self, path: Path, base: Base, out_dir: Path, emit: OnEvent, dossier: Dossier) -> None:
        self.path, self.base, self.out_dir, self.emit, self.dossier = path, base, out_dir, emit, dossier

    def steps(self) -> list[tuple[int, Step]]:
        return [
            (7, self._generation),
            (8, lambda: check_fidelity(self.drawn, self.reference, self.base)),
            (9, self._privacy),
            (10, self._poisoning),
            (11, lambda: check_utility(self.drawn, self.reference, self.base)),
        ]

    def _generation(self) -> CheckResult:
        self.emit({"type": "log", "text": f"Generating {int(self.base.thresholds['samples'])} images from fixed seeds"})
        progress, others = progress_of(self.emit), self.dossier.others
        result, self.drawn = check_generation(self.path, self.base, self.out_dir, progress, others=others)
        self.reference = load_reference(self.base.folder / "reference.safetensors")
        if result.verdict != "fail":
            save_drawn(self.drawn, self.out_dir)
        return result

    def _privacy(self) -> CheckResult:
        return check_privacy(self.path, self.base, self.dossier, self.drawn, self.reference, self.out_dir)

    def _poisoning(self) -> CheckResult:
        return check_poisoning(self.drawn, self.reference, self.base, self.dossier.others)
