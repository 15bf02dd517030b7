"""Runs, live: for operators and auditors all of them, for a site those on its contributions."""

from datetime import datetime

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_POST

from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution
from governance.releases.models import Candidate
from jobs import evaluate as evaluation
from jobs import pretrain as pretraining
from jobs import services
from jobs.forms import PretrainForm
from jobs.lifecycle import ACTIVE, LIVE, Status
from jobs.models import Run, RunEvent
from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.errors import NotAllowed

LOG_LINES = 200
FILTERS = ("status", "kind", "queue")
WAITING = {ContributionStatus.SUBMITTED, ContributionStatus.VALIDATING}  # a run is about to exist


def _require(request: SignedInRequest, *roles: str) -> None:
    if not accounts.has_role(request.user, *roles):
        raise NotAllowed("This is for the consortium's operators.")


@require_GET
def list_(request: SignedInRequest) -> HttpResponse:
    """Show the newest runs, filtered by state and kind in the address."""
    _require(request, "operator", "auditor", "chair")
    runs = Run.objects.visible_to(request.user).select_related("requested_by")
    filters = {field: request.GET.get(field, "") for field in FILTERS}
    runs = runs.filter(**{field: value for field, value in filters.items() if value})
    now = timezone.now()
    context = {
        "rows": [{"run": run, **_clocks(run, now)} for run in runs[:100]],
        "totals": services.counts(),
        "filters": filters,
        "query": request.GET.urlencode(),
        "statuses": Status.choices,
        "kinds": Run.Kind.choices,
        "queues": Run.Queue.choices,
        "may_start": accounts.has_role(request.user, "operator"),
    }
    return render(request, "jobs/_run_rows.html" if request.htmx else "jobs/run_list.html", context)


def _clocks(run: Run, now: datetime) -> dict[str, float | None]:
    """Return how long a run has waited, has run, and has been silent, in seconds; None where that means nothing."""
    end = run.finished_at or now
    silent = (now - run.heartbeat_at).total_seconds() if run.heartbeat_at and run.status in ACTIVE else None
    return {
        "waited": ((run.started_at or end) - run.created_at).total_seconds(),
        "ran": (end - run.started_at).total_seconds() if run.started_at else None,
        "silent": silent,
        "is_silent": silent is not None and silent > services.LEASE.total_seconds(),
    }


def _fragment(request: SignedInRequest, run: Run, *, refresh_url: str) -> dict[str, object]:
    """Return what the living part of a page shows; `refresh_url` is where it fetches itself again."""
    now = timezone.now()
    return {
        "run": run,
        **_clocks(run, now),
        "refresh_url": refresh_url,
        "is_live": run.status in LIVE,
        "position": services.position(run) if run.status == Status.QUEUED else 0,
        "max_attempts": services.MAX_ATTEMPTS,
        "log": list(run.log.order_by("-seq")[:LOG_LINES])[::-1],
        "events": _events(run, names_workers=accounts.is_auditor(request.user)),
        "may_cancel": run.status in LIVE and accounts.has_role(request.user, "operator"),
        "may_retry": run.status in services.RETRIED and accounts.has_role(request.user, "operator"),
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
    run = get_object_or_404(Run.objects.visible_to(request.user).select_related("requested_by"), pk=pk)
    context = _fragment(request, run, refresh_url=reverse("jobs:status", args=[run.pk]))
    return render(request, "jobs/run_show.html", {**context, "subject_url": _subject_url(run)})


def _subject_url(run: Run) -> str:
    """Return the page of what the run works on, or an empty string where it has none."""
    if run.kind == Run.Kind.VALIDATE:
        return reverse("contributions:show", args=[run.subject_id])
    return reverse("benchmarks:leaderboard") if run.kind == Run.Kind.EVALUATE else ""


@require_GET
def status(request: SignedInRequest, pk: int) -> HttpResponse:
    """Answer the fragment that a page swaps while the run lives."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    context = _fragment(request, run, refresh_url=reverse("jobs:status", args=[run.pk]))
    return render(request, "jobs/_run_status.html", context)


@require_GET
def of_contribution(request: SignedInRequest, pk: int) -> HttpResponse:
    """Answer the fragment of the newest check run of a contribution."""
    contribution = get_object_or_404(Contribution.objects.visible_to(request.user), pk=pk)
    run = Run.objects.filter(kind=Run.Kind.VALIDATE, subject_id=contribution.pk).first()
    refresh_url = reverse("jobs:of_contribution", args=[contribution.pk])
    if run is None:
        context = {"contribution": contribution, "refresh_url": refresh_url, "is_live": contribution.status in WAITING}
        return render(request, "jobs/_run_none.html", context)
    return render(request, "jobs/_run_status.html", _fragment(request, run, refresh_url=refresh_url))


def cancel(request: SignedInRequest, pk: int) -> HttpResponse:
    """Ask, then cancel a run."""
    _require(request, "operator")
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    if run.status not in LIVE:
        messages.info(request, f"{run} has ended already.")
        return redirect(run)
    if request.method != "POST":
        return render(request, "jobs/run_cancel.html", {"run": run})
    services.cancel(run, by=request.user, now=timezone.now())
    messages.success(request, f"{run} stops within a few seconds.")
    return redirect(run)


@require_POST
def retry(request: SignedInRequest, pk: int) -> HttpResponse:
    """Start a stopped run again."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    again = services.retry(run, by=request.user, now=timezone.now())
    messages.success(request, f"Started again as {again}.")
    return redirect(again)


@require_POST
def evaluate(request: SignedInRequest, slug: str) -> HttpResponse:
    """Queue the evaluation of a candidate."""
    _require(request, "operator")
    return redirect(evaluation.queue(get_object_or_404(Candidate, slug=slug), by=request.user))


def pretrain(request: SignedInRequest) -> HttpResponse:
    """Compose a corpus, freeze it, and queue the training of an encoder on it."""
    _require(request, "operator")
    form = PretrainForm(request.POST or None)
    if form.is_valid():
        return redirect(_start(form.cleaned_data, request))
    return render(request, "jobs/pretrain.html", {"form": form}, status=422 if form.errors else 200)


@transaction.atomic
def _start(wanted: dict, request: SignedInRequest) -> Run:
    """Make the corpus and the run together, so that neither stays behind alone."""
    now, dataset, seed = timezone.now(), wanted["dataset"], wanted["seed"]
    slug = slugify(wanted["name"])[:40] + f"-{Candidate.objects.count() + Corpus.objects.count()}"
    corpus = corpora.draft_corpus(
        dataset.programme, slug=slug, title=f"Corpus of {wanted['name']}", by=request.user, now=now
    )
    corpora.add_dataset(corpus, dataset, image_count=dataset.train_count)
    for contribution in wanted["generators"]:
        corpora.add_generator(corpus, contribution, image_count=wanted["images_per_generator"], seed=seed)
    corpus = corpora.freeze(corpus, by=request.user, now=now)
    return pretraining.queue(
        corpus, slug=slug, name=wanted["name"], description="", steps=wanted["steps"], seed=seed, by=request.user
    )
