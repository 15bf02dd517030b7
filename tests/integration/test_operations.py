"""What operators watch: health in words, the read-only switch, metrics, workers, machine time, the log of a run."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution, ContributionFile
from jobs import health, logs, services, workers
from jobs.lifecycle import Status
from jobs.models import Beat, Budget, Maintenance, Run, Worker
from jobs.validate import queue_check
from portal import storage, views
from portal.audit import sequencer
from portal.audit.models import AuditEvent, AuditPending
from portal.celery import app
from portal.notifications.models import OutboxMessage
from portal.notifications.services import put
from portal.notifications.types import Type
from tests import factories


@pytest.fixture
def well(db) -> None:
    """A scheduler and a worker of each queue."""
    health.note_beat("sweep", now=timezone.now())
    factories.worker("cpu@site/1", queues=["cpu"], disk_free_bytes=2**40)
    factories.worker("gpu@site/1", queues=["gpu"], disk_free_bytes=2**40)


def codes(now=None) -> set[str]:
    return {finding.code for finding in health.findings(now=now or timezone.now())}


def queue(subject_id: int = 1, **more) -> Run:
    return services.queue_run(
        Run.Kind.EVALUATE, subject_id, title="Evaluate", inputs={}, by=None, now=timezone.now(), **more
    )


def test_a_site_that_is_well_has_no_finding(well):
    assert codes() == set()


def test_a_run_that_stands_still_is_found_and_then_waits_for_a_person(well, programme, operator):
    queue(1)
    held = services.claim(Worker.objects.get(name="gpu@site/1"), now=timezone.now())
    services.move(held, Status.RUNNING, now=timezone.now(), started_at=timezone.now() - timedelta(hours=1))
    assert codes() == {"run_stuck"}
    services.move(held, Status.FAILED_PLATFORM, now=timezone.now())
    assert (codes(), health.parked()) == ({"runs_parked"}, 1)
    services.retry(Run.objects.get(), reason="Again.", by=operator, now=timezone.now())
    assert (codes(), health.parked()) == (set(), 0)


def test_a_check_that_stopped_waits_for_nobody_once_its_contribution_is_withdrawn(well, institution):
    contribution = factories.submitted_contribution(institution)
    run = queue_check(contribution)
    for _ in range(services.MAX_FAULTS):
        held = services.claim(Worker.objects.get(name="cpu@site/1"), now=timezone.now())
        services.give_back(held, note="Lost.", code="worker_lost", now=timezone.now(), at_once=True)
    run.refresh_from_db()
    assert (run.status, health.parked()) == ("failed_platform", 1)
    steward = factories.person_of(institution, "steward")
    contributions.withdraw(contribution, by=steward, reason="It took too long.", now=timezone.now())
    assert health.parked() == 0


def test_runs_that_ask_for_what_nobody_has_are_found_once_for_each_ask(well, programme):
    for number in (1, 2):
        queue(number, gpu_count=3)
    queue(3, gpu_count=4)
    assert [finding.code for finding in health.findings(now=timezone.now())] == ["no_capacity", "no_capacity"]


def test_a_site_where_nobody_works_any_more(well, programme):
    later = timezone.now() + timedelta(minutes=20)
    assert codes(later) == {"scheduler_missing", "no_worker_cpu", "no_worker_gpu", "worker_silent", "log_behind"}


def test_a_log_that_nobody_signs_is_found(well, operator, log_origin):
    later = timezone.now() + timedelta(minutes=20)
    sequencer.sequence()
    unsigned = codes(later)
    assert AuditPending.objects.count() == 0
    sequencer.publish(now=timezone.now())
    assert unsigned - codes(later) == {"log_behind"}


def test_mail_that_waits_a_full_disk_and_a_long_drain_are_found(well, operator):
    put("a@example.org", type=Type.ACCOUNT, subject="Changed", text="It was changed.", path="/account/")
    OutboxMessage.objects.update(created_at=timezone.now() - timedelta(minutes=11), state="pending")
    assert codes() == {"outbox_growing"}
    OutboxMessage.objects.all().delete()
    Worker.objects.filter(name="gpu@site/1").update(disk_free_bytes=1)
    assert codes() == {"disk_low"}
    worker = Worker.objects.get(name="gpu@site/1")
    workers.drain(worker, on=True, by=operator, now=timezone.now() - timedelta(hours=2))
    assert codes() == {"disk_low", "worker_draining", "no_worker_gpu"}


def test_a_broker_and_a_store_that_are_away_are_found(well, monkeypatch):
    def refuse(*args, **kwargs):
        raise storage.Unavailable("It does not answer.")

    monkeypatch.setattr(storage, "size", refuse)
    monkeypatch.setattr(app, "connection_for_write", refuse)
    assert codes() == {"broker_away", "store_away"}


def test_an_institution_that_has_used_its_room_is_found(well, institution, settings):
    settings.UPLOAD_QUOTA_BYTES = 10
    factories.upload(factories.draft_contribution(institution), b"123456789")
    assert "quota_nearly_full" in codes()
    assert Contribution.objects.count() == ContributionFile.objects.count() == 1


def test_the_page_of_health_is_words_and_json(well, operator, sign_in):
    client = sign_in(operator)
    assert "Nothing is wrong" in client.get("/ops/health/").content.decode()
    Beat.objects.all().delete()
    assert "The scheduler has never run." in client.get("/ops/health/").content.decode()
    found = client.get("/ops/health/", HTTP_ACCEPT="application/json").json()["findings"]
    assert [(one["code"], one["tone"]) for one in found] == [("scheduler_missing", "bad")]


# Read-only


def test_read_only_refuses_changes_shows_a_banner_and_opens_again(
    operator, steward, sign_in, institution, django_capture_on_commit_callbacks
):
    client, site = sign_in(operator), sign_in(steward)
    factories.draft_contribution(institution)
    with django_capture_on_commit_callbacks(execute=True):
        assert (
            client.post("/ops/maintenance/", {"message": "The database is upgraded until 14:00 UTC."}).status_code
            == 302
        )
    assert "The database is upgraded until 14:00 UTC." in site.get("/contributions/").content.decode()
    answer = site.post("/account/", {"name": "Another Name"})
    assert (answer.status_code, answer["Retry-After"]) == (503, "300")
    answer = site.post("/api/v1/contributions", {}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (503, "read_only")
    queue()
    assert services.claim(factories.worker(), now=timezone.now()) is None
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/ops/maintenance/", {"open": "1"})
    assert site.post("/account/", {"name": "Another Name"}).status_code == 302
    assert services.claim(factories.worker("gpu@b/1"), now=timezone.now()) is not None
    assert Maintenance.objects.get().is_on is False
    verbs = AuditEvent.objects.filter(subject_type="maintenance").order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["maintenance.begun", "maintenance.ended"]


def test_a_message_is_needed(operator, sign_in):
    assert sign_in(operator).post("/ops/maintenance/", {"message": ""}).status_code == 422
    assert not Maintenance.objects.exists()


# Metrics, requests, services that are away


def test_metrics_need_the_token_or_an_operator(client, operator, steward, sign_in, settings, well):
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer ").status_code == 403
    settings.METRICS_TOKEN = "a-long-token"
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer another").status_code == 403
    assert sign_in(steward).get("/metrics").status_code == 403
    queue(1)
    text = client.get("/metrics", HTTP_AUTHORIZATION="Bearer a-long-token").content.decode()
    assert 'portal_runs{kind="evaluate",queue="gpu",status="queued"} 1.0' in text
    assert "portal_beat_age_seconds" in text
    assert "portal_requests_total" in text
    assert "portal_files_at_fault 0.0" in text
    assert sign_in(operator).get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("given", "is_kept"), [("0123456789abcdef", True), ("short", False), ("with spaces and more", False)]
)
def test_a_request_has_a_number(client, db, given, is_kept):
    number = client.get("/healthz", HTTP_X_REQUEST_ID=given)["X-Request-ID"]
    assert ((number == given) is is_kept, len(number) >= 16) == (True, True)


def test_a_database_that_is_away_is_503_and_not_500(client, db, monkeypatch):
    def away(*args, **kwargs):
        raise OperationalError("connection refused")

    client.raise_request_exception = False
    with monkeypatch.context() as patch:
        patch.setattr(views, "_members", away)
        answer = client.get("/")
        patch.setattr(views.connection, "cursor", away)
        statuses = [client.get(page).status_code for page in ("/readyz", "/healthz")]
    assert (answer.status_code, answer["Retry-After"], statuses) == (503, "10", [503, 200])


# Workers and machine time


def test_workers_are_listed_and_drained(well, operator, auditor, sign_in):
    queue(1)
    services.claim(Worker.objects.get(name="gpu@site/1"), now=timezone.now())
    client = sign_in(operator)
    page = client.get("/runs/workers/")
    assert [(row["worker"].name, row["state"][1]) for row in page.context["rows"]] == [
        ("cpu@site/1", "Idle"), ("gpu@site/1", "At work"),
    ]  # fmt: skip
    assert [(row["name"], row["waiting"], row["active"], row["workers"]) for row in page.context["queues"]] == [
        ("cpu", 0, 0, 1), ("gpu", 0, 1, 1),
    ]  # fmt: skip
    worker = Worker.objects.get(name="gpu@site/1")
    client.post(f"/runs/workers/{worker.pk}/drain/", {"on": "1"})
    assert client.get("/runs/workers/").context["rows"][1]["state"][1] == "Draining"
    Worker.objects.filter(pk=worker.pk).update(seen_at=timezone.now() - timedelta(minutes=1))
    assert client.get("/runs/workers/").context["rows"][1]["state"][1] == "Silent"
    assert "/drain/" not in sign_in(auditor).get("/runs/workers/").content.decode()


def test_a_budget_is_set_on_the_page_and_in_the_table(programme, operator, sign_in):
    client = sign_in(operator)
    assert client.post("/runs/ledger/", {"programme": programme.pk, "gpu_hours": "2"}).status_code == 302
    assert Budget.objects.get().gpu_seconds == 7200
    table = b"".join(client.get("/runs/ledger.csv").streaming_content).decode().splitlines()
    assert table[1].split(",")[1:] == [programme.name, "", "0", "0.0", "0.0", "7200"]
    assert client.post("/runs/ledger/", {"programme": programme.pk, "gpu_hours": "-1"}).status_code == 422
    client.post("/runs/ledger/", {"programme": programme.pk, "gpu_hours": ""})
    assert not Budget.objects.exists()


# A waiting run, a log, a run that repeats another


def test_a_waiting_run_says_when_it_is_expected_to_begin(well, programme, operator, sign_in):
    worker = Worker.objects.get(name="gpu@site/1")
    done = queue(1)
    held = services.claim(worker, now=timezone.now())
    now = timezone.now()
    services.move(held, Status.RUNNING, now=now, started_at=now)
    services.move(held, Status.FAILED_INPUT, now=now + timedelta(seconds=600))
    waiting = [queue(number) for number in (2, 3)]
    client = sign_in(operator)
    places = [client.get(run.get_absolute_url()).context["place"] for run in waiting]
    assert [(place.position, place.starts_in.total_seconds()) for place in places] == [(0, 0.0), (1, 600.0)]
    assert done.pk == held.pk
    Worker.objects.update(stopped_at=timezone.now())
    assert "No worker serves the queue “gpu” now." in client.get(waiting[0].get_absolute_url()).content.decode()


def test_a_run_does_not_begin_on_a_worker_that_drains(well, programme, operator, sign_in):
    for worker in Worker.objects.filter(queues__contains=["gpu"]):
        workers.drain(worker, on=True, by=operator, now=timezone.now())
    page = sign_in(operator).get(queue(1).get_absolute_url())
    assert page.context["place"].starts_in is None
    assert "No worker serves the queue “gpu” now." in page.content.decode()


def test_the_log_is_replayed_searched_and_downloaded(programme, operator, sign_in):
    run = queue(1)
    for text in ("Reading the header.", "token=abc", "Done."):
        logs.write(run, text)
    client = sign_in(operator)
    assert [line.seq for line in client.get(f"/runs/{run.pk}/log/?since=1").context["lines"]] == [2, 3]
    assert [line.seq for line in client.get(f"/runs/{run.pk}/log/?q=HEADER").context["lines"]] == [1]
    assert "No line holds that" in client.get(f"/runs/{run.pk}/log/?q=nothing").content.decode()
    answer = client.get(f"/runs/{run.pk}/log.txt?since=1")
    assert [line.split("\t")[3] for line in answer.content.decode().splitlines()] == ["token=[redacted]", "Done."]
    assert answer["Content-Disposition"] == f'attachment; filename="run-{run.pk}.log"'


def test_starting_again_asks_why_and_compares(programme, operator, sign_in):
    first = queue(1)
    services.claim(factories.worker(**{"gpu_type": "NVIDIA H100", "gpu_count": 1}), now=timezone.now())
    held = Run.objects.get(pk=first.pk)
    services.move(held, Status.RUNNING, now=timezone.now(), started_at=timezone.now())
    services.succeed(held, result_sha256="ab" * 32, now=timezone.now())
    client, page = sign_in(operator), f"/runs/{first.pk}/retry/"
    assert client.post(page, {"reason": "", "wall_hours": "1"}).status_code == 422
    client.post(page, {"reason": "Is it the same?", "wall_hours": "1", "gpu_type": "NVIDIA H100"})
    again = Run.objects.get(retry_of=first)
    assert (again.wall_seconds, again.gpu_type, again.gpu_count) == (3600, "NVIDIA H100", 1)
    Run.objects.filter(pk=again.pk).update(result_sha256="ab" * 32)
    assert client.get(again.get_absolute_url()).context["same_result"] is True
    assert "Is it the same?" in client.get(first.get_absolute_url()).content.decode()
