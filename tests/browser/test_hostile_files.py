"""Hostile files against the running portal's own worker: each is refused, and the worker is the one of before."""

import os
from pathlib import Path

import pytest

from tests import hostile
from tests.running_portal import RunningPortal, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_every_hostile_file_is_refused_and_no_worker_dies(portal: RunningPortal, tmp_path: Path):
    canary = tmp_path / "canary"
    numbers = portal.scene("hostile_files", name="Hostile Clinic", canary=str(canary))
    found = wait_until(lambda: portal.scene("outcomes", numbers=numbers), seconds=180, what="the checks of all files")
    assert [row[0] for row in found] == ["rejected"] * len(hostile.contents(""))
    assert [row[1] for row in found] == ["1"] * 12 + ["5"]
    assert all(row[2] for row in found)  # a code that says why
    workers = {row[3] for row in found}
    assert {row[4] for row in found} == {"1"}  # none was tried twice, as it is when a worker dies over it
    for worker in workers:
        os.kill(int(worker.rpartition(":")[2]), 0)  # it lives
    assert len(workers) <= 2
    assert not canary.exists()
