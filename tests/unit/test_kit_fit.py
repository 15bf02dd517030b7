"""Fine-tuning changes the weights, repeats, goes on where it was stopped, and stops on a loss that is not finite."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jobs.kit import __version__, fit, generator
from jobs.kit.checks.container import check_container
from jobs.kit.checks.numerics import check_numerics
from jobs.kit.checks.schema import check_schema
from jobs.kit.errors import ImagesError, SchemaError, TrainingError
from jobs.kit.fit import FitConfig
from jobs.kit.phantom import write_sample

pytestmark = pytest.mark.slow

BASE_DIR = Path(generator.__file__).parent / "base" / "fundus-64"
ROOT = Path(__file__).parents[2]
QUICK = FitConfig(steps=4, batch_size=2, checkpoint_every=2, warmup_steps=1, device="cpu", seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("site"), 6, seed=2, cameras=["phantom-45"], size=96)


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted")
    return out, fit.fit(folder, BASE_DIR, out, QUICK)


def test_it_writes_weights_and_a_training_card(fitted):
    out, card = fitted
    assert sorted(path.name for path in out.iterdir()) == [
        "samples-000002.png",
        "training_card.json",
        "weights.safetensors",
    ]
    assert json.loads((out / "training_card.json").read_text()) == card
    base = generator.load_base(BASE_DIR)
    expected = {
        "steps": 4,
        "batch_size": 2,
        "learning_rate": 1e-4,
        "seed": 5,
        "image_size": 64,
        "augmentation": {"flip": True, "rotation_degrees": 8.0, "zoom": 0.05},
        "deduplication": {"method": "sha256 of the files", "removed": 0},
        "dp": {"used": False},
        "base": {"slug": "fundus-64", "sha256": base.sha256},
        "kit_version": __version__,
        "device": "cpu",
    }
    assert {key: card[key] for key in expected} == expected
    assert set(card) - set(expected) == {"images", "patients", "cameras", "seconds", "final_loss"}
    assert card["cameras"] == {"phantom-45": card["images"]}
    assert 0 < card["patients"] <= card["images"] < 6  # test and val photographs are left out


def test_the_weights_pass_the_cheap_checks(fitted):
    base = generator.load_base(BASE_DIR)
    result, container = check_container(fitted[0] / "weights.safetensors", base)
    assert result.verdict == "pass"
    assert check_schema(container, base).verdict == "pass"
    numerics = check_numerics(container, base)
    assert numerics.verdict == "pass"
    assert 0 < numerics.evidence["layers"]["all"] < 0.1


def test_equal_runs_give_equal_weights(folder, fitted, tmp_path):
    fit.fit(folder, BASE_DIR, tmp_path, QUICK)
    assert (tmp_path / "weights.safetensors").read_bytes() == (fitted[0] / "weights.safetensors").read_bytes()


def test_a_stopped_run_goes_on_to_the_same_weights(folder, fitted, tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, total, text):
        if text.startswith("Training") and done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        fit.fit(folder, BASE_DIR, tmp_path, QUICK, stop)
    assert (tmp_path / "state.safetensors").exists()
    seen = []
    fit.fit(folder, BASE_DIR, tmp_path, QUICK, lambda done, total, text: seen.append((text.split(",")[0], done)))
    assert [done for text, done in seen if text == "Training"] == [3, 4]
    assert (tmp_path / "weights.safetensors").read_bytes() == (fitted[0] / "weights.safetensors").read_bytes()
    assert not (tmp_path / "state.safetensors").exists()


def test_ctrl_c_waits_for_the_step_and_keeps_it(folder, fitted, tmp_path):
    def press(done, total, text):
        if text.startswith("Training") and done == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of the tests ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit.fit(folder, BASE_DIR, tmp_path, QUICK, press)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    seen = []
    fit.fit(folder, BASE_DIR, tmp_path, QUICK, lambda done, total, text: seen.append((text.split(",")[0], done)))
    assert [done for text, done in seen if text == "Training"] == [2, 3, 4]
    assert (tmp_path / "weights.safetensors").read_bytes() == (fitted[0] / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_batch_system_that_ends_a_run_and_a_terminal_that_closes_keep_the_step(folder, fitted, tmp_path, number):
    script = (
        "import signal, sys\n"
        "from jobs.kit import fit\n"
        "from tests.unit.test_kit_fit import BASE_DIR, QUICK\n"
        f"stop = lambda done, _, text: text[:5] == 'Train' and done == 1 and signal.raise_signal({number})\n"
        f"signal.signal({number}, signal.SIG_DFL)\n"
        "fit.fit(sys.argv[1], BASE_DIR, sys.argv[2], QUICK, stop)\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    with safe_open(tmp_path / "state.safetensors", framework="np") as saved:
        assert saved.metadata()["step"] == "1"
    fit.fit(folder, BASE_DIR, tmp_path, QUICK)
    assert (tmp_path / "weights.safetensors").read_bytes() == (fitted[0] / "weights.safetensors").read_bytes()


def test_a_run_that_kit_0_2_0_stopped_goes_on(folder, fitted, tmp_path):
    def stop(done, total, text):
        if text.startswith("Training") and done == 3:
            raise KeyboardInterrupt

    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit.fit(folder, BASE_DIR, tmp_path, QUICK, stop)
    with safe_open(state, framework="np") as saved:
        facts = saved.metadata()
    run = json.loads(facts["run"])
    assert run.pop("base_sha256") == generator.load_base(BASE_DIR).sha256
    save_file(load_file(state), state, facts | {"run": json.dumps(run, sort_keys=True)})
    fit.fit(folder, BASE_DIR, tmp_path, QUICK)
    assert (tmp_path / "weights.safetensors").read_bytes() == (fitted[0] / "weights.safetensors").read_bytes()


def test_a_damaged_state_says_so(folder, tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"\x10\0\0")
    with pytest.raises(TrainingError) as caught:
        fit.fit(folder, BASE_DIR, tmp_path, QUICK)
    assert (caught.value.code, caught.value.fix) == ("state_damaged", "Remove it to start again.")


def test_a_base_is_part_of_what_a_run_is():
    pixels, classes = np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, np.int64)
    assert fit._run_identity(QUICK, pixels, classes, "a") != fit._run_identity(QUICK, pixels, classes, "b")


def test_a_base_whose_model_is_not_the_one_of_its_config_is_refused(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((BASE_DIR / name).read_bytes())
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(SchemaError) as caught:
        fit.fit(folder, tmp_path, tmp_path / "out", QUICK)
    assert caught.value.code == "base_damaged"


def test_photographs_of_a_folder_that_was_prepared_by_half_are_refused(folder, tmp_path):
    half = write_sample(tmp_path / "half", 4, seed=2, size=64)
    lines = (half / "labels.csv").read_text().splitlines(keepends=True)
    (half / "labels.csv").write_text("".join(lines[:-1]))
    with pytest.raises(ImagesError) as caught:
        fit.fit(half, BASE_DIR, tmp_path / "out", QUICK)
    assert caught.value.code == "not_prepared"


def test_a_state_of_other_settings_is_refused(folder, tmp_path):
    def stop(done, total, text):
        if text.startswith("Training") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit.fit(folder, BASE_DIR, tmp_path, QUICK, stop)
    with pytest.raises(TrainingError) as caught:
        fit.fit(folder, BASE_DIR, tmp_path, FitConfig(steps=5, batch_size=2, device="cpu"))
    assert caught.value.code == "state_differs"


def test_a_state_of_other_photographs_is_refused(folder, tmp_path):
    def stop(done, total, text):
        if text.startswith("Training") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit.fit(folder, BASE_DIR, tmp_path / "out", QUICK, stop)
    other = write_sample(tmp_path / "other", 6, seed=9, size=96)
    with pytest.raises(TrainingError) as caught:
        fit.fit(other, BASE_DIR, tmp_path / "out", QUICK)
    assert caught.value.code == "state_differs"


def test_it_stops_when_the_loss_is_not_finite(folder, tmp_path):
    wild = FitConfig(steps=20, batch_size=2, warmup_steps=1, learning_rate=1e30, device="cpu")
    with pytest.raises(TrainingError) as caught:
        fit.fit(folder, BASE_DIR, tmp_path, wild)
    assert caught.value.code == "loss_not_finite"
    assert not (tmp_path / "weights.safetensors").exists()


def test_one_photograph_is_too_few(tmp_path):
    write_sample(tmp_path / "site", 1, size=64)
    with pytest.raises(ImagesError) as caught:
        fit.fit(tmp_path / "site", BASE_DIR, tmp_path / "out", QUICK)
    assert caught.value.code == "too_few_images"


def test_the_learning_rate_warms_up_and_falls():
    config = FitConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    assert fit.learning_rate_at(0, config) == pytest.approx(0.1)
    assert fit.learning_rate_at(9, config) == 1.0
    assert fit.learning_rate_at(55, config) == pytest.approx(0.55)
    assert fit.learning_rate_at(100, config) == pytest.approx(0.1)


def test_augmentation_without_chance_changes_nothing():
    import torch

    still = FitConfig(flip=False, rotation_degrees=0.0, zoom=0.0)
    batch = torch.rand(3, 3, 16, 16) * 2 - 1
    moved = fit.augment(batch, still, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(moved.numpy(), batch.numpy(), atol=1e-5)
    turned = fit.augment(torch.full((1, 3, 16, 16), 1.0), FitConfig(rotation_degrees=45.0), torch.Generator())
    assert turned[0, 0, 0, 0].item() < -0.5  # what comes into view is black
