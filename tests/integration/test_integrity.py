"""
One bit flipped at each hop of a file's way, 200 times a hop, at seeded random places: every flip is found.

The hops: disk to kit, kit to store, quarantine to the check, vault to the worker. At the end of each, the whole file
passes at the same place, so that nothing is found merely because everything is refused.
"""

import os
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from django.core.servers.basehttp import WSGIRequestHandler
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from jobs import cache, engine, services, tasks, validate
from jobs.feed import Feed
from jobs.kit import transfer
from jobs.kit.client import Portal
from jobs.lifecycle import Status
from portal import storage
from portal.accounts import services as accounts
from tests import contributing, factories

pytestmark = pytest.mark.services
FLIPS = 200
CONTENT = np.random.default_rng(5).bytes(16 * 1024)


def flipped(seed: int) -> Iterator[bytes]:
    """Yield the content with one bit changed, each time another one."""
    for bit in np.random.default_rng(seed).choice(8 * len(CONTENT), FLIPS, replace=False).tolist():
        damaged = bytearray(CONTENT)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


# Disk to kit


@pytest.fixture
def kit(live_server, settings, draft, steward, monkeypatch) -> Portal:
    """The portal as the steward's kit speaks to it; one attempt a part, for the fifth tells no more than the first."""
    settings.PORTAL_URL = live_server.url
    monkeypatch.setattr(transfer, "RETRIES", 1)
    monkeypatch.setattr(WSGIRequestHandler, "disable_nagle_algorithm", True)  # or each answer waits 40 ms for an ACK
    return Portal(live_server.url, accounts.create_token(steward, name="kit", now=timezone.now()), backoff_seconds=0)


def sent(kit: Portal, draft: Contribution, path, hashed: transfer.FileHash) -> str:
    """Let the kit send what the disk holds now under the hashes of before; return what came of it."""
    try:
        return transfer.upload(kit, draft.pk, path, hashed=hashed)["state"]
    except transfer.TransferError as error:
        return f"{error.sentence} {contributions.parts_uploaded(draft.files.get())}"


@pytest.mark.django_db(transaction=True)  # the live server has connections of its own
def test_a_bit_that_flips_on_disk_after_the_hashing_is_found(kit, draft, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(CONTENT)
    hashed = transfer.hash_file(path)
    found: Counter[str] = Counter()
    for damaged in flipped(seed=1):
        path.write_bytes(damaged)
        found[sent(kit, draft, path, hashed)] += 1
    refusal = "Part 1 of weights.safetensors did not arrive: the store answered 400 BadDigest. []"
    assert found == {refusal: FLIPS}
    path.write_bytes(CONTENT)
    assert sent(kit, draft, path, hashed) == "uploaded"


# Kit to store


def test_a_bit_that_flips_on_the_way_to_the_store_is_found(draft, steward):
    file = contributing.announce(draft, CONTENT, by=steward)
    [signed] = contributions.sign_parts(file, [(1, contributing.sha256_base64(CONTENT))], by=steward)
    found = Counter(
        (contributing.put(signed, damaged).status, *contributions.parts_uploaded(file)) for damaged in flipped(seed=2)
    )
    assert found == {(400,): FLIPS}
    assert (contributing.put(signed, CONTENT).status, contributions.parts_uploaded(file)) == (200, [1])


# Quarantine to the check


@pytest.fixture
def attempt(at_status) -> engine.Attempt:
    """A worker at the check of a contribution; no heartbeat, for nobody else wants the run."""
    contribution = at_status("submitted", CONTENT)
    tasks.validate_contribution(contribution_id=contribution.pk)
    run = services.claim(factories.worker(), now=services.now())
    assert run is not None
    services.move(run, Status.RUNNING, now=services.now())
    return engine.Attempt(run)


def test_a_bit_that_flips_in_quarantine_is_found(attempt):
    contribution = contributions.begin_validation(attempt.run.subject_id, now=timezone.now())
    file = contribution.files.get()

    def refusal(stored: bytes) -> str:
        storage.put(storage.QUARANTINE, file.storage_key, stored)
        feed = Feed(storage.stream(storage.QUARANTINE, file.storage_key))
        os.close(feed.start())  # nobody reads what it gives; the hash is of all
        return validate._transfer(attempt, contribution, [(file, feed.finish(), feed.size_bytes)])

    found = Counter(refusal(damaged) for damaged in flipped(seed=3))
    sentence = f"{file.name} is not the file that was announced: its size or its SHA-256 differs."
    assert found == {sentence: FLIPS}
    assert (contribution.check_results.get(number=0).verdict, refusal(CONTENT)) == ("fail", "")


# Vault to the worker


def test_a_bit_that_flips_in_the_vault_is_found_and_never_cached(at_status, settings):
    file = at_status("review", CONTENT).files.get()

    def fetched(stored: bytes) -> bytes | str:
        storage.put(storage.VAULT, file.storage_key, stored)
        try:
            return cache.fetch(file.storage_key, file.sha256).read_bytes()
        except engine.PlatformFault as fault:
            return str(fault)

    found = Counter(fetched(damaged) for damaged in flipped(seed=4))
    assert found == {f"The vault's object {file.storage_key} is not the one that was registered.": FLIPS}
    assert not (settings.DATA_DIR / "cache" / file.sha256).exists()
    assert fetched(CONTENT) == CONTENT


def test_a_bit_that_flips_in_the_workers_cache_is_found_and_the_copy_made_again(at_status, settings):
    file = at_status("review", CONTENT).files.get()
    path = cache.fetch(file.storage_key, file.sha256)

    def fetched(number: int, damaged: bytes) -> bytes:
        path.write_bytes(damaged)
        os.utime(path, ns=(number, number))  # as the disk's clock would tell it apart
        return cache.fetch(file.storage_key, file.sha256).read_bytes()

    found = [fetched(number, damaged) == CONTENT for number, damaged in enumerate(flipped(seed=5))]
    assert found == [True] * FLIPS
