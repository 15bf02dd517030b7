"""Room, uploads that stand still, exact lengths, and copies that are hashed again."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from contributions import promotion, room, services, standstill, uploads
from contributions.models import Contribution, ContributionFile
from jobs import tasks
from portal import storage
from portal.accounts.models import User
from portal.audit.models import AuditEvent
from portal.notifications.models import Notification
from tests import contributing
from tests.contributing import announce, put, send, sha256_base64

pytestmark = pytest.mark.services
TWO_PARTS = bytes(range(256)) * (storage.PART_SIZE_BYTES // 256) + b"the second part"


@pytest.fixture
def draft(institution, programme, steward) -> Contribution:
    return contributing.draft(institution, contributing.registered_base(programme), by=steward)


# Room


def test_what_does_not_fit_is_refused_before_an_address_is_signed(draft, steward, outsider, settings, programme):
    settings.UPLOAD_QUOTA_BYTES = 10
    announce(draft, b"1234567", by=steward)
    second = contributing.draft(draft.institution, draft.base_model, by=steward, title="Second")
    with pytest.raises(room.QuotaExceeded, match="has 4 bytes, and Moi Eye Clinic has 3 of 10 left"):
        announce(second, b"1234", by=steward)
    assert (second.files.count(), room.of(draft.institution).used_bytes) == (0, 7)
    assert announce(draft, b"1234567", by=steward).size_bytes == 7  # the same file goes on
    assert announce(second, b"123", by=steward).size_bytes == 3
    other = outsider.memberships.get().institution
    theirs = contributing.draft(other, draft.base_model, by=outsider)
    assert announce(theirs, b"1234567890", by=outsider).size_bytes == 10  # room is each institution's own


def test_of_two_files_that_are_announced_at_once_the_second_counts_the_first(draft, steward, settings, monkeypatch):
    """The other one comes between the first look at the room and the row that takes it."""
    settings.UPLOAD_QUOTA_BYTES = 10
    second = contributing.draft(draft.institution, draft.base_model, by=steward, title="Second")
    real, begun = storage.begin_multipart, []

    def begin(key: str) -> str:
        begun.append(key)
        if len(begun) == 1:
            announce(second, b"7654321", by=steward)
        return real(key)

    monkeypatch.setattr(storage, "begin_multipart", begin)
    with pytest.raises(room.QuotaExceeded, match="has 7 bytes, and Moi Eye Clinic has 3 of 10 left"):
        announce(draft, b"1234567", by=steward)
    assert (room.of(draft.institution).used_bytes, draft.files.count()) == (7, 0)
    assert [upload.key for upload in storage.open_uploads(f"contributions/{draft.pk}/")] == []


def test_the_page_says_how_much_room_is_used(sign_in, draft, steward, settings):
    settings.UPLOAD_QUOTA_BYTES = 2 * 2**20
    announce(draft, b"x" * 2**20, by=steward)
    page = sign_in(steward).get(f"/contributions/{draft.pk}/files/").content.decode()
    assert re.search(r"Moi Eye Clinic uses 1.0\sMiB of 2.0\sMiB\.", page)


# Exact lengths


def test_a_signed_address_takes_no_other_length(draft, steward):
    file = announce(draft, b"weights", by=steward)
    [signed] = services.sign_parts(file, [(1, sha256_base64(b"short"))], by=steward)
    assert put(signed, b"short").status == 403
    assert services.parts_uploaded(file) == []


# Uploads that stand still


@pytest.fixture
def half(draft, steward):
    file = announce(draft, TWO_PARTS, by=steward)
    assert send(file, TWO_PARTS, by=steward, numbers=[1]) == [200]
    return file


def subjects(person) -> list[str]:
    return list(Notification.objects.filter(recipient=person).order_by("pk").values_list("subject", flat=True))


def test_a_draft_whose_files_have_arrived_is_told_of_once_after_two_weeks(draft, steward, member):
    contributing.upload(draft, b"weights", by=steward)
    submitted = contributing.draft(draft.institution, draft.base_model, by=steward, title="Second")
    contributing.upload(submitted, b"others", by=steward)
    services.submit(submitted, by=steward, now=timezone.now())
    arrived, seen = timezone.now(), len(subjects(steward))
    standstill.tidy(now=arrived + timedelta(days=13, hours=23))
    assert len(subjects(steward)) == seen
    for hours in (1, 2):
        standstill.tidy(now=arrived + timedelta(days=14, hours=hours))
    assert (subjects(steward)[seen:], subjects(member)) == ([f"Your draft {draft.title} waits"], [])
    text = Notification.objects.get(recipient=steward, subject__startswith="Your draft").text
    assert "Its files have arrived and take up room, and it was not submitted." in text


def test_an_upload_that_stands_still_is_announced_once_and_given_up_two_days_later(half, draft, steward, member):
    began = timezone.now()
    standstill.tidy(now=began + timedelta(days=4, hours=23))
    assert (draft.files.count(), subjects(steward)) == (1, [])
    standstill.tidy(now=began + timedelta(days=5, hours=1))
    standstill.tidy(now=began + timedelta(days=5, hours=2))
    assert subjects(steward) == ["The upload of weights.safetensors stands still"]
    standstill.tidy(now=began + timedelta(days=7, hours=1))
    assert subjects(steward)[1:] == ["The upload of weights.safetensors was given up"]
    assert (draft.files.count(), storage.list_parts(half.storage_key, half.upload_id), subjects(member)) == (0, [], [])
    assert Contribution.objects.get(pk=draft.pk).status == "draft"
    assert AuditEvent.objects.filter(verb="contribution.upload_given_up", subject_id=draft.pk).count() == 1
    assert announce(draft, TWO_PARTS, by=steward).state == "uploading"  # it can be sent again


def test_an_upload_that_went_on_and_stands_still_again_is_announced_again(half, draft, steward):
    half.added_at -= timedelta(days=30)  # its part arrives now, after it was announced
    half.reminded_at = timezone.now() - timedelta(days=20)
    half.save()
    standstill.tidy(now=timezone.now() + timedelta(days=4, hours=23))
    assert subjects(steward) == []
    for hours in (1, 2):
        standstill.tidy(now=timezone.now() + timedelta(days=5, hours=hours))
    assert subjects(steward) == ["The upload of weights.safetensors stands still"]


@pytest.mark.parametrize("moment", ["list_parts", "complete_multipart"])
def test_a_file_that_is_removed_while_it_is_joined_is_told_as_gone(draft, steward, monkeypatch, moment):
    file = announce(draft, b"weights", by=steward)
    assert send(file, b"weights", by=steward) == [200]
    real = getattr(storage, moment)

    def removed_then(*args):
        found = real(*args)
        uploads.remove_file(file, by=steward)
        return found

    monkeypatch.setattr(storage, moment, removed_then)
    with pytest.raises(uploads.FileGone):
        services.complete_file(file, sha256="0" * 64, by=steward, now=timezone.now())
    assert (draft.files.count(), storage.size(storage.QUARANTINE, file.storage_key)) == (0, None)


def test_one_upload_that_cannot_be_looked_after_stops_no_other(half, draft, steward, monkeypatch):
    second = contributing.draft(draft.institution, draft.base_model, by=steward, title="Second")
    announce(second, b"never sent", by=steward)
    real = storage.list_parts

    def failing(key, upload_id):
        if key == half.storage_key:
            raise storage.Unavailable("The object store did not answer.")
        return real(key, upload_id)

    monkeypatch.setattr(storage, "list_parts", failing)
    standstill.tidy(now=timezone.now() + timedelta(days=8))
    assert (draft.files.count(), second.files.count()) == (1, 0)


def test_a_part_that_arrives_keeps_an_upload(half, draft):
    half.added_at -= timedelta(days=30)
    half.save()
    standstill.tidy(now=timezone.now() + timedelta(days=4))  # the part came now
    assert draft.files.count() == 1


def test_a_complete_file_is_never_given_up(draft, steward):
    contributing.upload(draft, b"weights", by=steward)
    draft.files.update(added_at=timezone.now() - timedelta(days=60))
    tasks.tidy_uploads()
    assert (draft.files.get().state, subjects(steward)) == ("uploaded", [])


# Copies


def being_checked(draft: Contribution, *, by: User) -> ContributionFile:
    given = contributing.at_status("validating", draft.institution, draft.base_model, by=by, content=b"weights")
    return given.files.get()


def test_the_copy_in_the_vault_is_hashed_again_and_its_version_kept(draft, steward):
    file = being_checked(draft, by=steward)
    services.promote_files(file.contribution_id)
    file.refresh_from_db()
    kept = b"".join(storage.stream(storage.VAULT, file.storage_key, version=file.vault_version))
    assert (bool(file.vault_version), kept) == (True, b"weights")
    storage.put(storage.VAULT, file.storage_key, b"changed")  # a later write is another version
    assert b"".join(storage.stream(storage.VAULT, file.storage_key, version=file.vault_version)) == b"weights"


def test_a_damaged_copy_is_found_before_the_board_sees_it(draft, steward, monkeypatch):
    file = being_checked(draft, by=steward)
    real = storage.promote

    def damaging(source, target):
        storage.put(*source, b"weightz")
        return real(source, target)

    monkeypatch.setattr(storage, "promote", damaging)
    with pytest.raises(promotion.CopyDamaged):
        services.promote_files(file.contribution_id)
    file.refresh_from_db()
    assert file.vault_version == ""
