"""Pages of runs: who sees which, what lives, what is asked before a run is cancelled, starting a training."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from contributions.corpora.models import Corpus
from contributions.models import Contribution
from governance.board.models import Motion
from jobs import evaluate, logs, services
from jobs.lifecycle import Status
from jobs.models import Run
from portal.accounts import services as accounts
from portal.audit.models import AuditEvent
from tests import candidates, factories, runs
from tests.races import while_locked

REASON = {"reason": "The disk is full."}
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def contribution(institution) -> Contribution:
    return factories.submitted_contribution(institution)


@pytest.fixture
def check(contribution) -> Run:
    """A queued check of the institution's contribution."""
    return queue(contribution.pk)


@pytest.fixture
def candidate(programme):
    return candidates.candidate(programme)


def queue(subject_id: int, kind: str = Run.Kind.VALIDATE) -> Run:
    return services.queue_run(
        kind, subject_id, title=f"{kind} {subject_id}", inputs={"sha256": "ab" * 32}, by=None, now=timezone.now()
    )


def start(run: Run) -> Run:
    held = services.claim(factories.worker("gpu@gpu-7.example.org/1"), now=timezone.now())
    assert held is not None
    services.move(held, Status.RUNNING, now=timezone.now(), started_at=timezone.now())
    services.progress(held, done=3, total=64, text="Drawing samples", now=timezone.now())
    logs.write(held, "Reading the header.")
    held.refresh_from_db()
    return held


def end(run: Run, status: Status = Status.FAILED_INPUT, error: str = "Three NaN. Train again.") -> Run:
    services.move(run, status, now=timezone.now(), error=error)
    return run


# Who sees what


@pytest.mark.parametrize(
    ("person", "status"),
    [("operator", 200), ("auditor", 200), ("chair", 200), ("board_member", 403), ("steward", 403), ("researcher", 403)],
)
def test_who_sees_the_list(check, person, status, sign_in, request):
    assert sign_in(request.getfixturevalue(person)).get("/runs/").status_code == status


@pytest.mark.parametrize(
    ("person", "status"), [("operator", 200), ("auditor", 200), ("steward", 200), ("member", 200), ("outsider", 404)]
)
@pytest.mark.parametrize("page", ["show", "status", "of_contribution"])
def test_who_sees_the_check_of_a_contribution(check, person, status, page, sign_in, request):
    pk = check.subject_id if page == "of_contribution" else check.pk
    answer = sign_in(request.getfixturevalue(person)).get(reverse(f"jobs:{page}", args=[pk]), **HTMX)
    assert answer.status_code == status


def test_a_site_does_not_see_other_runs(check, steward, sign_in):
    other = queue(check.subject_id, Run.Kind.EVALUATE)  # a candidate that has the number of the site's contribution
    assert sign_in(steward).get(f"/runs/{other.pk}/").status_code == 404


def test_pages_ask_a_stranger_to_sign_in(check, client):
    for page in ("/runs/", f"/runs/{check.pk}/", f"/runs/{check.pk}/status/", "/runs/pretrain/"):
        assert client.get(page).status_code == 302


def test_which_machine_it_was_is_for_operators(check, steward, operator, sign_in):
    start(check)
    page = f"/runs/{check.pk}/"
    assert "gpu-7.example.org" not in sign_in(steward).get(page).content.decode()
    assert "gpu-7.example.org" in sign_in(operator).get(page).content.decode()


# What lives


def test_a_waiting_run_says_how_many_stand_before_it(candidate, operator, sign_in):
    queue(1, Run.Kind.EVALUATE)
    answer = sign_in(operator).get(f"/runs/{queue(2, Run.Kind.EVALUATE).pk}/")
    assert (answer.context["place"].position, "Waiting for a worker" in answer.content.decode()) == (1, True)


def test_a_live_run_fetches_itself_again_and_an_ended_one_does_not(check, operator, sign_in):
    client, page = sign_in(operator), f"/runs/{check.pk}/status/"
    running = start(check)
    text = client.get(page, **HTMX).content.decode()
    assert f'data-live="run-{check.pk}" hx-get="{page}" hx-trigger="changed throttle:1s, every 5s"' in text
    assert 'max="64" value="3"' in text
    assert "Reading the header." in text
    assert "<html" not in text
    end(running)
    text = client.get(page, **HTMX).content.decode()
    assert ("hx-get" in text, "data-live" in text, "Three NaN. Train again." in text) == (False, False, True)


def test_on_the_contributions_page_it_fetches_the_newest_check(check, steward, sign_in):
    page = f"/runs/of-contribution/{check.subject_id}/"
    assert f'hx-get="{page}"' in sign_in(steward).get(page, **HTMX).content.decode()
    end(start(check))
    newer = queue(check.subject_id)
    assert sign_in(steward).get(page, **HTMX).context["run"] == newer


def test_without_javascript_it_leads_to_the_runs_own_page(check, contribution, steward, sign_in):
    draft = factories.draft_contribution(contribution.institution, title="Another")
    found = [sign_in(steward).get(f"/runs/of-contribution/{pk}/").url for pk in (check.subject_id, draft.pk)]
    assert found == [check.get_absolute_url(), draft.get_absolute_url()]


def test_a_contribution_without_a_run_waits_or_says_so(contribution, steward, sign_in):
    page = f"/runs/of-contribution/{contribution.pk}/"
    assert f'data-live="contribution-{contribution.pk}"' in sign_in(steward).get(page, **HTMX).content.decode()
    draft = factories.draft_contribution(contribution.institution, title="Another")
    text = sign_in(steward).get(f"/runs/of-contribution/{draft.pk}/", **HTMX).content.decode()
    assert ("hx-get" in text, "No machine has worked on it yet." in text) == (False, True)


def test_a_silent_worker_is_shown(check, operator, sign_in):
    start(check)
    Run.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=90))
    client = sign_in(operator)
    assert "The worker has gone silent" in client.get(f"/runs/{check.pk}/").content.decode()
    assert [row["is_silent"] for row in client.get("/runs/").context["rows"]] == [True]


def test_the_log_shows_its_newest_lines_in_order(check, operator, sign_in):
    running = start(check)
    for number in range(2, 205):
        logs.write(running, f"line {number}")
    lines = [line.text for line in sign_in(operator).get(f"/runs/{check.pk}/").context["log"]]
    assert (len(lines), lines[0], lines[-1]) == (200, "line 5", "line 204")


def test_the_list_has_totals_and_filters(candidate, check, operator, sign_in):
    end(start(check))
    waiting = queue(1, Run.Kind.EVALUATE)
    client = sign_in(operator)
    page = client.get("/runs/")
    assert page.context["totals"] == {"queued": 1, "active": 0, "succeeded": 0, "stopped": 1}
    assert [row["run"] for row in page.context["rows"]] == [waiting, check]
    for query, expected in (("status=queued", [waiting]), ("kind=validate", [check]), ("queue=gpu", [waiting])):
        page = client.get(f"/runs/?{query}")
        assert [row["run"] for row in page.context["rows"]] == expected
        assert f'hx-get="/runs/?{query}"' in page.content.decode()
    assert "No run matches" in client.get("/runs/?status=cancelled").content.decode()


def test_a_run_that_waits_again_is_not_at_work(candidate, operator, sign_in):
    held = start(queue(candidate.pk, Run.Kind.EVALUATE))
    services.give_back(held, note="It went away.", code="worker_lost", now=timezone.now(), at_once=True)
    context = sign_in(operator).get(held.get_absolute_url()).context
    assert (context["run"].status, context["ran"], context["waited"] > 0) == ("queued", None, True)


@pytest.mark.parametrize(
    ("address", "status"),
    [("/runs/?status=%00", 200), ("/runs/?code=a%00", 200), ("/runs/{}/log/?q=%00", 200),
     ("/runs/pretrain/?programme=x%00", 404)],
)  # fmt: skip
def test_an_address_with_a_character_that_no_text_holds_is_answered(check, address, status, operator, sign_in):
    assert sign_in(operator).get(address.format(check.pk)).status_code == status


def test_the_rows_are_a_fragment(check, operator, sign_in):
    text = sign_in(operator).get("/runs/", **HTMX).content.decode()
    assert ("<html" in text, 'data-live="runs"' in text) == (False, True)


def test_the_list_asks_the_same_number_of_questions(candidate, operator, sign_in, django_assert_num_queries):
    client = sign_in(operator)
    with django_assert_num_queries(10):
        client.get("/runs/")
    for number in (1, 2, 3):
        services.queue_run(Run.Kind.EVALUATE, number, title="Evaluate", inputs={}, by=operator, now=timezone.now())
    with django_assert_num_queries(10):
        client.get("/runs/")


# Cancelling


def test_cancelling_asks_first(check, operator, sign_in):
    client, page = sign_in(operator), f"/runs/{check.pk}/cancel/"
    assert client.get(page).status_code == 200
    check.refresh_from_db()
    assert check.status == "queued"
    assert client.post(page, {"reason": ""}).status_code == 422
    answer = client.post(page, REASON)
    check.refresh_from_db()
    assert (answer.status_code, check.status) == (302, "cancelled")
    assert check.events.last().note == "The disk is full."
    assert AuditEvent.objects.get(verb="run.cancelled").actor_id == operator.pk


def test_a_worker_is_told_to_stop(check, operator, sign_in):
    running = start(check)
    sign_in(operator).post(f"/runs/{check.pk}/cancel/", REASON)
    running.refresh_from_db()
    assert running.cancel_requested_at is not None
    assert "the worker stops within five seconds" in sign_in(operator).get(f"/runs/{check.pk}/").content.decode()


def test_an_ended_run_is_not_cancelled(check, operator, sign_in):
    end(start(check))
    answer = sign_in(operator).post(f"/runs/{check.pk}/cancel/", follow=True)
    check.refresh_from_db()
    assert (check.status, "has ended already" in answer.content.decode()) == ("failed_input", True)


@pytest.mark.parametrize("person", ["auditor", "chair", "steward"])
def test_others_cannot_cancel(check, person, sign_in, request):
    client = sign_in(request.getfixturevalue(person))
    assert client.post(f"/runs/{check.pk}/cancel/").status_code == 403
    assert f"/runs/{check.pk}/cancel/" not in client.get(f"/runs/{check.pk}/").content.decode()


# Starting


def test_evaluating_queues_a_run(candidate, operator, sign_in):
    answer = sign_in(operator).post(f"/runs/evaluate/{candidate.slug}/")
    run = Run.objects.get()
    assert (answer.url, run.kind, run.subject_id) == (f"/runs/{run.pk}/", "evaluate", candidate.pk)
    assert evaluate.queue(candidate, by=operator) == run


@pytest.mark.parametrize("person", ["chair", "board_member", "steward"])
def test_others_start_nothing(candidate, person, sign_in, request):
    client = sign_in(request.getfixturevalue(person))
    assert client.post(f"/runs/evaluate/{candidate.slug}/").status_code == 403
    assert client.get("/runs/pretrain/").status_code == 403
    assert Run.objects.count() == 0


def test_training_freezes_what_was_chosen(programme, institution, board, operator, sign_in):
    data = candidates.dataset(programme)
    generator = factories.reviewed_contribution(institution)
    factories.vote_all(Motion.objects.get(contribution=generator))
    form = {
        "name": "A new encoder",
        "dataset": data.pk,
        "generators": [generator.pk],
        "images_per_generator": 8,
        "steps": 10,
        "seed": 3,
        "processes": 2,
    }
    sign_in(operator).post("/runs/pretrain/", form)
    run, corpus = Run.objects.get(), Corpus.objects.get()
    assert (run.inputs["processes"], run.gpu_type, run.gpu_count) == (2, "", 0)
    assert (run.kind, run.subject_id, run.inputs["steps"], run.inputs["seed"]) == ("pretrain", corpus.pk, 10, 3)
    assert run.inputs["corpus_sha256"] == corpus.manifest_sha256 != ""
    assert [(part.kind, part.image_count) for part in corpus.parts.all()] == [
        ("real", data.train_count),
        ("synthetic", 8),
    ]


@pytest.fixture
def on_four_gpus(programme, board, operator, sign_in) -> tuple[Run, Client]:
    """A training that asks for more GPUs than the only worker has, and who started it."""
    factories.worker(**runs.H100)
    form = {"name": "A", "dataset": candidates.dataset(programme).pk, "images_per_generator": 8, "steps": 10, "seed": 0}
    client = sign_in(operator)
    client.post("/runs/pretrain/", {**form, "gpu_type": "NVIDIA H100", "processes": 4})
    return Run.objects.get(), client


def test_training_on_gpus_asks_for_one_to_each_process_and_again_when_retried(on_four_gpus, operator):
    run, client = on_four_gpus
    assert (run.gpu_type, run.gpu_count, services.able(run).exists()) == ("NVIDIA H100", 4, False)
    services.cancel(run, by=operator, now=timezone.now())
    client.post(f"/runs/{run.pk}/retry/", {"reason": "Again", "gpu_type": "NVIDIA H100", "wall_hours": 1})
    assert Run.objects.get(retry_of=run).gpu_count == 4


def test_what_asked_for_a_gpu_is_started_again_on_any_device(on_four_gpus, operator):
    run, client = on_four_gpus
    services.cancel(run, by=operator, now=timezone.now())
    client.post(f"/runs/{run.pk}/retry/", {"reason": "Nobody has four.", "gpu_type": "", "wall_hours": 1})
    again = Run.objects.get(retry_of=run)
    assert (again.gpu_type, again.gpu_count, services.able(again).exists()) == ("", 0, True)


@pytest.mark.django_db(transaction=True)
def test_of_two_trainings_started_at_once_each_has_its_corpus(programme, board, operator, sign_in):
    form = {"name": "A", "dataset": candidates.dataset(programme).pk, "images_per_generator": 8, "steps": 10}
    form |= {"seed": 0, "processes": 1}
    one, two = sign_in(operator), sign_in(operator)
    raised = while_locked(lambda: one.post("/runs/pretrain/", form), lambda: two.post("/runs/pretrain/", form))
    assert raised is None
    assert list(Corpus.objects.order_by("pk").values_list("slug", flat=True)) == ["a-0", "a-1"]
    assert Run.objects.filter(kind="pretrain", status="queued").count() == 2


def test_only_approved_generators_can_be_chosen(programme, institution, board, operator, sign_in):
    data = candidates.dataset(programme)
    waiting = factories.reviewed_contribution(institution)
    form = {"name": "A", "dataset": data.pk, "generators": [waiting.pk], "images_per_generator": 8, "steps": 10}
    answer = sign_in(operator).post("/runs/pretrain/", {**form, "seed": 0, "processes": 1})
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["generators"])
    assert "The board has approved no generator and no synthetic images yet." in answer.content.decode()
    assert (Run.objects.count(), Corpus.objects.count()) == (0, 0)
    assert accounts.seated(None).count() == 3


def test_training_without_a_data_set_says_what_is_missing(operator, sign_in):
    assert "There is no data set yet" in sign_in(operator).get("/runs/pretrain/").content.decode()
