"""
Every hostile file of the shared folder is refused with a reason and a remedy, quickly, and nothing in it is loaded.

A child process checks them: it sees which modules a refusal brings in, which a pytest process full of torch hides.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = ROOT.parent / "shared" / "data" / "hostile-weights"
SECONDS = 5

pytestmark = pytest.mark.skipif(not HOSTILE.exists(), reason="the files of ../shared/data/hostile-weights are not here")

# numpy itself imports pickle, so that module's presence says nothing: the audit event says whether it was put to use.
# Modules are compared before and after, so that only what a refused file brings in counts.
CHILD = """
import json, sys, time
from pathlib import Path
from jobs.kit.checks.container import check_container
from jobs.kit import generator

base = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")
before, unpickled = set(sys.modules), []
sys.addaudithook(lambda event, arguments: unpickled.append(event) if event.startswith("pickle.") else None)
files = {}
for path, name in json.load(sys.stdin):
    started = time.monotonic()
    result, container = check_container(Path(path), base, name=name)
    files[f"{Path(path).name} as {name}" if name else Path(path).name] = {
        "verdict": result.verdict,
        "reason": [result.evidence.get("code", ""), result.sentence, result.fix],
        "is_read": container is not None,
        "seconds": time.monotonic() - started,
    }
print(json.dumps({
    "files": files, "torch": "torch" in sys.modules, "new": sorted(set(sys.modules) - before), "unpickled": unpickled
}))
"""


def checked(paths, name=""):
    """Return what the child saw; `name` is the one that the files had at the site, their own where it is empty."""
    asked = json.dumps([(str(path), name) for path in paths])
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=60 + SECONDS * len(paths),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def generated():
    """Write make.py's files beside a copy of it: one has 101 MB, and the shared folder is not ours to fill."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(HOSTILE / "make.py", Path(folder) / "make.py")
        runpy.run_path(str(copy))
        yield sorted((Path(folder) / "generated").iterdir())


@pytest.fixture(scope="module")
def pickles():
    return sorted((HOSTILE / "pickles").iterdir())


LOADERS = {"torch", "pickle", "_pickle", "joblib", "dill", "zipfile", "tarfile"}
CALM = {"slow": [], "loaded": [], "torch": False, "unpickled": []}
REFUSED = {"not refused": [], "without reason": [], **CALM}


def refusals(seen):
    """Return what is wrong with refusals: files let through, or refused without code, sentence and remedy."""
    files = seen["files"]
    return {
        "not refused": [name for name, file in files.items() if file["verdict"] != "fail" or file["is_read"]],
        "without reason": [name for name, file in files.items() if not all(file["reason"])],
        **disturbances(seen),
    }


def disturbances(seen):
    """Return which files took long, and what Python loaded or unpickled for any."""
    return {
        "slow": [name for name, file in seen["files"].items() if file["seconds"] >= SECONDS],
        "loaded": sorted(LOADERS & {module.partition(".")[0] for module in seen["new"]}),
        "torch": seen["torch"],
        "unpickled": seen["unpickled"],
    }


def test_every_malformed_file_is_refused_with_a_reason(generated):
    bad = [path for path in generated if path.name.startswith("bad_")]
    seen = checked(bad)
    assert len(seen["files"]) == len(bad) > 0
    assert refusals(seen) == REFUSED


def test_every_well_formed_file_is_accepted(generated):
    good = [path for path in generated if path.name.startswith("good_")]
    seen = checked(good)
    assert len(seen["files"]) == len(good) > 0
    assert {name: file["reason"] for name, file in seen["files"].items() if file["verdict"] != "pass"} == {}
    assert all(file["is_read"] for file in seen["files"].values())
    assert disturbances(seen) == CALM


def test_every_generated_file_says_which_it_is(generated):
    assert {path.name.partition("_")[0] for path in generated} == {"bad", "good"}


def test_every_pickle_and_archive_is_refused_with_a_reason(pickles):
    seen = checked(pickles)
    assert len(seen["files"]) == len(pickles) > 0
    assert refusals(seen) == REFUSED


def test_an_innocent_name_does_not_help_a_pickle(pickles):
    seen = checked(pickles, name="weights.safetensors")
    assert len(seen["files"]) == len(pickles) > 0
    assert refusals(seen) == REFUSED


def test_the_child_would_notice_an_unpickled_file():
    """The audit event is the only witness, so it must be one."""
    program = CHILD.replace(
        "for path, name in", 'import pickle; pickle.loads(b"cbuiltins\\nlen\\n.")\nfor path, name in'
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input="[]", capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout)["unpickled"] == ["pickle.find_class"]
