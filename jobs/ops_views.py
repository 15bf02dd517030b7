"""What operators watch and auditors read: workers and queues, machine time, health, the read-only switch, metrics."""

import secrets
from datetime import datetime, timedelta
from statistics import median

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from prometheus_client import CONTENT_TYPE_LATEST

from jobs import estimates, health, ledger, maintenance, metrics, workers
from jobs.forms import HOUR, BudgetForm, MaintenanceForm
from jobs.lifecycle import ACTIVE, LIVE, Status
from jobs.models import Maintenance, Run, Worker
from jobs.views import require
from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.errors import NotAllowed
from portal.spreadsheet import answer

READERS = ("operator", "auditor", "chair")
FORGOTTEN_AFTER = timedelta(days=7)  # a place that nobody has taken for so long is not listed


@require_GET
def workers_list(request: SignedInRequest) -> HttpResponse:
    """Show each queue and each worker."""
    require(request, *READERS)
    now = timezone.now()
    rows = Worker.objects.filter(seen_at__gt=now - FORGOTTEN_AFTER)
    held = {run.worker_id: run for run in Run.objects.filter(status__in=ACTIVE)}
    context = {
        "rows": [{"worker": row, "run": held.get(row.pk), "state": _state(row, held, now)} for row in rows],
        "queues": _queues(now),
        "may_drain": accounts.has_role(request.user, "operator"),
    }
    return render(request, "jobs/_workers.html" if request.htmx else "jobs/workers.html", context)


def _state(worker: Worker, held: dict, now: datetime) -> tuple[str, str]:
    """Return the tone and the word of a worker's state."""
    if worker.stopped_at is not None:
        return "ended", _("Stopped")
    if worker.seen_at < now - workers.SILENT_AFTER:
        return "bad", _("Silent")
    if worker.draining_at is not None:
        return "warn", _("Draining") if worker.pk in held else _("Drained")
    return ("active", _("At work")) if worker.pk in held else ("good", _("Idle"))


def _queues(now: datetime) -> list[dict[str, object]]:
    """Return how each queue does, and in it each type of GPU that a run asks for or a worker has."""
    asked = Run.objects.filter(status__in=LIVE).exclude(gpu_type="").values_list("queue", "gpu_type")
    there = workers.living(now=now).exclude(gpu_type="").values_list("queues", "gpu_type")
    types = {*asked, *((queue, gpu_type) for queues, gpu_type in there for queue in queues)}
    return [_queue(*pair, now) for pair in sorted({*((queue, "") for queue in Run.Queue.values), *types})]


def _queue(queue: str, gpu_type: str, now: datetime) -> dict[str, object]:
    """Return how one does: waiting, at work, workers, the median wait of the last day, when the next begins."""
    runs = Run.objects.filter(queue=queue, gpu_type=gpu_type)
    begun = runs.filter(started_at__gt=now - timedelta(days=1)).annotate(waited=F("started_at") - F("created_at"))
    waits = [run.waited.total_seconds() for run in begun]
    waiting = runs.filter(status=Status.QUEUED).order_by("-priority", "pk")
    living = workers.living(now=now).filter(queues__contains=[queue], draining_at=None)
    following = waiting.first()
    return {
        "name": queue,
        "gpu_type": gpu_type,
        "waiting": waiting.count(),
        "active": runs.filter(status__in=ACTIVE).count(),
        "workers": (living.filter(gpu_type=gpu_type) if gpu_type else living).count(),
        "median_wait": median(waits) if waits else None,
        "next": estimates.place(following, now=now) if following else None,
    }


@require_POST
def drain(request: SignedInRequest, pk: int) -> HttpResponse:
    """Let a worker take nothing more, or let it take runs again."""
    require(request, "operator")
    worker = get_object_or_404(Worker, pk=pk)
    on = request.POST.get("on") == "1"
    workers.drain(worker, on=on, by=request.user, now=timezone.now())
    sentence = (
        _("%(worker)s finishes what it holds and takes nothing more.") if on else _("%(worker)s takes runs again.")
    )
    messages.success(request, sentence % {"worker": worker})
    return redirect("jobs:workers")


def ledger_page(request: SignedInRequest) -> HttpResponse:
    """Show what was used this month; operators set budgets."""
    require(request, *READERS)
    now, may_set = timezone.now(), accounts.has_role(request.user, "operator")
    form = BudgetForm(request.POST or None)
    if request.method == "POST":
        require(request, "operator")
        if form.is_valid():
            wanted, hours = form.cleaned_data, form.cleaned_data["gpu_hours"]
            seconds = None if hours is None else round(hours * HOUR)
            ledger.set_budget(wanted["programme"], gpu_seconds=seconds, by=request.user, now=now)
            messages.success(request, _("The budget is set.") if hours is not None else _("The budget is lifted."))
            return redirect("jobs:ledger")
    context = {"lines": ledger.lines(now=now), "month": ledger.month_of(now), "form": form, "may_set": may_set}
    return render(request, "jobs/ledger.html", context, status=422 if form.errors else 200)


@require_GET
def ledger_csv(request: SignedInRequest) -> StreamingHttpResponse:
    """Send the ledger of this month as a table."""
    require(request, *READERS)
    now = timezone.now()
    header = ["month", "programme", "institution", "attempts", "seconds", "gpu_seconds", "budget_gpu_seconds"]
    rows = [
        [f"{now:%Y-%m}", line.programme, line.institution, line.attempts, round(line.seconds, 1),
         round(line.gpu_seconds, 1), "" if line.budget is None else line.budget]
        for line in ledger.lines(now=now)
    ]  # fmt: skip
    return answer("machine-time", header, rows)


@require_GET
@never_cache
def health_page(request: SignedInRequest) -> HttpResponse:
    """Say what is wrong, in words; as JSON where a program asks."""
    require(request, *READERS)
    found = health.findings(now=timezone.now())
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse({"findings": [vars(finding) for finding in found]})
    return render(request, "jobs/health.html", {"findings": found, "checked_at": timezone.now()})


def maintenance_page(request: SignedInRequest) -> HttpResponse:
    """Make the site read-only, or open it again."""
    require(request, "operator")
    row, now = Maintenance.objects.filter(is_on=True).first(), timezone.now()
    if request.method == "POST" and request.POST.get("open"):
        maintenance.switch(on=False, by=request.user, now=now)
        messages.success(request, _("The site is open again."))
        return redirect("ops:maintenance")
    form = MaintenanceForm(request.POST or None)
    if form.is_valid():
        maintenance.switch(on=True, message=form.cleaned_data["message"], by=request.user, now=now)
        return redirect("ops:maintenance")
    return render(request, "jobs/maintenance.html", {"row": row, "form": form}, status=422 if form.errors else 200)


@require_GET
@login_not_required
def metrics_page(request: HttpRequest) -> HttpResponse:
    """Send the metrics to who shows METRICS_TOKEN, and to signed-in operators and auditors."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    token = settings.METRICS_TOKEN
    is_known = bool(token) and secrets.compare_digest(given.encode(), token.encode())
    if not is_known and not (request.user.is_authenticated and accounts.has_role(request.user, *READERS)):
        raise NotAllowed("Metrics are for operators, and for who shows the token of METRICS_TOKEN.")
    return HttpResponse(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)
