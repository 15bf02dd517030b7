"""What the checks said: results and evidence. Sites wrote some of it, so what PostgreSQL cannot hold is replaced."""

import hashlib
import math
from typing import Any

from django.db import transaction

from contributions.models import CheckResult, Contribution, Evidence
from portal import storage
from portal.live import announce

MAX_TEXT = 4_000


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
