"""Figures as they come, each with its goal and whether it was met."""

import math

failed: list[str] = []


def figure(name: str, value: str, *, met: bool | None = None, goal: str = "") -> None:
    """Print one figure; a goal that was missed makes the whole drill fail."""
    word = "" if met is None else "  PASS" if met else "  MISS"
    print(f"  {name:<58} {value:>22}{f'  ({goal})' if goal else ''}{word}", flush=True)
    if met is False:
        failed.append(name)


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile of the values; nan of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def counted(found, *, contributions: int) -> None:
    """Print what became of contributions; none may be lost, none done twice, none left for a person."""
    figure("contributions, and how they ended", f"{contributions}: {found.ends}")
    figure("lost", str(found.lost), met=found.lost == 0, goal="0")
    figure("effects twice", str(found.doubled), met=found.doubled == 0, goal="0")
    figure("parked for a person", str(found.parked))
    figure("attempts", str(found.attempts))
    for reason in found.reasons:
        print(f"    rejected: {reason}", flush=True)
