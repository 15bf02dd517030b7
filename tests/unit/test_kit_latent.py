"""The latent family: an adapter is trained, saved, checked and drawn from; the base stays as it is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from jobs.kit import cli, container, errors, fit, generator, latent, membership, scan
from jobs.kit.checks.schema import check_schema
from jobs.kit.checks.weights import run_checks
from jobs.kit.phantom import write_sample
from tests import tiny_sd

pytestmark = pytest.mark.slow

BASE = tiny_sd.base()
PHOTOGRAPHS = 6
FIRST = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    write_sample(folder, PHOTOGRAPHS, size=64)
    return folder


def config(**changed) -> fit.FitConfig:
    given = {"steps": 4, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 1, "checkpoint_every": 2}
    return fit.FitConfig(**{**given, "device": "cpu", **changed})


@pytest.fixture(scope="module")
def fitted(photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted")
    before = scan.sha256_of(BASE.weights)
    card = fit.fit(photographs, BASE.folder, out, config())
    assert scan.sha256_of(BASE.weights) == before == BASE.sha256
    return out, card


@pytest.fixture(scope="module")
def adapter(fitted):
    return fitted[0] / "weights.safetensors"


# Training


def test_what_travels_is_the_adapter_alone(fitted, adapter):
    held = container.read_container(adapter)
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in held.tensors} == BASE.schema
    assert FIRST in BASE.schema
    assert adapter.stat().st_size < BASE.weights.stat().st_size / 8
    assert fitted[1]["adapter"] == {"rank": 4, "alpha": 4}
    assert fitted[1]["base"] == {"slug": "tiny-sd", "sha256": BASE.sha256}
    assert any(np.abs(value).max() > 0 for name, value in load_file(adapter).items() if "lora_B" in name)
    assert sorted(path.name for path in fitted[0].glob("samples-*.png")) == ["samples-000002.png"]


def test_equal_runs_give_equal_adapters_and_a_stopped_one_goes_on(photographs, adapter, tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int, total: int, text: str) -> None:
        if text.startswith("Training") and done == 3:
            raise Stop

    with pytest.raises(Stop):
        fit.fit(photographs, BASE.folder, tmp_path, config(), stop)
    fit.fit(photographs, BASE.folder, tmp_path, config())
    assert (tmp_path / "weights.safetensors").read_bytes() == adapter.read_bytes()


def test_an_adapter_is_trained_with_differential_privacy_too(photographs, tmp_path):
    card = fit.fit(photographs, BASE.folder, tmp_path, config(noise_multiplier=1.0, steps=2))
    assert (card["dp"]["used"], card["dp"]["epsilon"] > 0) == (True, True)
    moved = load_file(tmp_path / "weights.safetensors")
    assert any(np.abs(value).max() > 0 for name, value in moved.items() if "lora_B" in name)


# Drawing


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_does(adapter):
    given = {"seed": 3, "steps": 3}
    network = generator.load(BASE)
    plain = generator.sample(network, BASE.config["scheduler"], [0, 5], **given)
    for module in network.unet.modules():
        if hasattr(module, "scaling"):
            module.scaling = {"default": 0.0}
    assert np.array_equal(generator.sample(network, BASE.config["scheduler"], [0, 5], **given), plain)
    trained = generator.sample(generator.load(BASE, adapter), BASE.config["scheduler"], [0, 5], **given)
    assert (plain.shape, np.array_equal(trained, plain)) == ((2, 64, 64, 3), False)


def test_an_image_depends_on_its_seed_and_class_and_not_on_the_batch(adapter):
    network, settings = generator.load(BASE, adapter), BASE.config["scheduler"]
    both = generator.sample(network, settings, [0, 4], seed=7, steps=3)
    alone = generator.sample(network, settings, [4], seed=8, steps=3)
    assert np.allclose(both[1], alone[0], atol=1e-4)
    other_class = generator.sample(network, settings, [1], seed=8, steps=3)
    assert not np.allclose(other_class, alone, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_loss_asks_for_what_the_scheduler_says(prediction_type):
    scheduler = generator.make_scheduler({**BASE.config["scheduler"], "prediction_type": prediction_type})
    clean, noise = torch.full((2, 4, 16, 16), 0.5), torch.full((2, 4, 16, 16), -1.0)
    steps = torch.tensor([0, 999])
    alpha = scheduler.alphas_cumprod[steps].view(2, 1, 1, 1).sqrt()
    velocity = alpha * noise - (1 - alpha**2).sqrt() * clean
    wanted = noise if prediction_type == "epsilon" else velocity
    assert torch.allclose(generator.target_of(scheduler, clean, noise, steps), wanted)


def test_losses_for_membership_are_finite_and_the_same_each_time(adapter, photographs):
    squares = fit.images.load_squares(fit.images.read_folder(photographs), 64)
    network = generator.load(BASE, adapter)
    first, again = (
        membership.losses(network, BASE.config["scheduler"], squares, np.zeros(len(squares), np.int64))
        for _ in range(2)
    )
    assert (np.isfinite(first).all(), np.array_equal(first, again)) == (True, True)


# Checks


def test_a_base_from_before_the_images_were_drawn_again_has_few_of_them_drawn():
    checks = {name: value for name, value in BASE.config["checks"].items() if name != "redrawn_images"}
    old = replace(BASE, config={**BASE.config, "checks": checks})
    own = replace(BASE, config={**BASE.config, "checks": {**checks, "redrawn_images": 3}})
    pixels = replace(old, config={**old.config, "family": "pixels"})
    assert [base.thresholds["redrawn_images"] for base in (BASE, old, own, pixels)] == [8, 8, 3, 64]


def changed(adapter, path, change):
    tensors = load_file(adapter)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def verdicts(path, tmp_path):
    base = replace(BASE, config={**BASE.config, "checks_run": [1, 4, 5, 7]})
    found = run_checks(path, base, tmp_path / "out", name="weights.safetensors")
    return [(row.number, row.verdict) for row in found], found[-1]


def _drop(tensors):
    tensors.pop(FIRST)


def _rank(tensors):
    for name in list(tensors):
        half = tensors[name]
        tensors[name] = half[:2] if ".lora_A." in name else half[:, :2]


def _rename(tensors):
    tensors[FIRST.replace("to_k", "to_z")] = tensors.pop(FIRST)


def _widen(tensors):
    tensors[FIRST] = tensors[FIRST].astype(np.float32)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [(_drop, "missing_tensors", FIRST), (_rename, "missing_tensors", FIRST), (_rank, "wrong_shape", ""),
     (_widen, "wrong_dtype", FIRST)],
)  # fmt: skip
def test_check_4_refuses_another_adapter_and_names_the_first_key(adapter, tmp_path, change, code, named):
    rows, last = verdicts(changed(adapter, tmp_path / "w.safetensors", change), tmp_path)
    assert (rows, last.evidence["code"]) == ([(1, "pass"), (4, "fail")], code)
    assert named in last.sentence


def test_whole_weights_of_the_other_family_are_refused_and_so_is_an_adapter_there(adapter, tmp_path):
    pixels = generator.load_base(fit.Path(generator.__file__).parent / "base" / "fundus-64")
    _, last = verdicts(pixels.weights, tmp_path)
    assert last.evidence["code"] == "other_architecture"
    assert check_schema(container.read_container(adapter), pixels).evidence["code"] == "other_architecture"
    with pytest.raises(errors.SchemaError):
        generator.load(pixels, adapter)


def test_check_5_tells_what_the_adapter_adds_to_each_layer(adapter, tmp_path):
    rows, last = verdicts(adapter, tmp_path)
    assert rows == [(1, "pass"), (4, "pass"), (5, "pass"), (7, "fail")]  # random images are no photographs
    assert last.evidence["code"] in {"not_fundus_like", "blank"}
    found = latent.adapter_changes(adapter, BASE)
    tensors, held = load_file(adapter), load_file(BASE.weights)
    layer = FIRST.removesuffix(".lora_A.weight")
    added = tensors[f"{layer}.lora_B.weight"].astype(float) @ tensors[f"{layer}.lora_A.weight"].astype(float)
    row = next(row for row in found if f"unet.{row.name}" == layer)
    assert row.relative == pytest.approx(np.linalg.norm(added) / np.linalg.norm(held[f"{layer}.weight"].astype(float)))
    assert len(found) == len(BASE.schema) // 2


def test_check_5_refuses_an_adapter_that_learnt_nothing_and_one_with_nan(adapter, tmp_path):
    fresh = tmp_path / "fresh.safetensors"
    generator.save_weights(generator.load(BASE), fresh)
    rows, last = verdicts(fresh, tmp_path)
    assert (rows[-1], last.evidence["code"]) == ((5, "fail"), "is_the_base")

    def spoil(tensors):
        tensors[FIRST][0, 0] = np.nan

    rows, last = verdicts(changed(adapter, tmp_path / "nan.safetensors", spoil), tmp_path)
    assert (rows[-1], last.evidence["code"], last.evidence["tensors_affected"]) == (
        (5, "fail"),
        "not_finite",
        [FIRST],
    )


# As typed


def test_fit_and_check_take_the_folder_of_a_base(photographs, tmp_path, capsys):
    out, base = str(tmp_path / "run"), ["--base", str(BASE.folder)]
    typed = ["fit", str(photographs), "--out", out, *base, "--steps", "1", "--batch-size", "2", "--device", "cpu"]
    assert cli.main([*typed, "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["check", f"{out}/weights.safetensors", *base, "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [(row["number"], row["verdict"]) for row in found["checks"]] == [
        (1, "pass"), (2, "warn"), (4, "pass"), (5, "pass"), (6, "warn"), (7, "fail"),
    ]  # fmt: skip
