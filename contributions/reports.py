"""What the checks said: results and evidence. Sites wrote some of it, so what PostgreSQL cannot hold is replaced."""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils.safestring import SafeString

from contributions import figures
from contributions.models import CheckResult, Contribution, Evidence
from portal import storage
from portal.live import announce
from portal.programmes.models import BaseModel

MAX_TEXT = 4_000
# number: (name, what it asks). The table of checks, as far as they run.
CHECKS = {
    0: ("Transfer", "Did every byte arrive, and is the file new?"),
    1: ("Container", "Is it a safetensors file, and nothing else?"),
    2: ("Signature", "Did a registered key of the institution sign exactly this file?"),
    3: ("Agreement", "Is the institution's agreement for this kind in force?"),
    4: ("Schema", "Are its tensors those of the base model, by name, shape and type?"),
    5: ("Numerics", "Are all numbers finite, and are they not the base model's own?"),
    6: ("Declaration", "Is the training card complete, and does its epsilon follow?"),
    7: ("Generation", "Do 64 samples look like photographs of the retina?"),
    8: ("Fidelity", "How near do the samples come to public photographs?"),
    9: ("Privacy", "Do the weights give their photographs away?"),
    10: ("Poisoning", "Does anything in the samples look planted?"),
    11: ("Utility", "What does a probe learn from the samples about real photographs?"),
}


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
    """
    result = storable(result)
    number = result.pop("number")
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
    key = f"evidence/{contribution.pk}/{run_id}-{attempt}/{name}"
    storage.put(storage.VAULT, key, content, content_type="image/png" if name.endswith(".png") else "application/json")
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
    """Return the results of the newest attempt and its evidence."""
    rows = list(contribution.check_results.all())
    if not rows:
        return [], []
    newest = max((row.run_id, row.attempt) for row in rows)
    evidence = contribution.evidence_files.filter(run_id=newest[0], attempt=newest[1])
    return [row for row in rows if (row.run_id, row.attempt) == newest], list(evidence)


def report_of(contribution: Contribution) -> Report:
    """Return the newest results in the order of the checks; checks that wait are rows too, unless one failed."""
    results, evidence = latest_results(contribution)
    rows = [Row(r.number, _name(r), r.verdict, r.sentence, r.fix, r.evidence, r.duration_seconds) for r in results]
    verdicts = {row.verdict for row in rows}
    if "fail" not in verdicts:
        reached = {row.number for row in rows}
        asked = {3, *contribution.programme.checks}
        waiting = [number for number in CHECKS if number in asked and number not in reached]
        rows += [Row(number, CHECKS[number][0], sentence=CHECKS[number][1]) for number in waiting]
    verdict = next((v for v in ("fail", "", "warn", "pass") if v in {row.verdict for row in rows}), "")
    return Report(sorted(rows, key=lambda row: row.number), evidence, verdict)


def accepted_layers(base: BaseModel, *, limit: int = 200) -> list[dict[str, float]]:
    """Return how far the layers of the newest approved contributions of a base are from it; see the kit's check 5."""
    rows = CheckResult.objects.filter(
        number=5, contribution__base_model=base, contribution__status="approved", evidence__has_key="layers"
    )
    return list(rows.order_by("-checked_at").values_list("evidence__layers", flat=True)[:limit])


def _name(result: CheckResult) -> str:
    known = CHECKS.get(result.number)
    return known[0] if known else result.name.replace("_", " ").capitalize()
