"""Uploads and drafts that stand still, for the sweep: announced, and what nobody goes on with is given up."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Max, Q, QuerySet

from contributions import uploads
from contributions.lifecycle import Status
from contributions.models import Contribution, ContributionFile
from contributions.rules import STEWARDS
from portal import storage
from portal.audit import services as audit
from portal.audit.people import plain
from portal.institutions import services as institutions
from portal.live import announce
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import attempt

State = ContributionFile.State
REMIND_AFTER = timedelta(days=5)  # since the last part arrived
SUBMIT_AFTER = timedelta(days=14)  # since the last file arrived


def tidy(*, now: datetime) -> None:
    """Announce the uploads that stand still, and two days later give them up; what is given up is told, too."""
    rows = ContributionFile.objects.filter(state=State.UPLOADING, contribution__status=Status.DRAFT)
    for file in rows.filter(added_at__lte=now - REMIND_AFTER).select_related("contribution__institution"):
        attempt(_look_after, file, now=now)  # one bad row stops no other
    attempt(_abort_forgotten, now=now)
    for draft in _waiting(now=now):
        attempt(_remind_of_draft, draft, now=now)


def _abort_forgotten(*, now: datetime) -> None:
    """Abort uploads that no row continues: a process may have died between the row that went and the store."""
    going_on = set(ContributionFile.objects.filter(state=State.UPLOADING).values_list("storage_key", "upload_id"))
    for upload in storage.open_uploads("contributions/"):
        is_stale = now - upload.begun_at >= timedelta(days=storage.ABORT_AFTER_DAYS)
        if is_stale and (upload.key, upload.upload_id) not in going_on:
            storage.abort_multipart(upload.key, upload.upload_id)


def _look_after(file: ContributionFile, *, now: datetime) -> None:
    parts = storage.list_parts(file.storage_key, file.upload_id)
    # Joined, and the row does not say so: who was to write it may have died, and may come again.
    joined = None if parts else storage.modified_at(storage.QUARANTINE, file.storage_key)
    still = now - max([file.added_at, *(part.arrived_at for part in parts), *([joined] if joined else [])])
    if still >= timedelta(days=storage.ABORT_AFTER_DAYS):
        _give_up(file)
    elif still >= REMIND_AFTER and (file.reminded_at is None or file.reminded_at < now - still):  # it went on since
        _remind(file, arrived=file.part_count if joined else len(parts), now=now)


@transaction.atomic
def _remind(file: ContributionFile, *, arrived: int, now: datetime) -> None:
    if not uploads.as_read(file).update(reminded_at=now):
        return  # it arrived, or went, meanwhile
    left = storage.ABORT_AFTER_DAYS - REMIND_AFTER.days
    _tell(
        file.contribution,
        f"The upload of {plain(file.name)} stands still",
        f"{arrived:,} of {file.part_count:,} parts have arrived. Go on within {left} days, in the browser or with the "
        "kit; after that the parts are removed, and the draft stays.",
    )


def _give_up(file: ContributionFile) -> None:
    with transaction.atomic():
        contribution = Contribution.objects.select_for_update().get(pk=file.contribution_id)
        if not uploads.as_read(file).delete()[0]:
            return
        audit.record("contribution.upload_given_up", contribution, by=None, **uploads.facts(file))
        announce(f"contribution-{contribution.pk}")
        _tell(
            file.contribution,
            f"The upload of {plain(file.name)} was given up",
            f"No part of it arrived for {storage.ABORT_AFTER_DAYS} days, so its parts are removed. The draft is kept: "
            "choose the file again to send it.",
        )
    uploads.forget(file)


def _waiting(*, now: datetime) -> QuerySet[Contribution]:
    """Return drafts whose files have all arrived, long ago, and whose people have not been told since."""
    drafts = Contribution.objects.filter(status=Status.DRAFT).exclude(files__state=State.UPLOADING)
    dated = drafts.annotate(arrived=Max("files__uploaded_at"), told=Max("files__reminded_at"))
    untold = Q(told__isnull=True) | Q(told__lt=F("arrived"))
    return dated.filter(untold, arrived__lte=now - SUBMIT_AFTER)


@transaction.atomic
def _remind_of_draft(draft: Contribution, *, now: datetime) -> None:
    draft = Contribution.objects.select_for_update(of=["self"]).select_related("institution").get(pk=draft.pk)
    if not _waiting(now=now).filter(pk=draft.pk).exists():
        return  # it was submitted meanwhile, or another sweep told of it
    draft.files.update(reminded_at=now)
    _tell(
        draft,
        f"Your draft {plain(draft.title)} waits",
        "Its files have arrived and take up room, and it was not submitted. See what is missing and submit it, or "
        "withdraw it.",
    )


def _tell(contribution: Contribution, subject: str, text: str) -> None:
    people = institutions.people_acting_for(contribution.institution, *STEWARDS)
    notify(people, type=Type.CONTRIBUTION, subject=subject, text=text, path=contribution.get_absolute_url())
