"""Benchmark tasks and recorded evaluations."""

from datetime import datetime
from typing import Any

from django.db import transaction

from contributions.corpora.models import DataSet
from governance.benchmarks.models import Evaluation, Task
from governance.releases.models import Candidate
from portal.accounts.models import User
from portal.audit import services as audit


@transaction.atomic
def register_task(
    dataset: DataSet,
    *,
    slug: str,
    name: str,
    label: str,
    protocol: dict[str, Any],
    position: int,
    by: User | None,
    now: datetime,
) -> Task:
    """Register a disease question on a frozen data set."""
    task = Task.objects.create(
        programme=dataset.programme,
        dataset=dataset,
        slug=slug,
        name=name,
        label=label,
        protocol=protocol,
        position=position,
        registered_at=now,
    )
    audit.record("task.registered", task, by=by, dataset_sha256=dataset.manifest_sha256)
    return task


@transaction.atomic
def adopt(task_id: int, *, by: User | None, now: datetime) -> Task:
    """Adopt a task into the benchmark, as the board decided."""
    task = Task.objects.select_for_update().get(pk=task_id)
    task.adopted_at = now
    task.save(update_fields=["adopted_at"])
    audit.record("task.adopted", task, by=by)
    return task


@transaction.atomic
def record_evaluation(
    task: Task, candidate: Candidate, *, run_id: int, report: dict[str, Any], now: datetime
) -> Evaluation:
    """Keep the kit's report of one candidate on one task. Recording the same run again changes nothing."""
    overall = report["overall"] or {"n": 0, "n_positive": 0}  # no labelled data is an answer too
    evaluation, created = Evaluation.objects.get_or_create(
        task=task,
        candidate=candidate,
        run_id=run_id,
        defaults={
            "dataset_sha256": task.dataset.manifest_sha256,
            "candidate_sha256": candidate.sha256,
            "n": overall["n"],
            "n_positive": overall["n_positive"] or 0,  # None in a cell that is too small to show
            "auroc": overall.get("auroc"),
            "low": overall.get("low"),
            "high": overall.get("high"),
            "report": report,
            "recorded_at": now,
        },
    )
    if created:
        audit.record("evaluation.recorded", evaluation, by=None, run=run_id, auroc=overall.get("auroc"))
    return evaluation


def latest(candidate: Candidate, *, until: datetime | None = None) -> list[Evaluation]:
    """Return the newest evaluation of a candidate on each task, today or at a moment, in the tasks' order."""
    rows = candidate.evaluations.select_related("task__dataset").order_by("task_id", "-run_id").distinct("task_id")
    if until is not None:
        rows = rows.filter(recorded_at__lte=until)
    return sorted(rows, key=lambda row: (row.task.position, row.task_id))
