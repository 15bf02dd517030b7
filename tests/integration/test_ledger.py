"""Machine time: what an attempt used is written once, a budget stops the next run and never a check."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from jobs import ledger, services
from jobs.lifecycle import Status
from jobs.models import Budget, Maintenance, Run, Usage
from portal.errors import NotAllowed
from tests import factories
from tests.runs import H100, claim, queue


@pytest.fixture
def run(programme) -> Run:
    return queue()


def test_what_an_attempt_used_is_written_when_it_ends(programme, institution):
    queue(1, programme=programme, institution=institution)
    held = claim(factories.worker("gpu@big/1", **H100))
    now = timezone.now()
    services.move(held, Status.RUNNING, now=now, started_at=now)
    services.give_back(held, note="Lost.", now=now + timedelta(seconds=40))
    row = Usage.objects.get()
    assert (row.attempt, row.programme, row.institution, row.seconds, row.gpu_seconds) == (
        1, programme, institution, 40.0, 40.0,
    )  # fmt: skip
    whole, site = ledger.lines(now=now)
    assert [(line.institution, line.attempts, line.gpu_seconds, line.budget) for line in (whole, site)] == [
        ("", 1, 40.0, None), (institution.name, 1, 40.0, None),
    ]  # fmt: skip


def test_a_check_on_a_machine_with_gpus_uses_none_of_them(programme, institution):
    queue(1, Run.Kind.VALIDATE, programme=programme, institution=institution)
    held = claim(factories.worker("cpu@big/1", **H100))
    now = timezone.now()
    services.move(held, Status.RUNNING, now=now, started_at=now)
    services.move(held, Status.FAILED_INPUT, now=now + timedelta(seconds=40))
    assert (Usage.objects.get().seconds, ledger.used(programme, now=now)) == (40.0, 0.0)


def test_two_institutions_of_one_name_have_a_line_each(programme, operator):
    now, sites = timezone.now(), [factories.admitted_institution("City Hospital", country=c) for c in ("GH", "KE")]
    ledger.set_budget(programme, gpu_seconds=100, by=operator, now=now)
    for number, site in enumerate(sites, start=1):
        queue(number, programme=programme, institution=site)
        held = claim(factories.worker("gpu@big/1", **H100))
        services.move(held, Status.RUNNING, now=now, started_at=now)
        services.move(held, Status.FAILED_INPUT, now=now + timedelta(seconds=10 * number))
    whole, *lines = ledger.lines(now=now)
    assert [(line.institution, line.gpu_seconds, line.budget) for line in lines] == [
        ("City Hospital", 10.0, None), ("City Hospital", 20.0, None),
    ]  # fmt: skip
    assert (whole.institution, whole.attempts, whole.gpu_seconds, whole.budget) == ("", 2, 30.0, 100)


def test_an_attempt_that_never_began_used_nothing(run):
    services.give_back(claim(), note="Lost.", now=timezone.now())
    assert Usage.objects.count() == 0


def test_a_budget_stops_the_next_run_and_never_a_check(programme, institution, operator):
    now = timezone.now()
    ledger.set_budget(programme, gpu_seconds=30, by=operator, now=now)
    queue(1, programme=programme)
    held = claim(factories.worker("gpu@big/1", **H100))
    services.move(held, Status.RUNNING, now=now, started_at=now)
    services.move(held, Status.FAILED_INPUT, now=now + timedelta(seconds=40))
    with pytest.raises(ledger.OverBudget, match="used up"):
        queue(2, programme=programme)
    assert queue(2, Run.Kind.VALIDATE, programme=programme).status == "queued"
    ledger.set_budget(programme, gpu_seconds=None, by=operator, now=now)
    assert queue(2, programme=programme).status == "queued"


def test_only_an_operator_sets_a_budget(programme, auditor):
    with pytest.raises(NotAllowed):
        ledger.set_budget(programme, gpu_seconds=1, by=auditor, now=timezone.now())


def test_the_ledger_has_one_line_for_an_attempt_and_none_below_zero(run):
    row = {"run": run, "attempt": 1, "device": "cpu", "gpu_seconds": 0, "ended_at": timezone.now()}
    Usage.objects.create(**row, seconds=1)
    with pytest.raises(IntegrityError, match="one_usage_per_attempt"), transaction.atomic():
        Usage.objects.create(**row, seconds=1)
    with pytest.raises(IntegrityError, match="usage_not_negative"), transaction.atomic():
        Usage.objects.create(**{**row, "attempt": 2}, seconds=-1)


def test_one_budget_for_a_programme_and_one_row_of_maintenance(programme):
    Budget.objects.create(programme=programme, gpu_seconds=1)
    with pytest.raises(IntegrityError, match="jobs_budget_programme_id"), transaction.atomic():
        Budget.objects.create(programme=programme, gpu_seconds=2)
    with pytest.raises(IntegrityError, match="maintenance_is_one_row"), transaction.atomic():
        Maintenance.objects.create(pk=2)
