"""What work leaves on a worker's disk."""

import os
import time

from django.utils import timezone

from jobs import cache, disk, fixity
from portal import storage
from tests.contributing import sha256_hex


def age(path) -> None:
    moment = time.time() - 2 * 24 * 3600
    os.utime(path, (moment, moment))


def test_what_killed_work_left_behind_leaves_the_disk(settings, tmp_path, db):
    settings.DATA_DIR = tmp_path
    run = fixity.queue(by=None, now=timezone.now())
    live, ended = tmp_path / "scratch" / f"run-{run.pk}", tmp_path / "scratch" / f"run-{run.pk + 1}"
    left, young = tmp_path / "scratch" / "tmpleft", tmp_path / "scratch" / "tmpyoung"
    partial = tmp_path / "cache" / "tmppart"
    for folder in (live, ended, left, young, partial):
        folder.mkdir(parents=True)
        (folder / "images.npy").write_bytes(b"pixels")
    for folder in (live, ended, left, partial):
        age(folder)
    disk.tidy()
    found = {path.name: path.exists() for path in (live, ended, left, young, partial)}
    assert found == {live.name: True, ended.name: False, "tmpleft": False, "tmpyoung": True, "tmppart": False}


def test_a_folder_of_weights_goes_with_the_copy_that_it_names(settings, tmp_path, db):
    """A second name keeps a file's bytes on the disk."""
    settings.DATA_DIR = tmp_path
    storage.put(storage.VAULT, "cached/a", b"weights")
    folders = {name: tmp_path / "cache" / name for name in ("base-used", "base-unused", "candidate-1-unused")}
    copy = cache.fetch("cached/a", sha256_hex(b"weights"))
    unused = copy.with_name("b" * 64)
    unused.write_bytes(b"other weights")
    for name, folder in folders.items():
        folder.mkdir()
        cache.link(folder / "model.safetensors", copy if name == "base-used" else unused)
        age(folder)
    age(unused)
    disk.tidy()
    assert {name for name, folder in folders.items() if folder.exists()} == {"base-used"}
    assert (copy.exists(), unused.exists()) == (True, False)
