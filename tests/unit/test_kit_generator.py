"""The generator: shapes, determinism, and weights that survive a round trip."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.kit import cli, generator
from jobs.kit.container import read_container
from jobs.kit.errors import SchemaError

BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")


@pytest.fixture(scope="module")
def model():
    return generator.load(BASE)


def test_the_committed_base_is_what_its_config_says(model):
    raw = BASE.weights.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == BASE.sha256
    assert len(raw) == BASE.config["size_bytes"] <= 6_000_000
    found = {tensor.name: (tensor.dtype, tensor.shape) for tensor in read_container(BASE.weights).tensors}
    assert found == BASE.schema
    assert generator.schema_of(model) == BASE.config["schema"]


def test_sampling_repeats_and_does_not_depend_on_the_batch(model):
    settings = BASE.config["scheduler"]
    first = generator.sample(model, settings, [0, 4, 5], seed=3, steps=4)
    assert (first.shape, first.dtype) == ((3, 64, 64, 3), np.dtype(np.float32))
    assert np.isfinite(first).all()
    assert np.array_equal(first, generator.sample(model, settings, [0, 4, 5], seed=3, steps=4))
    alone = generator.sample(model, settings, [4], seed=4, steps=4)
    np.testing.assert_allclose(alone[0], first[1], atol=1e-3)
    assert not np.allclose(first[0], first[1], atol=0.05)


def test_guidance_of_one_is_no_guidance(model):
    settings = BASE.config["scheduler"]
    plain = generator.sample(model, settings, [4], seed=1, steps=3)
    assert np.array_equal(plain, generator.sample(model, settings, [4], seed=1, steps=3, guidance=1.0))
    assert not np.array_equal(plain, generator.sample(model, settings, [4], seed=1, steps=3, guidance=2.0))


def test_the_velocity_has_the_shape_of_the_images(model):
    noisy = torch.zeros(2, 3, 64, 64)
    velocity = model.predict(noisy, torch.tensor([0, 999]), torch.tensor([0, 5]))
    assert velocity.shape == noisy.shape


def test_the_loss_repeats_with_its_generator(model):
    scheduler = generator.make_scheduler(BASE.config["scheduler"])
    images, classes = torch.zeros(2, 3, 64, 64), torch.tensor([0, 1])
    losses = [
        generator.denoising_loss(model, scheduler, images, classes, torch.Generator().manual_seed(1)).item()
        for _ in range(2)
    ]
    assert losses[0] == losses[1] > 0


def test_weights_survive_a_round_trip(model, tmp_path):
    generator.save_weights(model, tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == BASE.weights.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]


def test_weights_of_another_model_are_refused(model, tmp_path):
    other = generator.build(
        BASE.config["architecture"] | {"block_out_channels": [16, 32, 32], "attention_head_dim": 16}
    )
    generator.save_weights(other, tmp_path / "w.safetensors")
    with pytest.raises(SchemaError):
        generator.load_weights(generator.build(BASE.config["architecture"]), tmp_path / "w.safetensors")


def test_a_folder_without_config_is_no_base(tmp_path):
    with pytest.raises(SchemaError) as caught:
        generator.load_base(tmp_path)
    assert caught.value.code == "base_missing"


@pytest.mark.parametrize("config", ["{}", "[]", "3", '{"slug": "fundus-64"}'])
def test_a_folder_whose_config_lacks_what_every_base_has_is_a_damaged_base(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(SchemaError) as caught:
        generator.load_base(tmp_path)
    assert (caught.value.code, caught.value.fix) == (
        "base_damaged",
        "Fetch it again with `consortium base`, or install the kit again.",
    )


def damaged(folder: Path, how: str) -> generator.Base:
    """Return a copy of the base whose weights were overwritten at equal size, cut short, or removed."""
    shutil.copytree(BASE.folder, folder)
    content = bytearray(BASE.weights.read_bytes())
    content[-1000:] = bytes(1000)
    match how:
        case "overwritten":
            (folder / "model.safetensors").write_bytes(content)
        case "truncated":
            (folder / "model.safetensors").write_bytes(content[:-1000])
        case "removed":
            (folder / "model.safetensors").unlink()
    return generator.load_base(folder)


@pytest.mark.parametrize("how", ["overwritten", "truncated", "removed"])
def test_a_damaged_base_is_not_blamed_on_the_file_that_is_checked(tmp_path, capsys, how):
    base = damaged(tmp_path / "base", how)
    with pytest.raises(SchemaError) as caught:
        generator.load(base)
    assert caught.value.code == "base_damaged"
    assert cli.main(["check", str(BASE.weights), "--base", str(base.folder)]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"Error: {caught.value}\n")


def test_a_base_that_is_damaged_after_it_was_found_whole_is_noticed(tmp_path):
    shutil.copytree(BASE.folder, tmp_path / "base")
    base = generator.load_base(tmp_path / "base")
    generator.require_whole(base)
    base.weights.write_bytes(b"short")
    with pytest.raises(SchemaError):
        generator.require_whole(base)


def test_pixels_go_there_and_back():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    unit = generator.to_unit(pixels)
    assert (unit.shape, unit.min(), unit.max()) == ((1, 3, 16, 16), -1.0, 1.0)
    assert np.array_equal(generator.to_uint8(unit.transpose(0, 2, 3, 1)), pixels)
    assert np.array_equal(generator.to_uint8(np.array([np.nan, 2.0, -2.0])), [0, 255, 0])
