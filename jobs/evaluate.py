"""Evaluating a candidate on every benchmark task of its programme."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from contributions.corpora.models import DataSet
from governance.benchmarks import services as benchmarks
from governance.benchmarks.models import Task
from governance.releases.models import Candidate
from jobs import cache, services
from jobs.engine import Attempt, InputRefused
from jobs.kit import dataset, encoder
from jobs.kit import evaluate as kit
from jobs.kit.fit import choose_device
from jobs.models import Run
from portal.accounts.models import User
from portal.institutions.countries import countries

TIMES = {"seconds", "versions"}  # of a report: what differs from one machine to the next


def evaluate(attempt: Attempt) -> None:
    """Evaluate the candidate that the run names and record one evaluation per task."""
    run = attempt.run
    candidate = Candidate.objects.get(pk=run.subject_id)
    tasks = _tasks(run, candidate)
    model = _load(candidate)
    reports = [
        (task, report)
        for data in {task.dataset for task in tasks}
        for task, report in _on(attempt, model, data, [task for task in tasks if task.dataset_id == data.pk])
    ]
    with services.fenced(run):
        for task, report in reports:
            benchmarks.record_evaluation(task, candidate, run_id=run.pk, report=report, now=services.now())
        found = {task.slug: {key: report[key] for key in report if key not in TIMES} for task, report in reports}
        services.succeed(run, result_sha256=services.digest(found), now=services.now())


def _tasks(run: Run, candidate: Candidate) -> list[Task]:
    """Return the tasks that the inputs of the run name: with others, its result would not be that of its inputs."""
    named = run.inputs["tasks"]
    tasks = list(_of_programme(candidate).filter(slug__in=named))
    if not tasks:
        raise InputRefused(f"{candidate.programme} has no benchmark task. Register one, then evaluate again.")
    if changed := [task.name for task in tasks if _frozen(task) != named[task.slug]]:
        verb = "has" if len(changed) == 1 else "have"
        raise InputRefused(f"{', '.join(changed)} {verb} changed since this evaluation was asked for. Evaluate again.")
    return tasks


def _of_programme(candidate: Candidate) -> QuerySet[Task]:
    return Task.objects.filter(programme=candidate.programme).select_related("dataset")


def _frozen(task: Task) -> list[str]:
    """Return what a task's figures follow from, beside the encoder."""
    return [task.dataset.sha256, services.digest(task.protocol)]


def _load(candidate: Candidate) -> encoder.Encoder:
    if candidate.kind == Candidate.Kind.BASELINE:
        return encoder.efficientnet_lite0()
    return encoder.load_encoder(encoder_folder(candidate))


def encoder_folder(candidate: Candidate) -> Path:
    """Return a folder with config.json and model.safetensors of a trained candidate, as the kit reads it."""
    folder = settings.DATA_DIR / "cache" / f"candidate-{candidate.pk}-{candidate.sha256}"
    folder.mkdir(parents=True, exist_ok=True)
    cache.link(folder / "model.safetensors", cache.fetch(candidate.storage_key, candidate.sha256))
    cache.write(folder / "config.json", json.dumps(candidate.config["encoder"]))
    return folder


def _on(
    attempt: Attempt, model: encoder.Encoder, data: DataSet, tasks: list[Task]
) -> list[tuple[Task, dict[str, Any]]]:
    image_set = dataset.read_image_set(cache.fetch(data.storage_key, data.sha256))
    configs = [kit.TaskConfig(slug=task.slug, title=task.name, label=task.label, **task.protocol) for task in tasks]
    places = {record.column("country") for record in image_set.records}
    step = max(1, len(image_set.records) // 50)

    def report(done: int, total: int, text: str) -> None:
        if done % step == 0 or done == total:
            attempt.progress(done, total, text)

    device = choose_device("auto")
    attempt.log(f"Evaluating {model.name} on {len(image_set.records)} images of {data}, on {device}.")
    try:
        results = kit.evaluate_all(
            model,
            image_set,
            configs,
            region_of={place: region_name(place) for place in places},
            device=device,
            on_progress=report,
        )
    except kit.EvaluationError as error:  # the task and its data set stay as they are: again would be the same
        raise InputRefused(str(error)) from error
    return list(zip(tasks, results, strict=True))


def region_name(place: str) -> str:
    """Return the M49 sub-region of a country code, of several ("DE/CZ"), or "not stated"."""
    known = [countries()[code].subregion.name for code in place.split("/") if code in countries()]
    return " / ".join(dict.fromkeys(known)) or "not stated"


def queue(candidate: Candidate, *, by: User | None) -> Run:
    """Queue the evaluation of a candidate on all tasks."""
    inputs = {
        "candidate_sha256": candidate.sha256,
        "tasks": {task.slug: _frozen(task) for task in _of_programme(candidate).order_by("slug")},
    }
    return services.queue_run(
        Run.Kind.EVALUATE,
        candidate.pk,
        title=f"Evaluate {candidate}",
        inputs=inputs,
        by=by,
        now=services.now(),
        programme=candidate.programme,
    )
