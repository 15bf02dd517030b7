"""Runs, live: for operators and auditors all of them, for a site those on its contributions."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_POST

from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus
from contributions.models import Contribution
from governance.releases.models import Candidate
from jobs import evaluate as evaluation
from jobs import pretrain as pretraining
from jobs import services
from jobs.forms import PretrainForm
from jobs.lifecycle import LIVE
from jobs.models import Run
from portal.accounts import services as accounts
from portal.errors import NotAllowed

LOG_LINES = 200


def _require(request: HttpRequest, *roles: str) -> None:
    if not accounts.has_role(request.user, *roles):
        raise NotAllowed("This is for the consortium's operators.")


@require_GET
def list_(request: HttpRequest) -> HttpResponse:
    """Show the newest runs, filtered by state and kind in the address."""
    _require(request, "operator", "auditor", "chair")
    runs = Run.objects.visible_to(request.user).select_related("requested_by")
    for field in ("status", "kind", "queue"):
        if request.GET.get(field):
            runs = runs.filter(**{field: request.GET[field]})
    context = {
        "runs": runs[:100],
        "totals": services.counts(),
        "filters": {field: request.GET.get(field, "") for field in ("status", "kind", "queue")},
        "statuses": Run._meta.get_field("status").choices,
        "kinds": Run.Kind.choices,
        "may_start": accounts.has_role(request.user, "operator"),
        "now": timezone.now(),
    }
    return render(request, "jobs/_run_rows.html" if request.htmx else "jobs/run_list.html", context)  # type: ignore[attr-defined]


def _context(request: HttpRequest, run: Run) -> dict[str, object]:
    last = run.log.order_by("-seq").first()
    return {
        "run": run,
        "is_live": run.status in LIVE,
        "position": services.position(run),
        "log": run.log.filter(seq__gt=(last.seq if last else 0) - LOG_LINES),
        "may_cancel": run.status in LIVE and accounts.has_role(request.user, "operator"),
        "now": timezone.now(),
    }


@require_GET
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a run: state, progress, log, transitions, inputs."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    return render(request, "jobs/run_show.html", {**_context(request, run), "events": run.events.all()})


@require_GET
def status(request: HttpRequest, pk: int) -> HttpResponse:
    """Answer the fragment that a page swaps while the run lives."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    return render(request, "jobs/_run_status.html", {**_context(request, run), "events": run.events.all()})


@require_GET
def of_contribution(request: HttpRequest, pk: int) -> HttpResponse:
    """Answer the fragment of the newest check run of a contribution."""
    contribution = get_object_or_404(Contribution.objects.visible_to(request.user), pk=pk)
    run = Run.objects.filter(kind=Run.Kind.VALIDATE, subject_id=contribution.pk).first()
    if run is None:
        return render(request, "jobs/_run_none.html", {"contribution": contribution})
    return render(request, "jobs/_run_status.html", {**_context(request, run), "events": run.events.all()})


@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Cancel a run."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    services.cancel(run, by=request.user, now=timezone.now())
    messages.success(request, f"{run} stops within a few seconds.")
    return redirect(run)


@require_POST
def evaluate(request: HttpRequest, slug: str) -> HttpResponse:
    """Queue the evaluation of a candidate."""
    _require(request, "operator")
    return redirect(evaluation.queue(get_object_or_404(Candidate, slug=slug), by=request.user))


def pretrain(request: HttpRequest) -> HttpResponse:
    """Compose a corpus, freeze it, and queue the training of an encoder on it."""
    _require(request, "operator")
    form = PretrainForm(request.POST or None)
    if form.is_valid():
        return redirect(_start(form.cleaned_data, request))
    return render(request, "jobs/pretrain.html", {"form": form})


@transaction.atomic
def _start(wanted: dict, request: HttpRequest) -> Run:
    """Make the corpus and the run together, so that neither stays behind alone."""
    now, dataset, seed = timezone.now(), wanted["dataset"], wanted["seed"]
    slug = slugify(wanted["name"])[:40] + f"-{Candidate.objects.count() + Corpus.objects.count()}"
    corpus = corpora.draft_corpus(
        dataset.programme, slug=slug, title=f"Corpus of {wanted['name']}", by=request.user, now=now
    )
    corpora.add_dataset(corpus, dataset, image_count=dataset.train_count)
    for contribution in wanted["generators"]:
        corpora.add_generator(corpus, contribution, image_count=wanted["images_per_generator"], seed=seed)
    corpora.freeze(corpus, by=request.user, now=now)
    return pretraining.queue(
        corpus, slug=slug, name=wanted["name"], description="", steps=wanted["steps"], seed=seed, by=request.user
    )
