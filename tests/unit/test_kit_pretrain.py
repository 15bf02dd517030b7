"""Masked auto-encoder pre-training: it learns, resumes exactly, and stops where it must."""

import dataclasses
import json
import math

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from jobs.kit import pretrain
from jobs.kit.encoder import EncoderConfig, features, load_encoder
from jobs.kit.pretrain import PretrainConfig

SMALL = EncoderConfig("small", 16, 4, 16, 1, 2, decoder_width=16, decoder_depth=1, decoder_heads=2)
CONFIG = PretrainConfig(SMALL, steps=8, batch=6, warmup_steps=2, checkpoint_every=3)


def discs(n=20, size=20):
    """Bright discs of random place on dark ground: something a masked auto-encoder can learn."""
    rng = np.random.default_rng(0)
    grid = np.mgrid[0:size, 0:size]
    centres = rng.uniform(5, size - 5, (n, 2, 1, 1))
    inside = ((grid - centres) ** 2).sum(1) < 25
    return np.repeat(np.where(inside, 200, 20)[..., None], 3, axis=3).astype(np.uint8)


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_loss_falls(tmp_path):
    config = dataclasses.replace(CONFIG, steps=60, batch=16, peak_learning_rate=5e-3, checkpoint_every=1000)
    losses = [loss for _, loss in pretrain.pretrain(discs(), tmp_path, config).losses]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])


def test_result_is_an_encoder_with_its_card(tmp_path):
    result = pretrain.pretrain(discs(), tmp_path, CONFIG)
    assert (result.finished, result.folder, len(result.losses)) == (True, tmp_path, 8)
    assert [step for step, _ in result.losses] == list(range(1, 9))
    loaded = load_encoder(tmp_path)
    assert loaded.sha256 == result.sha256
    assert features(loaded, discs(size=16)).shape == (20, 16)
    card = json.loads((tmp_path / "pretraining.json").read_text())
    assert (card["n_images"], card["weights_sha256"], len(card["losses"])) == (20, result.sha256, 8)


def test_progress_tells_steps_and_loss(tmp_path):
    seen = []
    result = pretrain.pretrain(discs(), tmp_path, CONFIG, on_progress=lambda *args: seen.append(args))
    assert [(done, total, loss) for done, total, _, loss in seen] == [(s, 8, loss) for s, loss in result.losses]
    assert seen[0][2].startswith("Step 1 of 8, loss ")


def test_same_seed_same_weights(tmp_path):
    one, two, other = (
        pretrain.pretrain(discs(), tmp_path / str(i), dataclasses.replace(CONFIG, seed=seed)).sha256
        for i, seed in enumerate((0, 0, 1))
    )
    assert one == two != other


def test_stopped_run_resumes_to_the_same_weights(tmp_path):
    whole = pretrain.pretrain(discs(), tmp_path / "whole", CONFIG)
    calls = []

    def stop_at_step_5():
        calls.append(1)
        return len(calls) == 5

    stopped = pretrain.pretrain(discs(), tmp_path / "parts", CONFIG, should_stop=stop_at_step_5)
    assert (stopped.finished, len(stopped.losses), stopped.sha256) == (False, 5, "")
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    resumed = pretrain.pretrain(discs(), tmp_path / "parts", CONFIG)
    assert resumed.losses == whole.losses
    assert resumed.sha256 == whole.sha256


def test_killed_run_resumes_from_its_newest_whole_checkpoint(tmp_path):
    whole = pretrain.pretrain(discs(), tmp_path / "whole", CONFIG)

    def die(done, total, text, loss):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(discs(), tmp_path / "parts", CONFIG, on_progress=die)
    (tmp_path / "parts" / "checkpoints" / "unfinished").mkdir()  # as a kill in the middle of writing leaves it
    steps = []
    resumed = pretrain.pretrain(discs(), tmp_path / "parts", CONFIG, on_progress=lambda done, *rest: steps.append(done))
    assert steps == [7, 8]
    assert resumed.sha256 == whole.sha256


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    pretrain.pretrain(discs(), tmp_path, dataclasses.replace(CONFIG, checkpoint_every=2))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000008"]


@pytest.mark.parametrize("change", ["configuration", "images"])
def test_checkpoint_of_another_run_is_refused(tmp_path, change):
    pretrain.pretrain(discs(), tmp_path, CONFIG)
    config = dataclasses.replace(CONFIG, batch=5) if change == "configuration" else CONFIG
    images = discs()[::-1] if change == "images" else discs()
    with pytest.raises(pretrain.PretrainError) as caught:
        pretrain.pretrain(images, tmp_path, config)
    assert caught.value.code == "checkpoint_of_another_run"


def test_non_finite_loss_stops_the_run(tmp_path):
    pretrain.pretrain(discs(), tmp_path, dataclasses.replace(CONFIG, steps=8))
    checkpoint = sorted((tmp_path / "checkpoints").iterdir())[-1] / "model.safetensors"
    tensors = load_file(checkpoint)
    tensors["decoder.decoder_pred.bias"][0] = math.nan
    save_file(tensors, checkpoint)
    with pytest.raises(pretrain.PretrainError, match="loss became nan at step 7 of 8") as caught:
        pretrain.pretrain(discs(), tmp_path, CONFIG)
    assert caught.value.code == "loss_not_finite"


@pytest.mark.parametrize(
    "images", [discs().astype(np.float32), discs()[:0], discs()[:, :10], discs()[..., :1], discs()[0]]
)
def test_images_of_another_form_are_refused(tmp_path, images):
    with pytest.raises(pretrain.PretrainError):
        pretrain.pretrain(images, tmp_path, CONFIG)


def test_every_image_is_seen_once_an_epoch():
    chosen = np.concatenate([pretrain.batch_indices(10, 4, step, seed=0) for step in range(5)])
    assert sorted(chosen[:10]) == sorted(chosen[10:]) == list(range(10))
    assert chosen[:10].tolist() != chosen[10:].tolist()


def test_batch_may_hold_several_epochs():
    assert sorted(pretrain.batch_indices(3, 9, 0, seed=0)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_learning_rate_warms_up_and_falls_to_nothing():
    config = dataclasses.replace(CONFIG, steps=110, warmup_steps=10, peak_learning_rate=1.0)
    rates = [pretrain.learning_rate(config, step) for step in range(110)]
    assert rates[:3] == [0.1, 0.2, 0.3]
    assert rates[10] == max(rates) == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[109] < 0.001


def test_crops_stay_inside_the_image():
    theta = pretrain._crops(1000, 0.2, np.random.default_rng(0))
    reach = np.abs(theta[:, [0, 1], [0, 1]]) + np.abs(theta[:, :, 2])
    assert reach.max() <= 1 + 1e-6
    assert np.abs(theta[:, 1, 1]).min() >= math.sqrt(0.2) - 1e-6
    assert 400 < (theta[:, 0, 0] < 0).sum() < 600
