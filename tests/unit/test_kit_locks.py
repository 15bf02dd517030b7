"""One process at a time in a working folder, and none is kept out by one that ended."""

import errno
import hashlib
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.kit import cli_local, fit, locks, shards, synthetic
from jobs.kit.errors import KitError

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from jobs.kit import locks
with locks.only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def refused(work):
    with pytest.raises(KitError) as caught:
        work()
    return caught.value.code


def taken(folder):
    with locks.only_one(folder):
        return sorted(path.name for path in folder.iterdir())


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path):
    with locks.only_one(tmp_path):
        assert refused(lambda: taken(tmp_path)) == "folder_in_use"
    assert list(tmp_path.iterdir()) == []
    assert taken(tmp_path) == [locks.NAME]


def test_a_process_that_is_killed_keeps_nobody_out(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert refused(lambda: taken(tmp_path)) == "folder_in_use"
        other.send_signal(signal.SIGKILL)
    assert taken(tmp_path) == [locks.NAME]


def test_a_lock_whose_owner_ends_while_it_is_asked_for_is_asked_for_anew(tmp_path, monkeypatch):
    """The owner takes its file away: locked all the same, that one would keep nobody out."""
    real, path = locks.fcntl.flock, tmp_path / locks.NAME

    def ends_first(descriptor, how):
        monkeypatch.setattr(locks.fcntl, "flock", real)
        path.unlink()
        real(descriptor, how)

    monkeypatch.setattr(locks.fcntl, "flock", ends_first)
    with locks.only_one(tmp_path):
        assert refused(lambda: taken(tmp_path)) == "folder_in_use"


def test_a_file_system_without_locks_is_worked_on(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    assert taken(tmp_path) == [locks.NAME]


def test_fit_sample_and_packing_wait_for_nobody(tmp_path):
    base = cli_local.BASES / cli_local.DEFAULT_BASE
    with locks.only_one(tmp_path):
        works = (
            lambda: fit.fit(tmp_path / "photographs", base, tmp_path),
            lambda: synthetic.draw(None, None, tmp_path / "w", tmp_path, count=1, seed=0, date="2026-07-01"),
            lambda: synthetic.pack(tmp_path, None),
        )
        assert [refused(work) for work in works] == ["folder_in_use"] * 3


def test_shards_that_somebody_sends_stay_while_they_are_packed_again(tmp_path, monkeypatch):
    """`check` on a folder while `contribute synthetic` sends it: the same bytes at every moment."""
    monkeypatch.setattr(shards, "IMAGES_A_SHARD", 1)
    rows = []
    for number in range(3):
        data = b"image %d" % number
        (tmp_path / f"{number:06d}.png").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        rows.append([f"{number:06d}.png", digest, str(number), *"0 a true b c 2026-07-01 20 1.0".split()])
    (tmp_path / synthetic.LISTING).write_text("\n".join(",".join(row) for row in [synthetic.COLUMNS, *rows]) + "\n")
    base = SimpleNamespace(slug="b", sha256="1" * 64)
    assert [path.name for path in synthetic.pack(tmp_path, base)] == [shards.name_of(number) for number in range(3)]
    write, there = shards.write, []
    monkeypatch.setattr(shards, "write", lambda path, members: (there.append(path.exists()), write(path, members))[1])
    (tmp_path / "000002.png").unlink()
    assert len(synthetic.pack(tmp_path, base)) == 2
    assert there == [True, True]
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [shards.name_of(0), shards.name_of(1)]
