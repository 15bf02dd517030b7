"""Encoders: deterministic features, weights that survive a round trip, and nothing loaded that does not fit."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.kit import encoder
from jobs.kit.encoder import EncoderConfig

SMALL = EncoderConfig("small", 32, 8, 16, 2, 2, decoder_width=8, decoder_depth=1, decoder_heads=2)


def pictures(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.fixture
def saved(tmp_path):
    sha256 = encoder.save_encoder(SMALL, encoder.build_mae(SMALL, seed=1).vit, tmp_path)
    return tmp_path, sha256


def test_features_are_the_mean_of_the_patch_tokens_and_deterministic():
    vit = encoder.build_mae(SMALL, seed=1).vit
    small = encoder.mae_encoder(SMALL, vit)
    images = pictures(5, 32)
    found = encoder.features(small, images)
    assert (found.shape, found.dtype) == ((5, 16), np.float32)
    assert np.array_equal(found, encoder.features(small, images))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(encoder.IMAGENET_MEAN), torch.tensor(encoder.IMAGENET_STD)
    with torch.no_grad():  # shuffled patches give the same set of tokens: the mean must agree
        tokens = vit((pixels - mean[:, None, None]) / std[:, None, None]).last_hidden_state
    assert tokens.shape == (5, 1 + 16, 16)
    assert np.allclose(found, tokens[:, 1:].mean(1).numpy(), atol=1e-5)


def test_features_do_not_depend_on_the_batch():
    small = encoder.mae_encoder(SMALL, encoder.build_mae(SMALL).vit)
    images = pictures(7, 32)
    assert np.allclose(encoder.features(small, images, batch=2), encoder.features(small, images, batch=7), atol=1e-6)


def test_features_leave_the_random_state_alone():
    small = encoder.mae_encoder(SMALL, encoder.build_mae(SMALL).vit)
    before = torch.get_rng_state()
    encoder.features(small, pictures(2, 32))
    encoder.build_mae(SMALL, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_features_report_progress():
    seen = []
    small = encoder.mae_encoder(SMALL, encoder.build_mae(SMALL).vit)
    encoder.features(small, pictures(5, 32), batch=2, on_progress=lambda done, total, text: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("images", [pictures(2, 24), pictures(2, 32).astype(np.float32)])
def test_features_refuse_another_size_or_type(images):
    small = encoder.mae_encoder(SMALL, encoder.build_mae(SMALL).vit)
    with pytest.raises(encoder.EncoderError, match="takes uint8 images of 32 x 32 x 3"):
        encoder.features(small, images)


def test_same_seed_same_weights():
    one, two, other = (encoder.build_mae(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_fresh_model_has_places_in_encoder_and_decoder():
    model = encoder.build_mae(SMALL)
    for embedded, width in (
        (model.vit.embeddings.position_embeddings, 16),
        (model.decoder.decoder_pos_embed, 8),
    ):
        assert np.array_equal(embedded[0].detach().numpy(), encoder.sine_cosine_positions(4, width))
        assert embedded.requires_grad is False
        assert len(torch.unique(embedded[0], dim=0)) == 17


def test_positions_follow_their_formula():
    positions = encoder.sine_cosine_positions(side=3, width=8)
    assert positions.shape == (10, 8)
    assert positions[0].tolist() == [0.0] * 8
    of_row_1_column_2 = positions[1 + 1 * 3 + 2]
    expected = [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02), np.sin(1), np.sin(0.01), np.cos(1), np.cos(0.01)]
    assert np.allclose(of_row_1_column_2, expected, atol=1e-6)


def test_saved_encoder_loads_with_the_same_features(saved):
    folder, sha256 = saved
    loaded = encoder.load_encoder(folder)
    direct = encoder.mae_encoder(SMALL, encoder.build_mae(SMALL, seed=1).vit)
    images = pictures(3, 32)
    assert np.array_equal(encoder.features(loaded, images), encoder.features(direct, images))
    assert (loaded.name, loaded.dimension, loaded.image_size, loaded.sha256) == ("small", 16, 32, sha256)
    assert loaded.transform["mean"] == list(encoder.IMAGENET_MEAN)
    assert loaded.transform["pooling"] == encoder.MEAN_OF_PATCHES
    json.dumps(loaded.transform)


def test_decoder_is_not_saved(saved):
    assert [name for name in load_file(saved[0] / "model.safetensors") if "decoder" in name] == []


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "nan", "truncated", "absent"])
def test_weights_that_do_not_fit_are_refused(saved, change):
    path = saved[0] / "model.safetensors"
    tensors = load_file(path)
    name = "layernorm.weight"
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        tensors["more"] = torch.zeros(1)
    elif change == "shape":
        tensors[name] = torch.ones(17)
    elif change == "nan":
        tensors[name][0] = float("nan")
    save_file(tensors, path)
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-8])
    elif change == "absent":
        path.unlink()
    with pytest.raises(encoder.EncoderError, match="model.safetensors"):
        encoder.load_encoder(saved[0])


@pytest.mark.parametrize("change", [{"surprise": 1}, {"architecture": "resnet"}, {"patch": 7}])
def test_configurations_that_do_not_fit_are_refused(saved, change):
    path = saved[0] / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(encoder.EncoderError):
        encoder.load_encoder(saved[0])


def test_vit_l_16_has_the_shape_of_retfound():
    with torch.device("meta"):
        from transformers import ViTMAEModel

        vit = ViTMAEModel(encoder._vit_mae_config(encoder.VIT_L_16, 0.75))
    trained = sum(parameter.numel() for parameter in vit.parameters() if parameter.requires_grad)
    assert trained == 303_301_632 - 197 * 1024  # ViT-L/16 without head; the fixed positions are not trained


def test_tiny_is_valid():
    config = dataclasses.replace(encoder.TINY, depth=1, decoder_depth=1)
    assert encoder.build_mae(config).config.num_hidden_layers == 1


def test_efficientnet_lite0_gives_1280_features():
    baseline = encoder.efficientnet_lite0()
    images = pictures(2, 224)
    found = encoder.features(baseline, images)
    assert found.shape == (2, baseline.dimension) == (2, 1280)
    assert np.array_equal(found, encoder.features(baseline, images))
    assert (baseline.sha256, baseline.image_size) == (encoder.LITE0_SHA256, 224)
