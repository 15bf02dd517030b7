"""Runs, live: for operators and auditors all of them, for a site those on its contributions."""

from datetime import datetime

from django.contrib import messages
from django.db import connection, transaction
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution, Evidence
from governance.releases.models import Candidate
from jobs import estimates, health, logs, services, workers
from jobs import evaluate as evaluation
from jobs import pretrain as pretraining
from jobs.forms import CancelForm, FaultForm, PretrainForm, RetryForm, gpu_types
from jobs.lifecycle import ACTIVE, LIVE, Code, Status
from jobs.models import Run, RunEvent
from portal import charts
from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.errors import NotAllowed
from portal.programmes.models import Programme

CORPORA_LOCK = 0x63727061  # advisory: the name of a corpus counts those before it
LOG_LINES = 200
LOG_PAGE = 1000
FILTERS = ("status", "kind", "queue", "gpu_type", "code", "worker", "institution")
WAITING = {ContributionStatus.SUBMITTED, ContributionStatus.VALIDATING}  # a run is about to exist


def require(request: SignedInRequest, *roles: str) -> None:
    """Raise NotAllowed where the person holds none of these roles."""
    if not accounts.has_role(request.user, *roles):
        raise NotAllowed("This is for the consortium's operators.")


@require_GET
def list_(request: SignedInRequest) -> HttpResponse:
    """Show the newest runs, filtered by state and kind in the address."""
    require(request, "operator", "auditor", "chair")
    runs = Run.objects.visible_to(request.user).select_related("requested_by", "institution", "worker")
    filters = {field: _given(request, field) for field in FILTERS}
    now = timezone.now()
    wanted = {field: value for field, value in filters.items() if value}
    if any(not wanted[field].isdecimal() for field in ("worker", "institution") if field in wanted):
        runs, wanted = runs.none(), {}
    runs = runs.filter(**wanted)
    if request.GET.get("stuck"):
        runs = runs.filter(pk__in=[run.pk for run in health.stuck(now=now)])
    context = {
        "rows": [{"run": run, **_clocks(run, now)} for run in runs[:100]],
        "totals": _totals(),
        "filters": filters,
        "query": request.GET.urlencode(),
        "statuses": Status.choices,
        "kinds": Run.Kind.choices,
        "queues": Run.Queue.choices,
        "gpu_types": gpu_types()[1:],
        "codes": Code.choices,
        "stuck": request.GET.get("stuck", ""),
        "may_start": accounts.has_role(request.user, "operator"),
    }
    return render(request, "jobs/_run_rows.html" if request.htmx else "jobs/run_list.html", context)


def _totals() -> dict[str, int]:
    """Return how many runs are queued, active, succeeded and stopped."""
    found = dict(Run.objects.values_list("status").annotate(n=Count("pk")))
    groups = {"queued": [Status.QUEUED], "active": ACTIVE, "succeeded": [Status.SUCCEEDED]}
    totals = {name: sum(found.get(status, 0) for status in group) for name, group in groups.items()}
    return {**totals, "stopped": sum(found.values()) - sum(totals.values())}


def _clocks(run: Run, now: datetime) -> dict[str, float | None]:
    """Return how long a run has waited, has run, and has been silent, in seconds; None where that means nothing."""
    end = run.finished_at or now
    silent = (now - run.heartbeat_at).total_seconds() if run.heartbeat_at and run.status in ACTIVE else None
    return {
        "waited": ((run.started_at or end) - run.created_at).total_seconds(),
        "ran": (end - run.started_at).total_seconds() if run.started_at else None,
        "silent": silent,
        "is_silent": silent is not None and silent > workers.SILENT_AFTER.total_seconds(),
    }


def _fragment(request: SignedInRequest, run: Run, *, refresh_url: str) -> dict[str, object]:
    """Return what the living part of a page shows; `refresh_url` is where it fetches itself again."""
    now = timezone.now()
    return {
        "run": run,
        **_clocks(run, now),
        "refresh_url": refresh_url,
        "is_live": run.status in LIVE,
        "place": estimates.place(run, now=now) if run.status == Status.QUEUED else None,
        "max_faults": services.MAX_FAULTS,
        "log": list(run.log.order_by("-seq")[:LOG_LINES])[::-1],
        "events": _events(run, names_workers=accounts.is_auditor(request.user)),
        "may_cancel": run.status in LIVE and accounts.has_role(request.user, "operator"),
        "may_mark": run.status == Status.FAILED_INPUT and accounts.has_role(request.user, "operator"),
        "may_retry": services.may_retry(run) and accounts.has_role(request.user, "operator"),
    }


def _events(run: Run, *, names_workers: bool) -> list[RunEvent]:
    """Return the transitions, newest first. Which machine claimed a run is not a site's business."""
    events = list(run.events.order_by("-pk"))
    for event in events:
        if event.status == Status.LEASED and not names_workers:
            event.note = ""
    return events


@require_GET
def show(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show a run: state, progress, log, transitions, inputs."""
    rows = Run.objects.visible_to(request.user).select_related("requested_by", "worker", "retry_of", "institution")
    run = get_object_or_404(rows, pk=pk)
    context = _fragment(request, run, refresh_url=reverse("jobs:status", args=[run.pk]))
    context |= {
        "subject_url": _subject_url(run),
        "names_workers": accounts.is_auditor(request.user),
        "artefacts": _artefacts(run),
        "strip": _strip(run),
        "retries": run.retries.order_by("pk"),
        "same_result": _same_result(run),
    }
    return render(request, "jobs/run_show.html", context)


def _artefacts(run: Run) -> list[dict[str, str]]:
    """Return what the run has made: the evidence of a check, the weights of a training."""
    if run.kind == Run.Kind.VALIDATE:
        rows = Evidence.objects.filter(run_id=run.pk, attempt=run.attempt).order_by("name")
        return [{"name": row.name, "sha256": row.sha256} for row in rows]
    if run.kind == Run.Kind.PRETRAIN:
        made = Candidate.objects.filter(run_id=run.pk)
        return [{"name": f"{row.slug}.safetensors", "sha256": row.sha256} for row in made]
    return []


def _strip(run: Run) -> SafeString:
    """Draw what the newest attempt has used."""
    samples = list(run.samples.filter(attempt=run.attempt))
    if len(samples) < 2:
        return SafeString("")
    lines = [(_("Processor, % of one core"), [row.cpu_percent for row in samples], 100.0)]
    lines.append((_("Memory, GiB"), [row.memory_bytes / 2**30 for row in samples], 1.0))
    if samples[-1].gpu_percent is not None:
        lines.append((_("GPU, %"), [row.gpu_percent or 0.0 for row in samples], 100.0))
        lines.append((_("GPU memory, GiB"), [(row.gpu_memory_bytes or 0) / 2**30 for row in samples], 1.0))
    return charts.strips(lines)


def _same_result(run: Run) -> bool | None:
    """Test if a run found what the run it repeats had found; None where one of them found nothing."""
    before = run.retry_of.result_sha256 if run.retry_of else ""
    return run.result_sha256 == before if before and run.result_sha256 else None


@require_GET
def log(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show the log from line `since` on, or the lines that hold `q`."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    since, holding = _number(request.GET.get("since", "")), _given(request, "q")
    found = list(logs.lines(run, since=since, holding=holding)[: LOG_PAGE + 1])
    context = {"run": run, "lines": found[:LOG_PAGE], "since": since, "q": holding}
    context["next_since"] = found[LOG_PAGE - 1].seq if len(found) > LOG_PAGE else 0
    return render(request, "jobs/run_log.html", context)


@require_GET
def log_text(request: SignedInRequest, pk: int) -> HttpResponse:
    """Send the log from line `since` on as a file: what a program that was away has missed."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    text = logs.as_text(logs.lines(run, since=_number(request.GET.get("since", ""))))
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="run-{run.pk}.log"'
    return response


def _given(request: SignedInRequest, name: str) -> str:
    """Return what the address says, without NUL, which PostgreSQL takes in no text."""
    return request.GET.get(name, "")[:100].replace("\0", "")


def _number(text: str) -> int:
    return int(text[:9]) if text.isdecimal() else 0


def _subject_url(run: Run) -> str:
    """Return the page of what the run works on, or an empty string where it has none."""
    if run.kind == Run.Kind.VALIDATE:
        return reverse("contributions:show", args=[run.subject_id])
    if run.kind == Run.Kind.INSPECT:
        return reverse("ops:storage")
    return reverse("benchmarks:leaderboard") if run.kind == Run.Kind.EVALUATE else ""


@require_GET
def status(request: SignedInRequest, pk: int) -> HttpResponse:
    """Answer the fragment that a page swaps while the run lives."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    context = _fragment(request, run, refresh_url=reverse("jobs:status", args=[run.pk]))
    return render(request, "jobs/_run_status.html", context)


@require_GET
def of_contribution(request: SignedInRequest, pk: int) -> HttpResponse:
    """Answer the fragment of the newest check run of a contribution; lead to the run's page without JavaScript."""
    contribution = get_object_or_404(Contribution.objects.visible_to(request.user), pk=pk)
    run = Run.objects.visible_to(request.user).filter(kind=Run.Kind.VALIDATE, subject_id=contribution.pk).first()
    if not request.htmx:
        return redirect(run or contribution)
    refresh_url = reverse("jobs:of_contribution", args=[contribution.pk])
    if run is None:
        context = {"contribution": contribution, "refresh_url": refresh_url, "is_live": contribution.status in WAITING}
        return render(request, "jobs/_run_none.html", context)
    return render(request, "jobs/_run_status.html", _fragment(request, run, refresh_url=refresh_url))


def cancel(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask, then cancel a run."""
    require(request, "operator")
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    if run.status not in LIVE:
        messages.info(request, f"{run} has ended already.")
        return redirect(run)
    form = CancelForm(request.POST or None)
    if not form.is_valid():
        return render(request, "jobs/run_cancel.html", {"run": run, "form": form}, status=422 if form.errors else 200)
    services.cancel(run, reason=form.cleaned_data["reason"], by=request.user, now=timezone.now())
    messages.success(request, f"{run} stops within a few seconds.")
    return redirect(run)


def retry(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask why and on what, then start a run again."""
    require(request, "operator")
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    form = RetryForm(request.POST or None, run=run)
    if not form.is_valid():
        return render(request, "jobs/run_retry.html", {"run": run, "form": form}, status=422 if form.errors else 200)
    again = services.retry(
        run, reason=form.cleaned_data["reason"], by=request.user, now=timezone.now(), **form.wanted()
    )
    messages.success(request, f"Started again as {again}.")
    return redirect(again)


def fault(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask what was wrong, then mark a run that refused its input as a fault of the platform and start it again."""
    require(request, "operator")
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    form = FaultForm(request.POST or None)
    if not form.is_valid():
        return render(request, "jobs/run_fault.html", {"run": run, "form": form}, status=422 if form.errors else 200)
    again = services.mark_fault(run, reason=form.cleaned_data["reason"], by=request.user, now=timezone.now())
    messages.success(request, f"{run} counts as a fault of the platform. Started again as {again}.")
    return redirect(again)


@require_POST
def evaluate(request: SignedInRequest, slug: str) -> HttpResponse:
    """Queue the evaluation of a candidate."""
    require(request, "operator")
    return redirect(evaluation.queue(get_object_or_404(Candidate, slug=slug), by=request.user))


def pretrain(request: SignedInRequest) -> HttpResponse:
    """Compose a corpus, freeze it, and queue the training of an encoder on it."""
    require(request, "operator")
    programmes = Programme.objects.filter(datasets__isnull=False).distinct().order_by("pk")
    wanted = _given(request, "programme")
    programme = get_object_or_404(programmes, slug=wanted) if wanted else programmes.first()
    form = PretrainForm(request.POST or None, programme=programme, now=timezone.now())
    if form.is_valid():
        return redirect(_start(form.cleaned_data, request))
    context = {"form": form, "programme": programme, "programmes": programmes}
    return render(request, "jobs/pretrain.html", context, status=422 if form.errors else 200)


@transaction.atomic
def _start(wanted: dict, request: SignedInRequest) -> Run:
    """Make the corpus and the run together, so that neither stays behind alone."""
    now, dataset, seed = timezone.now(), wanted["dataset"], wanted["seed"]
    with connection.cursor() as cursor:  # of two at this moment the second counts what the first has made
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CORPORA_LOCK])
    slug = slugify(wanted["name"])[:40] + f"-{Candidate.objects.count() + Corpus.objects.count()}"
    corpus = corpora.draft_corpus(
        dataset.programme, slug=slug, title=f"Corpus of {wanted['name']}", by=request.user, now=now
    )
    corpora.add_dataset(corpus, dataset, image_count=dataset.train_count, by=request.user)
    for contribution in wanted["generators"]:
        corpora.add_generator(
            corpus, contribution, image_count=wanted["images_per_generator"], seed=seed, now=now, by=request.user
        )
    corpus = corpora.freeze(corpus, by=request.user, now=now)
    on_gpus = {"gpu_type": wanted["gpu_type"], "gpu_count": wanted["processes"]} if wanted["gpu_type"] else {}
    return pretraining.queue(
        corpus, slug=slug, name=wanted["name"], description="", steps=wanted["steps"], seed=seed,
        processes=wanted["processes"], by=request.user, **on_gpus,
    )  # fmt: skip
