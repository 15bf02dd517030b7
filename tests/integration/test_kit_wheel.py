"""The kit as a hospital installs it: the built wheel in an environment of its own, without Django and without torch."""

import json
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jobs import kit
from jobs.kit import train_extra
from tests import loopback
from tests.factories import CARD

SOURCE = Path(kit.__file__).parent
BASE = SOURCE / "base" / "fundus-64"
DEPENDENCIES = ["numpy", "pillow", "safetensors", "urllib3", "click", "tqdm", "cryptography"]
THEIRS = ["cffi", "pycparser"]  # what cryptography needs


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run outside the repository, whose packages must not be found by accident."""
    environment = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd="/", env=environment)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", SOURCE, "--outdir", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("consortium_kit-*.whl"))


@pytest.fixture(scope="module")
def binaries(wheel, tmp_path_factory) -> Path:
    """
    An empty virtual environment with the wheel and its declared dependencies, no more.

    The dependencies are linked from this environment, so that no network is needed; pip then installs the wheel without
    an index and refuses when a declared dependency is missing.
    """
    venv = tmp_path_factory.mktemp("site") / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", venv).returncode == 0
    packages = next(venv.glob("lib/python*/site-packages"))
    for name in DEPENDENCIES + THEIRS:
        installed = metadata.distribution(name)
        for top in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(installed.locate_file(top))).resolve())
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--no-index", wheel]
    done = run(*pip, PIP_CONFIG_FILE="/dev/null")
    assert done.returncode == 0, done.stdout + done.stderr
    return venv / "bin"


@pytest.fixture
def good(tmp_path) -> Path:
    """The base, a little changed: sound weights without training."""
    path = tmp_path / "weights.safetensors"
    tensors = load_file(BASE / "model.safetensors")
    save_file({name: (v * np.float16(1.01)).astype(v.dtype) for name, v in tensors.items()}, path, {"format": "pt"})
    return path


@pytest.fixture
def bad(good, tmp_path) -> Path:
    """The same with one number that is none."""
    tensors = load_file(good)
    name = "conv_in.weight"
    tensors[name].flat[0] = np.nan
    path = tmp_path / "diverged.safetensors"
    save_file(tensors, path, {"format": "pt"})
    return path


def test_wheel_holds_the_sources_and_the_base_generator(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {f"consortium_kit/{path.name}" for path in SOURCE.glob("*.py")}
    base = {f"consortium_kit/base/fundus-64/{name}" for name in ("config.json", "model.safetensors")}
    assert (sources | base) - names == set()
    assert {name.partition("/")[0] for name in names} == {
        "consortium_kit",
        f"consortium_kit-{kit.__version__}.dist-info",
    }


def test_wheel_declares_its_dependencies_and_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"consortium_kit-{kit.__version__}.dist-info/METADATA").decode()
    facts = message_from_string(text)
    required = [line for line in facts.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.partition(">")[0] for line in required) == sorted(DEPENDENCIES)
    assert (facts["License-Expression"], facts["Version"]) == ("Apache-2.0", kit.__version__)
    assert facts.get_payload().startswith("# consortium-kit")


@pytest.mark.parametrize("package", ["django", "celery", "torch", "jobs", "portal"])
def test_environment_lacks_what_the_kit_must_not_need(binaries, package):
    done = run(binaries / "python", "-c", f"import {package}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: No module named '{package}'"


def test_help_and_version_run(binaries):
    done = run(binaries / "consortium", "--help")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Usage: consortium [OPTIONS] COMMAND [ARGS]...")
    done = run(binaries / "python", "-m", "consortium_kit", "--version")
    assert (done.returncode, done.stdout) == (0, f"consortium-kit, version {kit.__version__}\n")


def test_check_passes_good_weights_as_far_as_it_can(binaries, good):
    done = run(binaries / "consortium", "check", good, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(row["number"], row["verdict"]) for row in report["checks"]] == [
        (1, "pass"),
        (2, "warn"),
        (4, "pass"),
        (5, "pass"),
        (6, "warn"),
        (7, "warn"),
    ]
    assert report["checks"][-1]["evidence"] == {"code": "not_run"}
    assert report["checks"][-1]["fix"] == "Run: pip install 'consortium-kit[train]'"


def test_check_tells_where_a_private_training_card_stops_it(binaries, good, tmp_path):
    card = tmp_path / "training_card.json"
    private = {"used": True, "epsilon": 3.0, "delta": 1e-5, "noise_multiplier": 1.1, "sample_rate": 0.05}
    card.write_text(json.dumps(CARD | {"images": 200, "batch_size": 10, "dp": private}))
    done = run(binaries / "consortium", "check", good, "--card", card, "--json")
    last = json.loads(done.stdout)["checks"][-1]
    assert (done.returncode, last["number"], last["verdict"], last["sentence"]) == (
        0, 6, "warn", "Not run here, nor what follows: opacus is not installed. The portal will run them."
    )  # fmt: skip


def test_the_packages_that_a_small_installation_lacks_are_those_of_the_extra():
    extra = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    assert sorted(train_extra.PACKAGES.values()) == sorted(line.partition(">")[0] for line in extra)


def test_check_fails_bad_weights(binaries, bad):
    done = run(binaries / "consortium", "check", bad, "--json")
    assert done.returncode == 2, done.stderr
    report = json.loads(done.stdout)
    assert [(row["number"], row["verdict"]) for row in report["checks"]] == [
        (1, "pass"), (2, "warn"), (4, "pass"), (5, "fail")
    ]  # fmt: skip
    assert report["checks"][-1]["evidence"]["code"] == "not_finite"


def test_check_fails_a_truncated_file(binaries, good):
    good.write_bytes(good.read_bytes()[:-1])
    done = run(binaries / "consortium", "check", good)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "weights.safetensors: fail"


def test_fit_says_how_to_install_what_it_needs(binaries, tmp_path):
    done = run(binaries / "consortium", "fit", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: This command needs torch, which is not installed. Run: pip install 'consortium-kit[train]'"
    ]


def test_weights_can_be_contributed(binaries, good, tmp_path):
    card = tmp_path / "training_card.json"
    card.write_text("{}")
    given = ["--institution", "moi-eye-clinic", "--title", "T", "--card", card, "--unsigned"]
    with loopback.serve(part_size_bytes=2**20) as site:
        signed_in = {"CONSORTIUM_URL": site.portal_url, "CONSORTIUM_TOKEN": loopback.TOKEN, "HOME": str(tmp_path)}
        done = run(binaries / "consortium", "contribute", "weights", good, *given, **signed_in)
        assert done.returncode == 0, done.stderr
        assert b"".join(site.parts[number] for number in sorted(site.parts)) == good.read_bytes()
        assert site.contributions[1]["status"] == "review"
