"""The doorbell: tasks take ids by keyword, guard on status, call one service."""

from celery import shared_task

from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution
from governance.board import services as board
from governance.releases.models import Release
from jobs import engine, publish, services
from jobs.evaluate import evaluate
from jobs.lifecycle import LIVE, Status
from jobs.models import Run
from jobs.pretrain import pretrain
from jobs.validate import validate
from portal.institutions.models import Institution

WORK: dict[str, engine.Work] = {
    Run.Kind.VALIDATE: validate,
    Run.Kind.PRETRAIN: pretrain,
    Run.Kind.EVALUATE: evaluate,
}


@shared_task(name="jobs.execute_run")
def execute_run(*, run_id: int) -> None:
    """Execute a queued run. Safe to deliver twice."""
    engine.execute(run_id, work=WORK)


@shared_task(name="jobs.validate_contribution")
def validate_contribution(*, contribution_id: int) -> None:
    """Queue the checks of a submitted contribution. Safe to deliver twice."""
    contribution = Contribution.objects.select_related("institution").get(pk=contribution_id)
    if contribution.status == ContributionStatus.SUBMITTED:
        services.queue_run(
            Run.Kind.VALIDATE,
            contribution.pk,
            title=f"Check {contribution}",
            inputs={"manifest_sha256": contribution.manifest_sha256},
            by=None,
            now=services.now(),
        )


@shared_task(name="jobs.refer_institution")
def refer_institution(*, institution_id: int) -> None:
    """Put an application before the board. Safe to deliver twice."""
    board.refer_institution(institution_id, now=services.now())


@shared_task(name="jobs.publish_release")
def publish_release(*, release_id: int) -> None:
    """Put the files of a carried release in place. Safe to deliver twice."""
    publish.publish(release_id)


@shared_task(name="jobs.sweep")
def sweep() -> None:
    """Repair what lost messages and lost workers left behind; the rows say what is due."""
    now = services.now()
    for run in services.overdue(now=now):
        engine.release_subject(services.give_back(run, note="The worker went silent.", now=now))
    for run in services.waiting(now=now):
        services.ring(run)
    _requeue_unchecked()
    for pk in Institution.objects.filter(status="applied", motions__isnull=True).values_list("pk", flat=True):
        refer_institution(institution_id=pk)
    for pk in Release.objects.filter(status="released").exclude(files__name="SHA256SUMS").values_list("pk", flat=True):
        publish_release(release_id=pk)
    board.close_due(now=now)
    board.close_moot(now=now)


def _requeue_unchecked() -> None:
    """Queue the checks of contributions that no live run holds; a person decides after a fault of the platform."""
    held = Run.objects.filter(kind=Run.Kind.VALIDATE, status__in=[*LIVE, Status.FAILED_PLATFORM]).values("subject_id")
    due = Contribution.objects.filter(status=ContributionStatus.SUBMITTED).exclude(pk__in=held)
    for pk in due.values_list("pk", flat=True):
        validate_contribution(contribution_id=pk)
