"""
The checks of synthetic images, numbered as those of weights where they ask the same question.

    1 shards, 2 signature, 4 provenance, 5 duplicates, 6 declaration, 7 quality, 8 fidelity, 9 privacy, 10 poisoning,
    11 utility
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from .. import statements
from ..generator import Base
from ..shards import digest_of
from ..synthetic import hashed
from .declaration import check_declaration
from .dossier import Dossier
from .drawn import Reference, load_reference
from .fidelity import check_fidelity
from .poisoning import check_poisoning
from .privacy import check_privacy
from .provenance import check_provenance
from .quality import check_quality
from .repeats import check_repeats
from .results import CheckResult
from .runner import OnEvent, run_steps
from .shard import Seen, check_shards
from .signature import check_signature
from .sites import save_drawn
from .utility import check_utility

__all__ = ["run_synthetic_checks"]


def run_synthetic_checks(
    paths: list[Path],
    base: Base,
    out_dir: Path | str,
    on_event: OnEvent | None = None,
    *,
    dossier: Dossier | None = None,
    generators: Mapping[str, Path] | None = None,
) -> list[CheckResult]:
    """
    Run the checks of synthetic images in order until one fails; see weights.run_checks().

    Args:
        paths: the shards.
        generators: weights that are held, by SHA-256: images are drawn again from the one they name.
    """
    dossier = dossier or Dossier()
    given = replace(dossier, known_sha256=dossier.known_sha256 or digest_of(hashed(paths)))
    run = _Run(paths, base, Path(out_dir), given, generators or {})
    return run_steps(run.steps(), Path(out_dir), on_event)


class _Run:
    """The checks of one set of shards in their order."""

    def __init__(
        self, paths: list[Path], base: Base, out_dir: Path, dossier: Dossier, generators: Mapping[str, Path]
    ) -> None:
        self.paths, self.base, self.out_dir = paths, base, out_dir
        self.dossier, self.generators = dossier, generators
        self.seen: Seen
        self.reference: Reference | None = None

    def steps(self) -> Iterator[Callable[[], CheckResult]]:
        every: list[tuple[int, Callable[[], CheckResult]]] = [
            (1, self._shards),
            (2, lambda: check_signature("", self.dossier, kind=statements.SYNTHETIC)),
            (4, self._provenance),
            (5, lambda: check_repeats(self.seen, self.base)),
            (6, lambda: check_declaration(self.base, self.dossier)),
            (7, self._quality),
            (8, lambda: check_fidelity(self.seen.chosen, self.reference, self.base)),
            (9, self._privacy),
            (10, self._poisoning),
            (11, lambda: check_utility(self.seen.chosen, self.reference, self.base)),
        ]
        for number, step in every:
            if self.base.asks_for(number) and (number <= 7 or self.base.asks_for(7)):
                yield step

    def _shards(self) -> CheckResult:
        result, seen = check_shards(self.paths, self.base, salt=self.dossier.salt)
        if seen is not None:
            self.seen = seen
        return result

    def _provenance(self) -> CheckResult:
        salt, elsewhere = self.dossier.salt, self.dossier.elsewhere
        return check_provenance(self.seen, self.base, self.generators, salt=salt, elsewhere=elsewhere)

    def _quality(self) -> CheckResult:
        self.reference = load_reference(self.base.folder / "reference.safetensors")
        return check_quality(self.seen, self.base, self.reference, self.out_dir)

    def _privacy(self) -> CheckResult:
        generator = self.seen.manifests[0].generator_sha256
        return check_privacy(
            Path(), self.base, self.dossier, self.seen.chosen, self.reference, self.out_dir, generator=generator
        )

    def _poisoning(self) -> CheckResult:
        save_drawn(self.seen.chosen, self.out_dir)
        return check_poisoning(self.seen.chosen, self.reference, self.base, self.dossier.others)
