"""Evaluating a candidate: which tasks a run measures, and the encoder's files on the worker's disk."""

import hashlib
import os

import pytest
from django.utils import timezone

from governance.benchmarks import services as benchmarks
from governance.benchmarks.models import Evaluation, Task
from governance.releases.models import Candidate
from jobs import cache, engine, evaluate, services
from jobs.models import Run
from tests import candidates

pytestmark = pytest.mark.services


@pytest.fixture
def candidate(programme) -> Candidate:
    return candidates.candidate(programme)


@pytest.fixture
def _measured(monkeypatch):
    """Every task has the figures of the first that the kit measured: only which tasks are asked for is real."""
    report = candidates.measured().reports[0]
    monkeypatch.setattr(evaluate, "_load", lambda candidate: candidates.encoder.efficientnet_lite0())
    monkeypatch.setattr(
        evaluate.kit, "evaluate_all", lambda model, image_set, configs, **more: [dict(report) for _ in configs]
    )


def executed(run: Run) -> Run:
    engine.execute(work={Run.Kind.EVALUATE: evaluate.evaluate})
    run.refresh_from_db()
    return run


def a_task(slug: str) -> Task:
    dataset = Task.objects.get(slug="dr").dataset
    return benchmarks.register_task(
        dataset, slug=slug, name=slug, label="bright", protocol={}, position=9, by=None, now=timezone.now()
    )


def measured_by(run: Run) -> set[str]:
    return set(Evaluation.objects.filter(run_id=run.pk).values_list("task__slug", flat=True))


@pytest.mark.usefixtures("_measured")
def test_a_run_measures_the_tasks_that_its_inputs_name(candidate, operator):
    first = executed(evaluate.queue(candidate, by=operator))
    a_task("glaucoma")
    again = executed(services.retry(first, reason="To compare.", by=operator, now=timezone.now()))
    assert (measured_by(first), measured_by(again)) == ({"dr", "amd"}, {"dr", "amd"})
    assert (again.inputs, again.result_sha256) == (first.inputs, first.result_sha256)
    assert measured_by(executed(evaluate.queue(candidate, by=operator))) == {"dr", "amd", "glaucoma"}


@pytest.mark.usefixtures("_measured")
def test_a_task_that_is_another_by_now_is_not_measured_in_its_place(candidate, operator):
    run = evaluate.queue(candidate, by=operator)
    Task.objects.filter(slug="dr").update(protocol={"protocol": "fixed-split"})
    run = executed(run)
    assert (run.status, measured_by(run)) == ("failed_input", set())
    assert run.error == "Diabetic retinopathy has changed since this evaluation was asked for. Evaluate again."


def test_a_worker_that_was_killed_leaves_no_piece_of_a_configuration(candidate):
    folder = evaluate.encoder_folder(candidate)
    whole = (folder / "config.json").read_text()
    (folder / "config.json").write_text(whole[:9])
    assert (evaluate.encoder_folder(candidate) / "config.json").read_text() == whole


def test_weights_that_were_damaged_on_the_disk_are_fetched_again(candidate):
    path = evaluate.encoder_folder(candidate) / "model.safetensors"
    path.write_bytes(b"damaged")
    os.utime(path, (1, 1))
    again = evaluate.encoder_folder(candidate) / "model.safetensors"
    assert hashlib.sha256(again.read_bytes()).hexdigest() == candidate.sha256


def test_what_is_whole_is_not_written_again(tmp_path):
    path = tmp_path / "config.json"
    cache.write(path, "{}")
    before = path.stat().st_ino
    cache.write(path, "{}")
    assert (path.stat().st_ino, path.read_text(), [one.name for one in tmp_path.iterdir()]) == (
        before,
        "{}",
        ["config.json"],
    )


@pytest.mark.usefixtures("_measured")
def test_a_task_that_does_not_fit_its_data_set_is_refused_once_with_the_reason(candidate, operator, monkeypatch):
    def refuse(*given, **more):
        raise evaluate.kit.EvaluationError("2 patients are on both sides.", fix="Split by patient.")

    monkeypatch.setattr(evaluate.kit, "evaluate_all", refuse)
    run = executed(evaluate.queue(candidate, by=operator))
    assert (run.status, run.error) == ("failed_input", "2 patients are on both sides. Split by patient.")
