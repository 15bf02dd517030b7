"""The leaderboard, and one evaluation in full."""

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from governance.benchmarks.models import Evaluation, Task
from governance.releases.models import Candidate
from portal.accounts import services as accounts


@login_not_required
@require_GET
def leaderboard(request: HttpRequest) -> HttpResponse:
    """Show every task with the newest evaluation of each candidate."""
    rows = Evaluation.objects.select_related("candidate", "task").prefetch_related("candidate__releases")
    newest = rows.order_by("task_id", "candidate_id", "-run_id")
    by_task: dict[int, list[Evaluation]] = {}
    for evaluation in newest.distinct("task_id", "candidate_id"):
        by_task.setdefault(evaluation.task_id, []).append(evaluation)
    tasks = Task.objects.select_related("dataset")
    context = {
        "boards": [_board(task, by_task.get(task.pk, [])) for task in tasks],
        "datasets": {task.dataset for task in tasks},
        "candidates": Candidate.objects.prefetch_related("releases").order_by("kind", "-pk"),
        "may_evaluate": accounts.has_role(request.user, "operator"),
        "may_propose": accounts.has_role(request.user, "operator", "chair"),
    }
    return render(request, "benchmarks/leaderboard.html", context)


def _board(task: Task, evaluations: list[Evaluation]) -> dict[str, Any]:
    rows = ranked(evaluations)
    cells = [{**row["evaluation"].cell, "value": row["evaluation"].candidate.name} for row in rows if row["rank"]]
    return {"task": task, "rows": rows, "cells": cells}


def ranked(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """
    Order evaluations of one task by AUROC and rank them without ranking noise.

    The rank is one more than the number of rows whose whole interval lies above this row's; rows of one rank are a
    tie. Rows without an AUROC come last and have no rank.
    """
    scored = sorted((row for row in evaluations if row.auroc is not None), key=lambda row: -(row.auroc or 0))
    ranks = [1 + sum((other.low or 0) > (row.high or 0) for other in scored) for row in scored]
    return [
        {"evaluation": row, "rank": rank, "is_tie": ranks.count(rank) > 1}
        for row, rank in zip(scored, ranks, strict=True)
    ] + [{"evaluation": row, "rank": None, "is_tie": False} for row in evaluations if row.auroc is None]


@login_not_required
@require_GET
def evaluation(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one evaluation: overall, per region and other subgroups, ROC, protocol, hashes."""
    rows = Evaluation.objects.select_related("task__dataset", "candidate")
    row = get_object_or_404(rows, pk=pk)
    context = {
        "evaluation": row,
        "report": row.report,
        "release": row.candidate.public_release,
        "datasets": [row.task.dataset],
    }
    return render(request, "benchmarks/evaluation_show.html", context)
