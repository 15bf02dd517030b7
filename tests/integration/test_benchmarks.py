"""The benchmark: evaluations kept once, ranks without noise, the leaderboard and one evaluation in full."""

import re

import numpy as np
import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from governance.benchmarks import services as benchmarks
from governance.benchmarks import views
from governance.benchmarks.models import Evaluation
from governance.releases.models import Candidate
from jobs.kit import evaluate as kit
from jobs.kit import metrics
from portal.audit.models import AuditEvent
from tests import candidates, factories


@pytest.fixture
def candidate(programme) -> Candidate:
    row = candidates.candidate(programme, "Small encoder")
    candidates.evaluations(row)
    return row


@pytest.fixture
def evaluation(candidate) -> Evaluation:
    return candidate.evaluations.get(task__slug="dr")


def row(auroc: float | None, low: float | None = None, high: float | None = None) -> Evaluation:
    return Evaluation(candidate=Candidate(name=f"{auroc}"), auroc=auroc, low=low, high=high)


def test_the_report_is_kept_with_its_figures(evaluation):
    overall = candidates.measured().reports[0]["overall"]
    assert (evaluation.n, evaluation.auroc, evaluation.low) == (120, overall["auroc"], overall["low"])
    assert list(evaluation.groups) == ["region", "source"]
    assert [cell["value"] for cell in evaluation.groups["region"]] == ["Northern Europe", "Southern Asia"]


def test_recording_a_run_twice_keeps_one_row(candidate):
    again = candidates.evaluations(candidate, run_id=candidate.evaluations.first().run_id)
    assert {row.pk for row in again} == set(Evaluation.objects.values_list("pk", flat=True))
    assert AuditEvent.objects.filter(verb="evaluation.recorded").count() == 2


def test_a_task_without_labels_is_recorded_as_such(candidate):
    unlabelled = candidate.evaluations.get(task__slug="amd")
    assert (unlabelled.n, unlabelled.auroc, unlabelled.report["status"]) == (0, None, "no_labelled_data")


def test_the_newest_evaluation_counts(candidate):
    newer = candidates.evaluations(candidate, seed=2, run_id=10**6)
    assert [found.pk for found in benchmarks.latest(candidate)] == [found.pk for found in newer]


def test_overlapping_intervals_are_ties():
    rows = [row(0.7, 0.6, 0.8), row(0.9, 0.85, 0.95), row(0.82, 0.75, 0.86), row(None)]
    found = [(ranked["evaluation"].auroc, ranked["rank"], ranked["is_tie"]) for ranked in views.ranked(rows)]
    assert found == [(0.9, 1, True), (0.82, 1, True), (0.7, 2, False), (None, None, False)]


def test_the_leaderboard_is_public_and_shows_figures_and_gaps(candidate):
    text = re.sub(r"\s+", " ", Client().get("/benchmark/").content.decode())
    figures = candidates.measured().reports[0]["overall"]
    assert f"<strong>{figures['auroc']:.3f}</strong>" in text
    assert f"({figures['low']:.3f}–{figures['high']:.3f})" in text
    assert "No labelled data" in text
    assert "Grey squares" in text
    assert 'href="https://example.org"' in text
    assert "Evaluate</button>" not in text


@pytest.mark.parametrize(
    ("person", "evaluate", "propose"),
    [("operator", True, True), ("chair", False, True), ("board_member", False, False), ("outsider", False, False)],
)
def test_buttons_are_for_those_who_may(candidate, person, evaluate, propose, sign_in, request):
    text = sign_in(request.getfixturevalue(person)).get("/benchmark/").content.decode()
    found = (f"/runs/evaluate/{candidate.slug}/" in text, f"/board/propose/{candidate.slug}/" in text)
    assert found == (evaluate, propose)


def test_a_proposal_does_not_show_on_the_public_leaderboard(candidate):
    release = candidates.proposed(candidate)
    assert release.slug not in Client().get("/benchmark/").content.decode()
    evaluation = candidate.evaluations.get(task__slug="dr")
    assert release.slug not in Client().get(f"/benchmark/evaluations/{evaluation.pk}/").content.decode()


def test_a_release_does(candidate):
    release = candidates.released(candidate)
    assert f"/models/{release.slug}/" in Client().get("/benchmark/").content.decode()


def test_the_leaderboard_asks_the_same_number_of_questions(programme, candidate, django_assert_max_num_queries):
    with django_assert_max_num_queries(3) as one:
        Client().get("/benchmark/")
    for name in ("Second", "Third"):
        candidates.evaluations(candidates.candidate(programme, name))
    with django_assert_max_num_queries(len(one)):
        Client().get("/benchmark/")


def test_an_evaluation_shows_its_groups_its_protocol_and_its_hashes(evaluation):
    text = Client().get(f"/benchmark/evaluations/{evaluation.pk}/").content.decode()
    report = evaluation.report
    small = next(cell for cell in report["subgroups"] if cell["suppressed"])
    assert (small["value"], small["n"]) == ("few", 10)
    assert "too few to show" in text
    for expected in (
        "Southern Asia",
        f"{report['worst_group']['auroc']:.3f}",
        evaluation.candidate_sha256,
        evaluation.dataset_sha256,
        report["inputs"]["labels_sha256"],
        report["versions"]["torch"],
        "percentile bootstrap over patients; where all resamples agree, Newcombe 2006, method 5",
    ):
        assert expected in text


def test_a_gap_is_shown_with_its_interval(evaluation):
    gap = evaluation.report["gap"]
    page = re.sub(r"\s+", " ", Client().get(evaluation.get_absolute_url()).text)
    assert f"95 % interval {gap['low']:.3f} to {gap['high']:.3f}; the farthest apart of 2" in page
    assert ("chance alone may explain it" in page) == (gap["low"] <= 0)


def test_what_the_encoder_has_seen_of_the_images_is_told(evaluation):
    """The squares are in its corpus, and the cross-validation scores them all."""
    seen = evaluation.task.dataset.train_count
    page = re.sub(r"\s+", " ", Client().get(evaluation.get_absolute_url()).text)
    assert evaluation.learnt_from == seen > 0
    assert f"The encoder has learnt, without labels, from {seen} of the images" in page
    card = candidates.proposed(evaluation.candidate).card
    assert f"It has learnt, without labels, from {seen} of the images of Grey squares" in card
    fixed = {**evaluation.report, "protocol": {**evaluation.report["protocol"], "name": "fixed-split"}}
    assert Evaluation(task=evaluation.task, candidate=evaluation.candidate, report=fixed).learnt_from == 0


def test_an_evaluation_without_labels_says_so(candidate):
    row = candidate.evaluations.get(task__slug="amd")
    assert row.report["sentence"] in Client().get(f"/benchmark/evaluations/{row.pk}/").content.decode()


def test_figures_that_are_too_small_to_show_are_not_called_missing_labels(evaluation, chair, sign_in):
    measured = metrics.bootstrap_auroc(np.arange(30) % 2, np.arange(30.0), np.arange(30))
    report = {**evaluation.report, "overall": kit._cell(measured), "subgroups": [], "gap": None, "roc": []}
    row = benchmarks.record_evaluation(
        evaluation.task, evaluation.candidate, run_id=10**6, report=report, now=timezone.now()
    )
    page = re.sub(r"\s+", " ", Client().get(f"/benchmark/evaluations/{row.pk}/").text)
    assert ("Too few to show" in page, "has no labels for this disease" in page) == (True, False)
    assert "Of its 30 labelled images too few are positive or negative" in page
    release = candidates.proposed(evaluation.candidate)
    assert "| Diabetic retinopathy | 30 | too few to show | |" in release.card
    assert "| AMD | 0 | no labelled data | |" in release.card
    factories.declare(release.motions.get(), chair)
    motion = re.sub(r"\s+", " ", sign_in(chair).get(release.motions.get().get_absolute_url()).text)
    assert "Diabetic retinopathy (too few to show), AMD (no labelled data)" in motion


def test_an_empty_benchmark_says_what_comes(db):
    assert "No task yet" in Client().get("/benchmark/").content.decode()


def test_an_unknown_evaluation_is_not_found(db):
    assert Client().get("/benchmark/evaluations/1/").status_code == 404


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"n_positive": 1000}, "evaluation_positives_within_n"),
        ({"auroc": 1.5}, "evaluation_auroc_with_interval"),
        ({"auroc": None}, "evaluation_auroc_with_interval"),
        ({"low": None}, "evaluation_auroc_with_interval"),
        ({"low": 0.9, "high": 0.1}, "evaluation_auroc_with_interval"),
    ],
)
def test_constraints(evaluation, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Evaluation.objects.filter(pk=evaluation.pk).update(**changes)


def test_one_evaluation_per_run(evaluation):
    evaluation.pk = None
    with pytest.raises(IntegrityError, match="one_evaluation_per_run"), transaction.atomic():
        evaluation.save()
