"""Uploads where a process dies between the store and the row, or two windows do two things at once."""

from datetime import timedelta
from threading import Thread

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from contributions import services, standstill, uploads
from contributions.models import Contribution, ContributionFile
from portal import storage
from portal.audit.models import AuditEvent
from portal.notifications.models import Notification
from tests import contributing
from tests.contributing import announce, send, sha256_hex
from tests.races import then, until_somebody_waits

pytestmark = pytest.mark.services
CONTENT = b"weights" * 1000


@pytest.fixture
def arrived(draft, steward) -> ContributionFile:
    """All of it has arrived; nobody has said so."""
    file = announce(draft, CONTENT, by=steward)
    assert send(file, CONTENT, by=steward) == [200]
    return file


@pytest.fixture
def joined(arrived) -> ContributionFile:
    """The process died after the store had joined the parts, before the row said so."""
    parts = storage.list_parts(arrived.storage_key, arrived.upload_id)
    storage.complete_multipart(arrived.storage_key, arrived.upload_id, parts)
    return arrived


def complete(file: ContributionFile, by) -> ContributionFile:
    return services.complete_file(file, sha256=sha256_hex(CONTENT), by=by, now=timezone.now())


def lies_there(file: ContributionFile) -> bool:
    return storage.size(storage.QUARANTINE, file.storage_key) is not None


# A process that died


@pytest.mark.parametrize("days", [0, 8])
def test_an_upload_goes_on_after_a_crash_between_the_store_and_the_row(joined, draft, steward, days):
    """The kit and the browser send what is missing, and the store knows this upload no more."""
    now = timezone.now() + timedelta(days=days)
    announced = {"name": joined.name, "size_bytes": len(CONTENT), "parts_sha256": joined.parts_sha256}
    again = services.add_file(draft, **announced, by=steward, now=now)
    assert (again.upload_id, services.parts_uploaded(again)) == (joined.upload_id, [1])
    assert complete(again, steward).state == "uploaded"


@pytest.mark.parametrize("end", ["withdrawn", "given up"])
def test_what_a_crash_left_whole_in_the_store_goes_with_its_row(
    joined, draft, steward, end, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        if end == "withdrawn":
            services.withdraw(draft, by=steward, reason="Wrong file.", now=timezone.now())
        else:
            standstill.tidy(now=timezone.now() + timedelta(days=8))
    assert (draft.files.count(), lies_there(joined)) == (0, False)


def test_a_slow_upload_that_a_crash_left_whole_is_not_given_up_at_once(joined, steward):
    """It was announced ten days ago and joined now: the store lists no part any more, and holds the file."""
    ContributionFile.objects.filter(pk=joined.pk).update(added_at=timezone.now() - timedelta(days=10))
    standstill.tidy(now=timezone.now())
    assert (joined.contribution.files.count(), lies_there(joined)) == (1, True)
    standstill.tidy(now=timezone.now() + timedelta(days=6))
    assert "1 of 1 parts have arrived." in Notification.objects.get(recipient=steward, subject__contains="stands").text


def test_parts_of_a_row_that_is_gone_are_forgotten_within_days(draft, steward):
    """The process died after the row had gone, before the store was told."""
    gone = announce(draft, CONTENT, by=steward)
    other = contributing.draft(draft.institution, draft.base_model, by=steward, title="Second")
    services.withdraw(draft, by=steward, reason="Wrong file.", now=timezone.now())  # nothing follows its commit here
    standstill.tidy(now=timezone.now() + timedelta(days=6))
    assert gone.upload_id in under_way()
    now = timezone.now() + timedelta(days=8)
    goes_on = announce(other, CONTENT, by=steward)
    ContributionFile.objects.filter(pk=goes_on.pk).update(added_at=now)
    standstill.tidy(now=now)
    assert under_way() & {gone.upload_id, goes_on.upload_id} == {goes_on.upload_id}


def under_way() -> set[str]:
    return {upload.upload_id for upload in storage.open_uploads("contributions/")}


# Two at once


def test_a_withdrawal_while_the_parts_are_joined_leaves_nothing_in_the_store(arrived, draft, steward, monkeypatch):
    def withdraw() -> None:
        services.withdraw(Contribution.objects.get(pk=draft.pk), by=steward, reason="Wrong file.", now=timezone.now())

    then(monkeypatch, storage, "complete_multipart", withdraw)
    with pytest.raises(uploads.FileGone):
        complete(arrived, steward)
    assert lies_there(arrived) is False


def test_a_removal_that_the_store_answers_late_leaves_the_same_file_of_another_window(
    arrived, draft, steward, monkeypatch
):
    sent: list[ContributionFile] = []
    then(monkeypatch, storage, "abort_multipart", lambda: sent.append(contributing.upload(draft, CONTENT, by=steward)))
    services.remove_file(arrived, by=steward)
    assert (draft.files.get(), draft.files.get().state, lies_there(sent[0])) == (sent[0], "uploaded", True)


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_joined_and_removed_at_once_is_gone_without_a_deadlock(arrived, draft, steward):
    said = []

    def join() -> None:
        try:
            complete(ContributionFile.objects.select_related("contribution__institution").get(pk=arrived.pk), steward)
        except (uploads.FileGone, OperationalError) as exc:
            said.append(type(exc).__name__)
        finally:
            connection.close()

    with transaction.atomic():
        Contribution.objects.select_for_update().get(pk=draft.pk)  # as remove_file begins
        thread = Thread(target=join)
        thread.start()
        until_somebody_waits()
        services.remove_file(arrived, by=steward)
    thread.join(60)
    assert (said, draft.files.count(), lies_there(arrived)) == (["FileGone"], 0, False)


def test_an_upload_that_is_begun_anew_is_not_given_up_at_the_same_instant(draft, steward, monkeypatch):
    file, now = announce(draft, CONTENT, by=steward), timezone.now() + timedelta(days=8)
    announced = {"name": file.name, "size_bytes": len(CONTENT), "parts_sha256": file.parts_sha256}
    then(monkeypatch, storage, "list_parts", lambda: services.add_file(draft, **announced, by=steward, now=now))
    standstill.tidy(now=now)
    again = draft.files.get()
    assert (again.pk, again.added_at, send(again, CONTENT, by=steward)) == (file.pk, now, [200])
    assert not Notification.objects.filter(subject__contains="given up").exists()


def test_an_upload_that_is_given_up_while_it_is_begun_anew_is_told_as_gone(draft, steward, monkeypatch):
    file, now = announce(draft, CONTENT, by=steward), timezone.now() + timedelta(days=8)
    announced = {"name": file.name, "size_bytes": len(CONTENT), "parts_sha256": file.parts_sha256}
    then(monkeypatch, storage, "begin_multipart", lambda: standstill.tidy(now=now))
    with pytest.raises(uploads.FileGone):
        services.add_file(draft, **announced, by=steward, now=now)
    left = [upload.key for upload in storage.open_uploads(f"contributions/{draft.pk}/")]
    assert (draft.files.count(), left) == (0, [])


def test_two_windows_that_begin_a_stale_upload_anew_share_one(draft, steward, monkeypatch):
    file, now = announce(draft, CONTENT, by=steward), timezone.now() + timedelta(days=8)
    announced = {"name": file.name, "size_bytes": len(CONTENT), "parts_sha256": file.parts_sha256}
    first: list[ContributionFile] = []
    add = {"by": steward, "now": now}
    then(monkeypatch, storage, "begin_multipart", lambda: first.append(services.add_file(draft, **announced, **add)))
    second = services.add_file(draft, **announced, **add)
    open_ones = {upload.upload_id for upload in storage.open_uploads(f"contributions/{draft.pk}/")} - {file.upload_id}
    assert ({second.upload_id}, open_ones) == ({first[0].upload_id}, {first[0].upload_id})


def test_a_file_that_two_windows_remove_at_once_is_removed_once(arrived, draft, steward):
    again = ContributionFile.objects.select_related("contribution").get(pk=arrived.pk)
    for file in (arrived, again):
        services.remove_file(file, by=steward)
    assert AuditEvent.objects.filter(verb="contribution.file_removed").count() == 1


def test_nobody_is_reminded_of_a_file_that_arrives_at_the_same_instant(arrived, steward, monkeypatch):
    then(monkeypatch, storage, "list_parts", lambda: complete(arrived, steward))
    standstill.tidy(now=timezone.now() + timedelta(days=6))
    assert AuditEvent.objects.filter(verb="contribution.file_uploaded").count() == 1
    assert not Notification.objects.filter(subject__contains="stands still").exists()
