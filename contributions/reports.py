"""What the checks said: results and evidence. Sites wrote some of it, so what PostgreSQL cannot hold is replaced."""

import hashlib
import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any

from django.db import transaction
from django.utils.safestring import SafeString

from contributions import embargo, figures, isolation, kinds
from contributions.lifecycle import CLOSED, Status
from contributions.models import CheckResult, Contribution, Evidence
from portal import storage
from portal.live import announce
from portal.programmes.models import BaseModel

MAX_TEXT = 4_000
TYPES = {".png": "image/png", ".json": "application/json"}


@dataclass(frozen=True)
class Row:
    """One check as a page shows it; without a verdict it has not run yet."""

    number: int
    name: str
    verdict: str = ""
    sentence: str = ""
    fix: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    duration_seconds: float | None = None

    @property
    def figure(self) -> SafeString:
        return figures.of_check(self.number, self.evidence)

    @property
    def is_long(self) -> bool:
        """Whether the figure is many lines that few read: it folds away with the rest of the evidence."""
        return self.number in figures.LONG


@dataclass(frozen=True)
class Report:
    """The newest attempt of the checks. `verdict`: pass, warn, fail, or empty while checks are missing."""

    rows: list[Row]
    pictures: list[Evidence]
    verdict: str

    @property
    def version(self) -> str:
        """Return what changes when a page must be drawn again."""
        done = [row for row in self.rows if row.verdict]
        return f"{len(done)}-{len(self.pictures)}-{self.verdict}"


def storable(value: Any) -> Any:
    """Return a JSON value that PostgreSQL accepts: no NUL, no lone surrogate, no NaN; long texts are cut."""
    match value:
        case str():
            return value[:MAX_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {storable(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
    return value


def record_check(contribution: Contribution, *, run_id: int, attempt: int, result: dict[str, Any]) -> CheckResult:
    """
    Keep what one check said in one attempt of its run; the same check of the same attempt again replaces it.

    Args:
        result: number, name, verdict ("pass", "warn" or "fail"), sentence, fix, evidence, duration_seconds.

    Raises:
        Isolated: the worker stops here.
    """
    result = storable(result)
    number = result.pop("number")
    isolation.require_none(contribution)
    row, _ = CheckResult.objects.update_or_create(
        run_id=run_id,
        attempt=attempt,
        number=number,
        defaults={**result, "name": result["name"][:40], "contribution": contribution},
    )
    announce(f"contribution-{contribution.pk}")
    return row


def add_evidence(contribution: Contribution, *, run_id: int, attempt: int, name: str, content: bytes) -> Evidence:
    """Keep a file that a check produced in the vault; the same name in the same attempt again replaces it."""
    isolation.require_none(contribution)
    key = f"evidence/{contribution.pk}/{run_id}-{attempt}/{name}"
    storage.put(storage.VAULT, key, content, content_type=TYPES.get(PurePath(name).suffix, "application/octet-stream"))
    with transaction.atomic():
        row, _ = Evidence.objects.update_or_create(
            run_id=run_id,
            attempt=attempt,
            name=name,
            defaults={
                "contribution": contribution,
                "storage_key": key,
                "sha256": hashlib.sha256(content).hexdigest(),
            },
        )
        announce(f"contribution-{contribution.pk}")
    return row


def latest_results(contribution: Contribution) -> tuple[list[CheckResult], list[Evidence]]:
    """Return the results of the newest attempt and its evidence; none while they are to come, or it is isolated."""
    rows = list(contribution.check_results.all())
    if not rows or contribution.status == Status.SUBMITTED or isolation.current(contribution):
        return [], []
    newest = max((row.run_id, row.attempt) for row in rows)
    evidence = contribution.evidence_files.filter(run_id=newest[0], attempt=newest[1])
    return [row for row in rows if (row.run_id, row.attempt) == newest], list(evidence)


def report_of(contribution: Contribution) -> Report:
    """
    Return the newest results in the order of the checks; checks that wait are rows too, unless one failed.

    Of what is isolated nothing is shown: the words of a check may quote what should not have been sent.
    """
    if isolation.current(contribution) is not None:
        return Report([], [], "")
    results, evidence = latest_results(contribution)
    named = kinds.of(contribution.kind).checks
    rows = [
        Row(r.number, _name(r, named), r.verdict, r.sentence, r.fix, r.evidence, r.duration_seconds) for r in results
    ]
    verdicts = {row.verdict for row in rows}
    reached = {row.number for row in rows}
    asked = {3, *contribution.programme.checks} if "fail" not in verdicts else set()
    waiting = [number for number in named if number in asked and number not in reached]
    if contribution.status not in CLOSED:  # what is withdrawn waits for nothing
        rows += [Row(number, str(named[number][0]), sentence=str(named[number][1])) for number in waiting]
    if waiting:
        verdicts.add("")
    verdict = next((v for v in ("fail", "", "warn", "pass") if v in verdicts), "")
    pictures = [row for row in evidence if row.name.endswith(".png")]
    return Report(sorted(rows, key=lambda row: row.number), pictures, verdict)


def accepted_layers(base: BaseModel, *, now: datetime, limit: int = 200) -> list[dict[str, float]]:
    """
    Return how far the layers of the newest approved contributions of a base are from it; see the kit's check 5.

    Each counts once, as it was checked last: an attempt whose worker was lost has left what it found, too.
    """
    rows = CheckResult.objects.filter(
        number=5, contribution__base_model=base, contribution__in=embargo.usable(now=now), evidence__has_key="layers"
    )
    last = rows.order_by("contribution_id", "-run_id", "-attempt").distinct("contribution_id").values("pk")
    newest = CheckResult.objects.filter(pk__in=last).order_by("-checked_at")
    return list(newest.values_list("evidence__layers", flat=True)[:limit])


def _name(result: CheckResult, named: dict[int, tuple[kinds.Text, kinds.Text]]) -> str:
    known = named.get(result.number)
    return str(known[0]) if known else result.name.replace("_", " ").capitalize()


def image_count(contribution: Contribution) -> int:
    """Return how many synthetic images the newest checks found in a contribution; 0 where it holds none."""
    found = contribution.check_results.filter(number=1, evidence__has_key="images").order_by("-run_id", "-attempt")
    return max(0, int(found.values_list("evidence__images", flat=True).first() or 0))
