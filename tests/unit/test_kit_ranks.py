"""Pre-training in two processes through torchrun: the same weights, resumed exactly, and nobody left behind."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

from jobs.kit import pretrain, ranks
from jobs.kit.encoder import features, load_encoder
from tests.drills.site import wait_until
from tests.unit.test_kit_pretrain import CONFIG, discs

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ranks")]
LONGER = dataclasses.replace(CONFIG, steps=60, checkpoint_every=10)


def train(folder, config=CONFIG, *, on_progress=lambda *args: None, should_stop=lambda: False):
    return ranks.pretrain(discs(), folder, config, processes=2, on_progress=on_progress, should_stop=should_stop)


def processes_of(folder):
    """The processes that train in a folder."""
    found = psutil.process_iter(["cmdline", "status"])
    named = [process for process in found if str(folder) in (process.info["cmdline"] or [])]
    return [process for process in named if process.info["status"] != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that nothing interrupted, and what it told of its steps."""
    seen = []
    return train(tmp_path_factory.mktemp("whole"), LONGER, on_progress=lambda *args: seen.append(args)), seen


def test_two_processes_train_as_one_does(whole, tmp_path):
    one, (two, seen) = pretrain.pretrain(discs(), tmp_path, LONGER), whole
    assert one.losses == [(step, pytest.approx(loss, rel=0.01)) for step, loss in two.losses]
    assert [(done, total, loss) for done, total, _, loss in seen] == [(s, 60, loss) for s, loss in two.losses]
    loaded = load_encoder(two.folder)
    assert (two.finished, loaded.sha256) == (True, two.sha256)
    assert np.allclose(features(loaded, discs(size=16)), features(load_encoder(tmp_path), discs(size=16)), atol=0.05)
    assert processes_of(two.folder) == []


def test_stopped_or_killed_it_goes_on_to_the_same_weights(whole, tmp_path):
    """Its caller is killed, with no time to end anything; then it is stopped; then it goes on to the end."""
    caller = multiprocessing.get_context("fork").Process(target=train, args=(tmp_path, LONGER))
    caller.start()
    wait_until(lambda: any(tmp_path.glob("checkpoints/step-*")), seconds=120, what="The first checkpoint")
    os.kill(caller.pid, signal.SIGKILL)
    caller.join()
    wait_until(lambda: not processes_of(tmp_path), seconds=30, what="The end of every process")

    steps = []
    stopped = train(tmp_path, LONGER, on_progress=lambda done, *_: steps.append(done), should_stop=lambda: bool(steps))
    assert (stopped.finished, stopped.sha256, stopped.losses[:10]) == (False, "", whole[0].losses[:10])
    assert not (tmp_path / "model.safetensors").exists()
    resumed = train(tmp_path, LONGER)
    assert (resumed.losses, resumed.sha256) == (whole[0].losses, whole[0].sha256)


def test_asked_to_stop_before_it_began_it_ends_at_once(tmp_path):
    stopped = train(tmp_path, should_stop=lambda: True)
    assert (stopped.finished, stopped.losses) == (False, [])
    assert processes_of(tmp_path) == []


def test_process_that_is_killed_is_told_with_what_it_said(tmp_path):
    killed = []

    def kill_one(*args):
        if not killed:  # it may have told of a second step before
            killed.append(next(p for p in processes_of(tmp_path) if "--processes" not in p.info["cmdline"]))
            killed[0].kill()

    with pytest.raises(pretrain.PretrainError, match="SIGKILL") as caught:
        train(tmp_path, dataclasses.replace(CONFIG, steps=100_000), on_progress=kill_one)
    assert caught.value.code == "process_ended"
    assert processes_of(tmp_path) == []


def test_error_in_the_processes_is_raised_here(tmp_path):
    pretrain.pretrain(discs(), tmp_path, dataclasses.replace(CONFIG, seed=1))
    with pytest.raises(pretrain.PretrainError) as caught:
        train(tmp_path)
    assert (caught.value.code, caught.value.fix) == ("checkpoint_of_another_run", "Choose an empty output folder.")


def test_too_little_memory_is_told_as_such(tmp_path):
    """As torchrun starts it, but for being alone."""
    ranks._write(tmp_path, discs(), dataclasses.replace(CONFIG, batch=10**16), "cpu")
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    argv = [sys.executable, "-m", ranks.__name__, str(tmp_path)]
    ended = subprocess.run(argv, env={**ranks._environment(1), **alone}, capture_output=True, check=False, timeout=300)
    said = json.loads(ended.stdout)
    assert (ended.returncode, said["type"], said["code"]) == (70, "error", "out_of_memory")
    with pytest.raises(MemoryError, match="Unable to allocate"):
        ranks._result(said, tmp_path)


def test_batch_that_cannot_be_shared_is_refused_before_anything_begins(tmp_path):
    with pytest.raises(pretrain.PretrainError, match="5 images cannot be shared out evenly among 2") as caught:
        train(tmp_path / "new", dataclasses.replace(CONFIG, batch=5))
    assert caught.value.code == "batch_not_shared"
    assert not (tmp_path / "new").exists()


def test_processes_get_no_secret_of_the_worker(monkeypatch):
    for name in ("SECRET_KEY", "DATABASE_URL", "S3_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    environment = ranks._environment(2)
    assert "secret" not in environment.values()
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
