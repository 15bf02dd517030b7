"""Run checks in their order until one fails, telling each result as it comes."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .results import DRAWN, NEIGHBOURS, SHEET, CheckResult, Progress, Verdict

MOST_EVIDENCE = 48 * 1024  # characters of JSON; sandbox.LINE_BYTES cuts a line that is longer than 64 KiB
LONGEST_TEXT = 2_000

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
Step = Callable[[], CheckResult]


def run_steps(steps: Iterator[Step], out_dir: Path, on_event: OnEvent | None) -> list[CheckResult]:
    """Run the steps; the next is asked for only after the last has passed. Events are described at run_checks()."""
    emit = on_event or (lambda event: None)
    results: list[CheckResult] = []
    for step in steps:
        started = time.monotonic()
        result = _bounded(replace(step(), duration_seconds=round(time.monotonic() - started, 3)))
        emit({"type": "check", **asdict(result)})
        results.append(result)
        if result.verdict == "fail":
            break
    for name in (SHEET, NEIGHBOURS, DRAWN):
        if (out_dir / name).exists():
            emit({"type": "file", "name": name})
    emit({"type": "end", "verdict": verdict_of(results)})
    return results


def _bounded(result: CheckResult) -> CheckResult:
    """Return the result with no more evidence than a line from the sandbox can carry: a verdict is never lost."""
    try:
        size = len(json.dumps(result.evidence, allow_nan=False))
    except (ValueError, RecursionError):
        size = MOST_EVIDENCE + 1
    evidence = result.evidence if size <= MOST_EVIDENCE else {"code": result.evidence.get("code", ""), "left_out": True}
    return replace(result, sentence=result.sentence[:LONGEST_TEXT], fix=result.fix[:LONGEST_TEXT], evidence=evidence)


def progress_of(emit: OnEvent) -> Progress:
    """Return the function that tells how far a check is, as an event."""
    return lambda done, total, text: emit({"type": "progress", "done": done, "total": total, "text": text})


def verdict_of(results: list[CheckResult]) -> Verdict:
    """Return the worst verdict."""
    found = {result.verdict for result in results}
    return "fail" if "fail" in found else "warn" if "warn" in found else "pass"
