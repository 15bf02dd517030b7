"""What one check says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

# What a run leaves in its output folder beside its results: two pictures, and features of the looked-at images.
SHEET, NEIGHBOURS, DRAWN = "samples.png", "neighbours.png", "drawn.safetensors"

Verdict = Literal["pass", "warn", "fail"]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CheckResult:
    """
    What one check found.

    sentence: for a data manager of a hospital. fix: what to do, given with every fail.
    evidence: JSON values only; `code` names the reason of a fail for machines.
    """

    number: int
    name: str
    verdict: Verdict
    sentence: str
    fix: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    duration_seconds: float = 0.0


def not_measured(number: int, name: str, sentence: str, *, code: str, fix: str = "") -> CheckResult:
    """Return the line of a check that could not run: a remark, so that nobody takes it for a pass."""
    return CheckResult(number, name, "warn", sentence, fix, {"code": code})
