"""Uploads and downloads of the kit over real sockets that break, expire and lie."""

import base64
import hashlib
import logging
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest
import urllib3

from jobs.kit import fetch, transfer
from jobs.kit.client import Portal, PortalError
from jobs.kit.transfer import TransferError
from tests import loopback

PART = 256 * 1024
CONTENT = np.random.default_rng(2).bytes(5 * PART + 12_345)  # six parts


@pytest.fixture
def site():
    with loopback.serve(part_size_bytes=PART) as site:
        site.contributions[1] = {"id": 1, "status": "draft", "files": []}
        site.objects["model.bin"] = CONTENT
        yield site


@pytest.fixture
def portal(site):
    return Portal(site.portal_url, loopback.TOKEN, backoff_seconds=0)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(CONTENT)
    return path


def parts_sent(site) -> list[int]:
    return sorted(int(path.partition("?")[0].rpartition("/")[2]) for method, path, _ in site.seen if method == "PUT")


# Hashes


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 5 * PART + 12_345])
def test_hash_file_equals_hashlib_for_the_whole_and_for_each_part(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(CONTENT[:size])
    hashed = transfer.hash_file(path, part_size_bytes=PART)
    blocks = [CONTENT[start : min(start + PART, size)] for start in range(0, size, PART)] or [b""]
    assert hashed == transfer.FileHash(
        size_bytes=size,
        sha256=hashlib.sha256(CONTENT[:size]).hexdigest(),
        part_size_bytes=PART,
        parts=tuple(base64.b64encode(hashlib.sha256(block).digest()).decode() for block in blocks),
    )
    together = hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks))
    assert hashed.parts_sha256 == together.hexdigest()


def test_hash_file_reports_progress(weights):
    seen = []
    transfer.hash_file(weights, part_size_bytes=4 * PART, on_progress=lambda *event: seen.append(event))
    text = "Reading weights.safetensors"
    assert seen == [(4 * PART, len(CONTENT), text), (len(CONTENT), len(CONTENT), text)]


# Upload


def test_upload_sends_every_part_with_its_signed_checksum(site, portal, weights):
    file = transfer.upload(portal, 1, weights)
    assert (file["name"], file["size_bytes"], file["state"]) == ("weights.safetensors", len(CONTENT), "uploaded")
    assert b"".join(site.parts[number] for number in sorted(site.parts)) == CONTENT
    assert parts_sent(site) == [1, 2, 3, 4, 5, 6]


def test_upload_never_shows_the_token_to_the_store(site, portal, weights):
    transfer.upload(portal, 1, weights)
    assert [headers for _, _, headers in site.seen if "Authorization" in headers] == []


def test_upload_of_an_empty_file_sends_one_empty_part(site, portal, tmp_path):
    path = tmp_path / "empty.safetensors"
    path.touch()
    assert transfer.upload(portal, 1, path)["state"] == "uploaded"
    assert site.parts == {1: b""}


def test_upload_sends_again_what_broke_off_expired_or_was_refused(site, portal, weights):
    site.faults |= {"PUT 2": ["break", "unavailable"], "PUT 5": ["expired"], "PUT 6": ["break", "expired"]}
    assert transfer.upload(portal, 1, weights)["state"] == "uploaded"
    assert parts_sent(site) == [1, 2, 2, 2, 3, 4, 5, 5, 6, 6, 6]


def test_upload_signs_again_before_addresses_expire(site, portal, weights):
    site.expires_in_seconds = 0
    assert transfer.upload(portal, 1, weights)["state"] == "uploaded"
    assert site.called.count("POST contributions/1/files/7/parts") == 6


def test_upload_signs_at_most_twenty_parts_at_once(tmp_path, weights):
    with loopback.serve(part_size_bytes=PART // 8) as site:
        site.contributions[1] = {"id": 1, "status": "draft", "files": []}
        transfer.upload(Portal(site.portal_url, loopback.TOKEN), 1, weights)
        assert site.called.count("POST contributions/1/files/7/parts") == 3  # 41 parts
        assert len(site.parts) == 41


def test_upload_over_one_connection_sends_one_part_after_the_other(site, portal, weights):
    senders = []
    hashed = transfer.hash_file(weights, part_size_bytes=PART)
    given = {"hashed": hashed, "on_progress": lambda *event: senders.append(threading.get_ident())}
    transfer.upload(portal, 1, weights, connections=1, **given)
    assert len(set(senders) - {threading.get_ident()}) == 1
    assert [path.partition("?")[0].rpartition("/")[2] for method, path, _ in site.seen] == list("123456")


def test_upload_gives_up_after_five_attempts_and_goes_on_later(site, portal, weights):
    site.faults["PUT 4"] = ["break"] * 5
    with pytest.raises(TransferError) as caught:
        transfer.upload(portal, 1, weights)
    assert (caught.value.code, caught.value.exit_code) == ("transfer_failed", 3)
    assert caught.value.fix == "Run the same command again; what has arrived is kept."
    arrived = set(site.parts)
    site.seen.clear()
    assert transfer.upload(portal, 1, weights)["state"] == "uploaded"
    assert parts_sent(site) == sorted({1, 2, 3, 4, 5, 6} - arrived)


@pytest.mark.parametrize(
    ("asks", "seconds"),
    [("7", 7), ("3600", 60), ("-5", 0), ("soon", 0), ("", 0), (formatdate(0, usegmt=True), 0),
     (formatdate(4e9, usegmt=True), 60)],
)  # fmt: skip
def test_a_store_is_left_alone_for_as_long_as_it_asks(asks, seconds):
    """In seconds or as a date, a minute at most: a clock may be wrong."""
    answer = urllib3.HTTPResponse(b"<Code>SlowDown</Code>", status=503, headers={"Retry-After": asks} if asks else {})
    with pytest.raises(transfer.Broken) as caught:
        transfer.refused(answer)
    assert (str(caught.value), caught.value.after) == ("the store answered 503 SlowDown", seconds)


def test_upload_waits_for_as_long_as_the_store_asks(site, portal, weights, monkeypatch):
    site.faults["PUT 1"] = ["unavailable"]
    monkeypatch.setattr(transfer, "asked_seconds", lambda response: 0.2)
    started = time.monotonic()
    transfer.upload(portal, 1, weights)
    assert time.monotonic() - started >= 0.2


def test_upload_that_is_complete_sends_nothing(site, portal, weights):
    transfer.upload(portal, 1, weights)
    site.seen.clear()
    assert transfer.upload(portal, 1, weights)["state"] == "uploaded"
    assert site.seen == []


def test_upload_completes_where_only_the_completion_is_missing(site, portal, weights):
    site.faults["POST contributions/1/files/7/complete"] = ["not_now"]
    with pytest.raises(PortalError) as caught:
        transfer.upload(portal, 1, weights)
    assert caught.value.code == "not_now"
    site.seen.clear()
    assert transfer.upload(portal, 1, weights)["state"] == "uploaded"
    assert site.seen == []


def test_upload_ends_where_another_completed_the_file_with_another_hash(site, portal, weights):
    """The first SHA-256 stands: signed and submitted, the file would fail its checks."""
    transfer.upload(portal, 1, weights)
    site.contributions[1]["files"][0]["sha256"] = "0" * 64
    with pytest.raises(TransferError) as caught:
        transfer.upload(portal, 1, weights)
    assert (caught.value.code, "Remove it from the draft" in caught.value.fix) == ("declared_otherwise", True)


def test_upload_sends_the_part_that_the_store_lost(site, portal, weights):
    site.faults["POST contributions/1/files/7/complete"] = ["parts_missing"]
    hashed = transfer.hash_file(weights, part_size_bytes=PART)
    assert transfer.upload(portal, 1, weights, hashed=hashed)["state"] == "uploaded"
    assert site.called.count("POST contributions/1/files/7/complete") == 2


def test_upload_says_when_the_store_forgot_it(site, portal, weights):
    site.faults["PUT 1"] = ["gone"]
    with pytest.raises(TransferError) as caught:
        transfer.upload(portal, 1, weights)
    assert caught.value.code == "upload_lost"


def test_upload_notices_a_file_that_shrank(site, portal, weights):
    hashed = transfer.hash_file(weights, part_size_bytes=PART)
    weights.write_bytes(CONTENT[:PART])
    with pytest.raises(TransferError) as caught:
        transfer.upload(portal, 1, weights, hashed=hashed)
    assert caught.value.code == "file_changed"


def test_upload_of_changed_bytes_is_refused_by_the_signed_checksum(site, portal, weights):
    hashed = transfer.hash_file(weights, part_size_bytes=PART)
    weights.write_bytes(CONTENT[::-1])
    with pytest.raises(TransferError) as caught:
        transfer.upload(portal, 1, weights, hashed=hashed)
    assert caught.value.sentence.endswith("did not arrive: the store answered 400 XAmzContentChecksumMismatch.")
    assert site.parts == {}


def test_upload_progress_ends_at_the_size_in_spite_of_repetitions(site, portal, weights):
    site.faults["PUT 3"] = ["break"]
    seen = []
    hashed = transfer.hash_file(weights, part_size_bytes=PART)
    transfer.upload(portal, 1, weights, hashed=hashed, on_progress=lambda *event: seen.append(event))
    assert seen[0] == (0, len(CONTENT), "Sending weights.safetensors")
    assert seen[-1] == (len(CONTENT), len(CONTENT), "Sending weights.safetensors")
    assert max(done for done, _, _ in seen) == len(CONTENT)


def test_transfers_log_no_token_and_no_presigned_address(site, portal, weights, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    site.faults |= {"PUT 2": ["break", "expired"], "GET model.bin": ["break", "expired"]}
    transfer.upload(portal, 1, weights)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    fetch.download(portal, "/dl/grf-1/model.bin", tmp_path / "m", size_bytes=len(CONTENT), sha256=sha256)
    assert [word for word in ("Signature", loopback.TOKEN) if word in caplog.text] == []


def test_failed_transfers_name_no_presigned_address(site, portal, weights):
    site.faults["PUT 1"] = ["break"] * 5
    with pytest.raises(TransferError) as caught:
        transfer.upload(portal, 1, weights)
    assert str(caught.value).count("Signature") == 0
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ is True


# Download


def fetch_model(portal, target, content=CONTENT):
    fetch.download(
        portal,
        "/dl/grf-1/model.bin",
        target,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def ranges(site) -> list[str]:
    return [headers["Range"] for method, _, headers in site.seen if method == "GET"]


def test_download_brings_the_bytes_and_leaves_no_partial_file(site, portal, tmp_path):
    fetch_model(portal, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin"]


def test_download_never_shows_the_token_to_the_store(site, portal, tmp_path):
    fetch_model(portal, tmp_path / "model.bin")
    assert [headers.get("Authorization") for _, _, headers in site.seen] == [None]


def test_download_goes_on_where_it_broke_with_a_fresh_address(site, portal, tmp_path):
    site.faults["GET model.bin"] = ["break", "expired", "break"]
    fetch_model(portal, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    three_quarters = half + (len(CONTENT) - half) // 2
    assert ranges(site) == ["bytes=0-", f"bytes={half}-", f"bytes={half}-", f"bytes={three_quarters}-"]
    assert site.called == ["GET /dl/grf-1/model.bin"] * 4


def test_download_keeps_what_arrived_and_a_later_call_goes_on(site, portal, tmp_path):
    site.faults["GET model.bin"] = ["break", *["expired"] * 5]
    with pytest.raises(TransferError) as caught:
        fetch_model(portal, tmp_path / "model.bin")
    assert caught.value.exit_code == 3
    half = len(CONTENT) // 2
    assert (tmp_path / "model.bin.part").read_bytes() == CONTENT[:half]
    site.seen.clear()
    site.faults.clear()
    fetch_model(portal, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert ranges(site) == [f"bytes={half}-"]


def test_download_starts_again_where_the_store_knows_no_ranges(site, portal, tmp_path):
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:1000])
    site.faults["GET model.bin"] = ["no ranges"]
    fetch_model(portal, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("there", [b"", CONTENT[:1000]], ids=["nothing", "some"])
def test_download_takes_no_page_of_a_proxy_for_the_file(site, portal, tmp_path, there):
    (tmp_path / "model.bin.part").write_bytes(there)
    site.faults["GET model.bin"] = ["page", "break"]
    fetch_model(portal, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    assert ranges(site)[:2] == [f"bytes={len(there)}-"] * 2  # what had arrived was kept


def test_download_says_that_pages_come_instead_of_the_file(site, portal, tmp_path):
    site.faults["GET model.bin"] = ["page"] * 5
    with pytest.raises(TransferError) as caught:
        fetch_model(portal, tmp_path / "model.bin")
    assert caught.value.sentence == (
        "model.bin could not be fetched: something else came in its place, as a proxy's page does."
    )


def test_download_starts_again_where_the_partial_file_is_too_long(site, portal, tmp_path):
    (tmp_path / "model.bin.part").write_bytes(CONTENT + b"tail")
    fetch_model(portal, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


def test_download_removes_damaged_bytes_and_says_so(site, portal, tmp_path):
    site.faults["GET model.bin"] = ["damage"]
    with pytest.raises(TransferError) as caught:
        fetch_model(portal, tmp_path / "model.bin")
    assert caught.value.code == "checksum_mismatch"
    assert list(tmp_path.iterdir()) == []


def test_download_says_why_the_portal_refuses(site, portal, tmp_path):
    site.faults["GET /dl/grf-1/model.bin"] = ["licence_not_accepted"]
    with pytest.raises(PortalError) as caught:
        fetch_model(portal, tmp_path / "model.bin")
    assert (caught.value.code, caught.value.next_url) == (
        "licence_not_accepted",
        f"{site.portal_url}/licence_not_accepted/",
    )


def test_download_release_verifies_by_the_list_and_fetches_nothing_twice(site, portal, tmp_path):
    site.objects["card.md"] = b"# Card"
    release = portal.models()[0]
    paths = fetch.download_release(portal, release, tmp_path)
    assert [path.name for path in paths] == ["model.bin", "card.md", "SHA256SUMS"]
    assert (tmp_path / "card.md").read_bytes() == b"# Card"
    site.seen.clear()
    assert fetch.download_release(portal, release, tmp_path) == paths
    assert site.seen == []


def test_download_release_refuses_lists_that_disagree(site, portal, tmp_path):
    site.objects["SHA256SUMS"] = b"0" * 64 + b"  model.bin\n"
    with pytest.raises(TransferError) as caught:
        fetch.download_release(portal, portal.models()[0], tmp_path)
    assert caught.value.code == "checksums_disagree"


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "", ".ssh", "a/b", "a\nb"])
def test_download_release_refuses_names_that_leave_the_folder(portal, tmp_path, name):
    release = {"slug": "grf-1", "files": [{"name": name, "size_bytes": 1, "sha256": "0" * 64, "url": "/dl/x"}]}
    with pytest.raises(TransferError) as caught:
        fetch.download_release(portal, release, tmp_path)
    assert caught.value.code == "name_unsafe"


def test_download_says_when_the_disk_is_too_small(portal, tmp_path):
    with pytest.raises(TransferError) as caught:
        fetch.download(portal, "/dl/grf-1/model.bin", tmp_path / "huge", size_bytes=2**60, sha256="0" * 64)
    assert caught.value.code == "disk_full"


def test_read_checksums_reads_what_sha256sum_writes():
    text = f"{'a' * 64}  model.bin\n{'b' * 64} *card.md\nno checksum\n"
    assert fetch.read_checksums(text) == {"model.bin": "a" * 64, "card.md": "b" * 64}
