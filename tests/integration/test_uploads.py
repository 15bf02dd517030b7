"""Uploads against the real object store: damaged parts, resuming, completing, the order of things going wrong."""

from datetime import timedelta

import pytest
from django.utils import timezone

from contributions import services, uploads
from contributions.lifecycle import Status
from contributions.models import Contribution
from portal import storage
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from tests import contributing, factories
from tests.contributing import announce, part_of, put, send, sha256_base64, sha256_hex

TWO_PARTS = bytes(range(256)) * (storage.PART_SIZE_BYTES // 256) + b"the second part"


@pytest.fixture
def draft(institution, programme, steward) -> Contribution:
    return contributing.draft(institution, contributing.registered_base(programme), by=steward)


def complete(file, by, sha256="0" * 64):
    return services.complete_file(file, sha256=sha256, by=by, now=timezone.now())


def test_a_file_of_two_parts_arrives_whole(draft, steward):
    file = announce(draft, TWO_PARTS, by=steward)
    assert (file.part_count, services.parts_uploaded(file), file.state, file.sha256) == (2, [], "uploading", "")
    assert send(file, TWO_PARTS, by=steward) == [200, 200]
    file = complete(file, steward, sha256_hex(TWO_PARTS).upper())
    assert (file.state, services.parts_uploaded(file)) == ("uploaded", [1, 2])
    assert sha256_hex(storage.get(storage.QUARANTINE, file.storage_key)) == file.sha256


def test_the_store_refuses_a_damaged_part(draft, steward):
    content = b"weights" * 1000
    file = announce(draft, content, by=steward)
    [signed] = services.sign_parts(file, [(1, sha256_base64(content))], by=steward)
    assert put(signed, b"X" + content[1:]).status == 400
    assert services.parts_uploaded(file) == []
    assert put(signed, content).status == 200
    assert services.parts_uploaded(file) == [1]


def test_a_signed_address_takes_no_other_checksum(draft, steward):
    file = announce(draft, b"weights", by=steward)
    [signed] = services.sign_parts(file, [(1, sha256_base64(b"weights"))], by=steward)
    signed["headers"] = {"x-amz-checksum-sha256": sha256_base64(b"other")}
    assert put(signed, b"other").status == 403
    signed["headers"] = {}
    assert put(signed, b"other").status == 403


def test_the_same_file_goes_on_where_it_stopped(draft, steward, institution):
    first = announce(draft, TWO_PARTS, by=steward)
    assert send(first, TWO_PARTS, by=steward, numbers=[2]) == [200]
    colleague = factories.person_of(institution)
    again = announce(draft, TWO_PARTS, by=colleague, name="renamed.safetensors")
    assert (again.pk, again.upload_id, services.parts_uploaded(again)) == (first.pk, first.upload_id, [2])
    with pytest.raises(uploads.PartsMissing, match=r"1 of 2 parts .* have not arrived: 1\."):
        complete(again, colleague)
    send(again, TWO_PARTS, by=colleague, numbers=[1])
    assert complete(again, colleague).state == "uploaded"


def test_a_part_of_the_wrong_size_is_missing(draft, steward):
    file = announce(draft, TWO_PARTS, by=steward)
    send(file, TWO_PARTS, by=steward, numbers=[1])
    sha256 = sha256_base64(b"short")
    url = storage.sign_part(
        file.storage_key, file.upload_id, number=2, size_bytes=5, sha256=sha256
    )  # not our service's
    assert put({"url": url, "headers": {"x-amz-checksum-sha256": sha256}}, b"short").status == 200
    with pytest.raises(uploads.PartsMissing, match=r"have not arrived: 2\."):
        complete(file, steward)
    assert file.contribution.files.get().state == "uploading"


def test_completing_is_safe_to_repeat(draft, steward):
    file = announce(draft, b"weights", by=steward)
    send(file, b"weights", by=steward)
    assert [complete(file, steward).state, complete(file, steward).state] == ["uploaded", "uploaded"]
    assert AuditEvent.objects.filter(verb="contribution.file_uploaded").count() == 1


def test_completing_survives_a_crash_after_the_store_answered(draft, steward):
    file = announce(draft, b"weights", by=steward)
    send(file, b"weights", by=steward)
    storage.complete_multipart(file.storage_key, file.upload_id, storage.list_parts(file.storage_key, file.upload_id))
    file.refresh_from_db()
    assert (file.state, complete(file, steward).state) == ("uploading", "uploaded")


def test_an_empty_file_can_be_sent_so_that_the_checks_say_what_is_wrong(draft, steward):
    file = contributing.upload(draft, b"", by=steward)
    assert (file.state, file.part_count, storage.size(storage.QUARANTINE, file.storage_key)) == ("uploaded", 1, 0)
    assert services.submit(draft, by=steward, now=timezone.now()).status == "submitted"


@pytest.mark.parametrize(
    "name",
    [
        "generator.pth",
        "évaluation 2026.safetensors",
        "重み.safetensors",
        "no extension",
        "\u0648\u0632\u0646\u200c\u0647\u0627.safetensors",
    ],
)
def test_the_worker_judges_the_name_not_the_door(draft, steward, name):
    assert announce(draft, b"weights", by=steward, name=name).name == name


@pytest.mark.parametrize(
    "name", ["", "  ", ".", "..", "../w", "a/b", "a\\b", "a\0b", "a\nb", "a\u202eb", "a\u2028b", "x" * 201]
)
def test_a_name_with_a_path_or_the_invisible_is_refused(draft, steward, name):
    with pytest.raises(uploads.FileRefused):
        announce(draft, b"weights", by=steward, name=name)


def test_a_file_over_the_limit_is_refused(draft, steward, settings):
    settings.UPLOAD_MAX_BYTES = 6
    with pytest.raises(uploads.FileRefused, match="has 7 bytes; at most 6 are accepted"):
        announce(draft, b"weights", by=steward)
    assert announce(draft, b"weight", by=steward).size_bytes == 6


def test_weights_are_one_file(draft, steward):
    first = announce(draft, b"first", by=steward, name="first.safetensors")
    with pytest.raises(uploads.FileRefused, match="first.safetensors is there already"):
        announce(draft, b"second", by=steward)
    services.remove_file(first, by=steward)
    assert services.parts_uploaded(first) == []
    assert announce(draft, b"second", by=steward).size_bytes == 6


def test_a_removed_file_leaves_quarantine(draft, steward):
    file = contributing.upload(draft, b"weights", by=steward)
    services.remove_file(file, by=steward)
    assert (draft.files.count(), storage.size(storage.QUARANTINE, file.storage_key)) == (0, None)
    again = contributing.upload(draft, b"weights", by=steward)
    assert storage.get(storage.QUARANTINE, again.storage_key) == b"weights"


@pytest.mark.parametrize(
    ("asked", "refused"), [([], True), (range(1, 21), True), ([0], True), ([3], True), ([2], False)]
)
def test_only_parts_of_the_file_are_signed(draft, steward, asked, refused):
    file = announce(draft, TWO_PARTS, by=steward)
    parts = [(number, sha256_base64(b"")) for number in asked]
    if refused:
        with pytest.raises(uploads.PartsRefused):
            services.sign_parts(file, parts, by=steward)
    else:
        assert [row["number"] for row in services.sign_parts(file, parts, by=steward)] == [2]


def test_at_most_twenty_parts_are_signed_at_once(draft, steward):
    file = services.add_file(
        draft, name="w", size_bytes=30 * storage.PART_SIZE_BYTES, parts_sha256="a" * 64, by=steward, now=timezone.now()
    )
    parts = [(number, sha256_base64(b"")) for number in range(1, 22)]
    assert len(services.sign_parts(file, parts[:20], by=steward)) == 20
    with pytest.raises(uploads.PartsRefused):
        services.sign_parts(file, parts, by=steward)


def test_a_submitted_contribution_takes_no_more_bytes(draft, steward):
    file = contributing.upload(draft, b"weights", by=steward)
    services.submit(draft, by=steward, now=timezone.now())
    submitted = Contribution.objects.get(pk=draft.pk)
    file = submitted.files.get(pk=file.pk)
    for forbidden in (
        lambda: announce(submitted, b"more", by=steward),
        lambda: services.sign_parts(file, [(1, sha256_base64(b""))], by=steward),
        lambda: services.remove_file(file, by=steward),
    ):
        with pytest.raises(uploads.FilesFixed):
            forbidden()
    assert submitted.status == Status.SUBMITTED


def test_only_the_institutions_stewards_send(draft, steward, member, outsider):
    file = announce(draft, b"weights", by=steward)
    for person in (member, outsider):
        for forbidden in (
            lambda by: announce(draft, b"weights", by=by),
            lambda by: services.sign_parts(file, [(1, sha256_base64(b"weights"))], by=by),
            lambda by: complete(file, by),
            lambda by: services.remove_file(file, by=by),
        ):
            with pytest.raises(NotAllowed):
                forbidden(person)
    assert [row.state for row in draft.files.all()] == ["uploading"]


def test_an_upload_that_the_store_forgot_is_begun_anew(draft, steward):
    file = announce(draft, b"weights", by=steward)
    storage.abort_multipart(file.storage_key, file.upload_id)
    later = timezone.now() + timedelta(days=storage.ABORT_AFTER_DAYS)
    announced = {"name": file.name, "size_bytes": 7, "parts_sha256": contributing.parts_sha256(b"weights")}
    renewed = services.add_file(draft, **announced, by=steward, now=later)
    assert (renewed.pk, renewed.upload_id != file.upload_id) == (file.pk, True)
    assert send(renewed, part_of(renewed, b"weights", 1), by=steward) == [200]
    assert complete(renewed, steward).state == "uploaded"
