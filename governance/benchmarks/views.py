"""The leaderboard."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from governance.benchmarks.models import Evaluation, Task
from portal.accounts import services as accounts


@login_not_required
@require_GET
def leaderboard(request: HttpRequest) -> HttpResponse:
    """Show every task with the newest evaluation of each candidate; intervals that overlap the best are ties."""
    newest = Evaluation.objects.select_related("candidate__release", "task").order_by(
        "task_id", "candidate_id", "-run_id"
    )
    boards = [(task, _ranked(rows)) for task, rows in _by_task(newest.distinct("task_id", "candidate_id")).items()]
    may_run = accounts.has_role(request.user, "operator", "chair")
    return render(request, "benchmarks/leaderboard.html", {"boards": boards, "may_run": may_run})


def _by_task(rows: object) -> dict[Task, list[Evaluation]]:
    found: dict[Task, list[Evaluation]] = {task: [] for task in Task.objects.select_related("dataset", "programme")}
    for row in rows:  # type: ignore[attr-defined]
        found[row.task].append(row)
    return found


def _ranked(rows: list[Evaluation]) -> list[dict[str, object]]:
    """Order by AUROC; a row whose interval reaches the best estimate ties with the best: no ranking by noise."""
    scored = sorted((row for row in rows if row.auroc is not None), key=lambda row: row.auroc or 0, reverse=True)
    unscored = [{"evaluation": row, "ties_best": False} for row in rows if row.auroc is None]
    best = scored[0].low if scored else None
    return [{"evaluation": row, "ties_best": (row.high or 0) >= (best or 0)} for row in scored] + unscored


@login_not_required
@require_GET
def evaluation(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one evaluation: overall, per region and other subgroups, ROC, protocol, hashes."""
    row = get_object_or_404(Evaluation.objects.select_related("task__dataset", "candidate"), pk=pk)
    groups: dict[str, list[dict[str, object]]] = {}
    for cell in row.report.get("subgroups", []):
        groups.setdefault(cell["attribute"], []).append(cell)
    return render(
        request, "benchmarks/evaluation_show.html", {"evaluation": row, "groups": groups, "report": row.report}
    )
