"""The doorbell: tasks take ids by keyword, guard on status, call one service."""

import logging
from datetime import datetime

from celery import shared_task
from django.db import transaction

from contributions import deletion, embargo, isolation, room, standstill
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution
from governance.board import services as board
from governance.releases.models import Release
from jobs import engine, fixity, health, publish, services
from jobs.evaluate import evaluate
from jobs.lifecycle import LIVE, Code
from jobs.models import Run
from jobs.pretrain import pretrain
from jobs.validate import queue_check, validate
from portal.accounts import email_codes
from portal.agreements import services as agreements
from portal.audit import sequencer
from portal.institutions import reviews
from portal.notifications import digest, outbox
from portal.queue import attempt

logger = logging.getLogger(__name__)
WORK: dict[str, engine.Work] = {
    Run.Kind.VALIDATE: validate,
    Run.Kind.PRETRAIN: pretrain,
    Run.Kind.EVALUATE: evaluate,
    Run.Kind.INSPECT: fixity.inspect,
}


@shared_task(name="jobs.execute_run")
def execute_run(*, run_id: int) -> None:
    """Execute the run that is due first; `run_id` is the one whose turn it was thought to be. Safe to deliver twice."""
    engine.execute(work=WORK)


@shared_task(name="jobs.validate_contribution")
def validate_contribution(*, contribution_id: int) -> None:
    """Queue the checks of a submitted contribution, unless an operator decides when. Safe to deliver twice."""
    contribution = Contribution.objects.select_related("institution", "programme", "base_model").get(pk=contribution_id)
    waits = contribution.status == ContributionStatus.SUBMITTED and contribution.stalled_at is None
    if waits and isolation.current(contribution) is None:
        queue_check(contribution)


@shared_task(name="jobs.refer_institution")
def refer_institution(*, institution_id: int) -> None:
    """Put an application before the board. Safe to deliver twice."""
    board.refer_institution(institution_id, now=services.now())


@shared_task(name="jobs.publish_release")
def publish_release(*, release_id: int) -> None:
    """Put the files of a carried release in place. Safe to deliver twice."""
    publish.publish(release_id)


@shared_task(name="jobs.send_outbox")
def send_outbox() -> None:
    """Send the mails and webhooks that are due. Safe to deliver twice: each message is claimed."""
    outbox.send_due(now=services.now())


@shared_task(name="jobs.send_digests")
def send_digests() -> None:
    """Write the daily mails, from six in the morning. Safe to deliver twice: one per person and day."""
    digest.send_daily(now=services.now())


@shared_task(name="jobs.tidy_outbox")
def tidy_outbox() -> None:
    """Clear what failed long ago, forget what ended longer ago, and drop old codes."""
    outbox.tidy(now=services.now())
    email_codes.tidy(now=services.now())


@shared_task(name="jobs.tidy_uploads")
def tidy_uploads() -> None:
    """Announce uploads that stand still, and give them up. Safe to deliver twice."""
    standstill.tidy(now=services.now())


@shared_task(name="jobs.delete_due_files")
def delete_due_files() -> None:
    """Have the files deleted of withdrawn contributions whose time is over. Safe to deliver twice."""
    deletion.queue_due(now=services.now())


@shared_task(name="jobs.delete_files")
def delete_files(*, contribution_id: int) -> None:
    """Delete the files of one contribution, if it is time. Safe to deliver twice."""
    deletion.delete_files(contribution_id, now=services.now())


@shared_task(name="jobs.verify_files")
def verify_files() -> None:
    """Queue the verification of the stored files that is due. Safe to deliver twice."""
    fixity.queue_due(now=services.now())


@shared_task(name="jobs.sequence_log")
def sequence_log() -> None:
    """Put new events into the tree and publish a checkpoint that is due. Safe to deliver twice."""
    sequencer.run(now=services.now())


@shared_task(name="jobs.sweep")
def sweep() -> None:
    """Repair what lost messages and lost workers left behind; the rows say what is due. One bad row stops no other."""
    now = services.now()
    attempt(health.note_beat, "sweep", now=now)
    for run in services.overdue(now=now):
        attempt(_take_away, run, now=now)
    attempt(services.ring_waiting, now=now)
    attempt(services.end_hopeless, now=now)
    for pk in _unchecked():
        attempt(validate_contribution, contribution_id=pk)
    for pk in Release.objects.filter(status="released").exclude(files__name="SHA256SUMS").values_list("pk", flat=True):
        attempt(publish.publish, pk)
    attempt(embargo.tell_of_ends, now=now)
    attempt(room.end_of_merged, now=now)
    attempt(agreements.sweep, now=now)
    attempt(reviews.remind, now=now)
    attempt(board.sweep, now=now)


@transaction.atomic
def _take_away(run: Run, *, now: datetime) -> None:
    """Put a run back in the queue, unless its worker has shown a sign of life since it was looked at."""
    if Run.objects.select_for_update().filter(pk=run.pk, lease_expires_at__lt=now).first() is not None:
        services.give_back(run, note="Its worker went silent.", code=Code.WORKER_LOST, now=now, at_once=True)


def _unchecked() -> list[int]:
    """Return the contributions that wait for checks and that no live run holds; after a fault a person decides."""
    held = Run.objects.filter(kind=Run.Kind.VALIDATE, status__in=LIVE).values("subject_id")
    due = Contribution.objects.filter(status=ContributionStatus.SUBMITTED, stalled_at=None).exclude(pk__in=held)
    due = due.exclude(pk__in=isolation.isolated())
    return list(due.values_list("pk", flat=True))
