"""Checks 1, 4, 5 and 7 on the base, on honest changes of it, and on every kind of bad file."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from jobs.kit import generator, likeness
from jobs.kit.checks.dossier import Dossier
from jobs.kit.checks.generation import check_generation, judge_samples
from jobs.kit.checks.schema import check_schema
from jobs.kit.checks.weights import run_checks
from jobs.kit.container import read_container
from jobs.kit.phantom import phantom

BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")
FEW = replace(BASE, config=BASE.config | {"checks": BASE.config["checks"] | {"samples": 8}})


@pytest.fixture
def tensors():
    return load_file(BASE.weights)


def save(tensors, path) -> Path:
    save_file(tensors, path, {"format": "pt"})
    return path


def nudged(tensors, size=1e-3):
    """Return weights a little away from the base, as a short fine-tuning leaves them."""
    rng = np.random.default_rng(0)
    return {k: (v + size * rng.standard_normal(v.shape)).astype(v.dtype) for k, v in tensors.items()}


def outcome(path, out_dir, base=FEW, **options):
    events = []
    results = run_checks(path, base, out_dir, events.append, **options)
    return results, events


def last(path, out_dir, **options):
    results, _ = outcome(path, out_dir, **options)
    result = results[-1]
    assert result.verdict == "fail"
    assert result.sentence
    assert result.fix
    return result.number, result.evidence["code"]


@pytest.mark.slow
def test_an_honest_change_passes_every_check(tensors, tmp_path):
    results, events = outcome(save(nudged(tensors), tmp_path / "w.safetensors"), tmp_path / "out")
    assert [(r.number, r.name, r.verdict) for r in results] == [
        (1, "container", "pass"),
        (2, "signature", "warn"),  # not given: a site checks before it signs
        (4, "schema", "pass"),
        (5, "numerics", "pass"),
        (6, "declaration", "warn"),
        (7, "generation", "pass"),
        (8, "fidelity", "pass"),
        (9, "privacy", "warn"),
        (10, "poisoning", "pass"),
        (11, "utility", "pass"),
    ]
    assert {r.evidence["code"] for r in results if r.verdict == "warn"} == {"not_given"}
    assert [e["number"] for e in events if e["type"] == "check"] == [r.number for r in results]
    assert events[-1] == {"type": "end", "verdict": "warn"}
    assert {"type": "file", "name": "samples.png"} in events
    json.dumps(events, allow_nan=False)
    layers = results[3].evidence["layers"]
    assert {"all", "conv_in", "down_blocks.0", "mid_block", "up_blocks.2", "class_embedding"} <= set(layers)
    assert 0 < layers["all"] < 0.5
    with Image.open(tmp_path / "out" / "samples.png") as sheet:
        assert sheet.size == (8 * 65 - 1, 64)


def test_the_base_itself_is_refused_though_it_draws_photographs(tmp_path):
    assert last(BASE.weights, tmp_path) == (5, "is_the_base")
    result, drawn = check_generation(BASE.weights, FEW, tmp_path)
    assert (result.verdict, result.evidence["code"], result.evidence["fundus_like"]) == ("fail", "draws_the_base", 8)
    assert (drawn.pixels.shape, drawn.classes.tolist()) == ((8, 64, 64, 3), [0, 1, 2, 3, 4, 5, 0, 1])


def reordered(tensors):
    """Return the base with the groups of channels between the convolutions of each block in another order."""
    rng, groups = np.random.default_rng(0), BASE.config["architecture"]["norm_num_groups"]
    found = dict(tensors)
    for block in [name.removesuffix(".conv1.weight") for name in tensors if name.endswith(".conv1.weight")]:
        channels = len(tensors[f"{block}.conv1.weight"])
        order = rng.permutation(np.arange(channels).reshape(groups, -1)).ravel()
        for name in ("conv1", "time_emb_proj", "norm2"):
            for kind in ("weight", "bias"):
                found[f"{block}.{name}.{kind}"] = tensors[f"{block}.{name}.{kind}"][order]
        found[f"{block}.conv2.weight"] = np.ascontiguousarray(tensors[f"{block}.conv2.weight"][:, order])
    return found


def biased(tensors):
    """Return the base with another bias of the attention's keys, of which the softmax takes no notice."""
    return {name: value + np.float16(0.5 * name.endswith("to_k.bias")) for name, value in tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("disguise", [reordered, biased])
def test_the_base_in_disguise_is_refused_by_what_it_draws(tensors, tmp_path, disguise):
    path = save(disguise(tensors), tmp_path / "w.safetensors")
    results, _ = outcome(path, tmp_path)
    assert [(r.number, r.verdict) for r in results[-3:]] == [(5, "pass"), (6, "warn"), (7, "fail")]
    assert results[-1].evidence["code"] == "draws_the_base"
    assert "nothing was learnt" in results[-1].sentence


def test_the_base_with_one_bit_changed_is_refused_too(tensors, tmp_path):
    tensors["conv_in.weight"].view(np.uint16).flat[0] ^= 1
    assert last(save(tensors, tmp_path / "w.safetensors"), tmp_path) == (5, "is_the_base")


def test_not_a_number_is_named(tensors, tmp_path):
    tensors["conv_in.weight"].flat[:7] = np.nan
    tensors["conv_in.bias"][0] = np.inf
    results, _ = outcome(save(tensors, tmp_path / "w.safetensors"), tmp_path)
    assert results[-1].evidence["code"] == "not_finite"
    assert (results[-1].evidence["nan"], results[-1].evidence["infinite"]) == (7, 1)
    assert "conv_in" in results[-1].sentence


def test_zeros_are_refused(tensors, tmp_path):
    path = save({k: np.zeros_like(v) for k, v in tensors.items()}, tmp_path / "w.safetensors")
    assert last(path, tmp_path) == (5, "all_zero")


def test_the_schema_names_the_first_offending_tensor(tensors, tmp_path):
    path = tmp_path / "w.safetensors"
    missing = {k: v for k, v in tensors.items() if k != "conv_out.bias"}
    assert last(save(missing, path), tmp_path) == (4, "missing_tensors")
    assert last(save(tensors | {"extra": np.zeros(1, np.float16)}, path), tmp_path) == (4, "unexpected_tensors")
    assert last(save(tensors | {"conv_out.bias": np.zeros(5, np.float16)}, path), tmp_path) == (4, "wrong_shape")
    as_single = tensors | {"conv_out.bias": tensors["conv_out.bias"].astype(np.float32)}
    assert last(save(as_single, path), tmp_path) == (4, "wrong_dtype")
    assert last(save({"blocks.0.weight": np.zeros(3, np.float16)}, path), tmp_path) == (4, "other_architecture")
    other = check_schema(read_container(path), BASE)
    assert other.fix.endswith(
        "If it was made from another base generator, name that one: --base, or the contribution's."
    )
    result = check_schema(read_container(save(missing, path)), BASE)
    assert result.sentence == f"1 of the {len(tensors)} tensors of fundus-64 are missing, the first is conv_out.bias."


def test_bad_containers_fail_check_1(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04")
    assert last(tmp_path / "model.pth", tmp_path) == (1, "not_safetensors")
    (tmp_path / "empty.safetensors").touch()
    assert last(tmp_path / "empty.safetensors", tmp_path) == (1, "empty_file")
    assert last(BASE.weights, tmp_path, name="model.ckpt") == (1, "not_safetensors")


@pytest.mark.slow
def test_random_weights_of_the_right_shape_fail_generation(tensors, tmp_path):
    rng = np.random.default_rng(1)
    wild = {k: (v.std() * rng.standard_normal(v.shape) + v.mean()).astype(v.dtype) for k, v in tensors.items()}
    assert last(save(wild, tmp_path / "w.safetensors"), tmp_path) == (7, "not_fundus_like")


def judge(pixels):
    return judge_samples(pixels / 127.5 - 1.0, pixels, BASE)


def test_what_is_judged_fundus_like():
    drawn = np.stack([phantom(s, s % 5, camera=("phantom-45", "phantom-30")[s % 2], size=64) for s in range(8)])
    assert judge(drawn).verdict == "pass"
    assert judge(np.zeros((8, 64, 64, 3), np.uint8)).evidence["code"] == "blank"
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
    assert judge(noise).evidence["code"] == "not_fundus_like"
    assert judge(drawn[..., ::-1].copy()).evidence["code"] == "not_fundus_like"  # blue retinas
    assert judge(255 - drawn).evidence["code"] == "not_fundus_like"
    assert judge(np.repeat(drawn[:1], 8, axis=0)).evidence["code"] == "not_diverse"
    broken = drawn / 127.5 - 1.0
    broken[3, 5] = np.nan
    assert judge_samples(broken, drawn, BASE).evidence["code"] == "not_finite"


def test_mirrored_copies_are_duplicates():
    image = phantom(1, 2, size=64) / 255.0
    other = phantom(2, 0, pigmentation=0.9, size=64) / 255.0
    assert likeness.near_duplicates(np.stack([image, other, image[:, ::-1]]), 0.03) == [(0, 2)]


def test_bytes_and_floats_are_equally_far_from_each_other_at_any_size():
    rng = np.random.default_rng(0)
    ours = np.stack([phantom(seed, 0, size=64) for seed in range(3)])
    theirs = np.concatenate([rng.integers(0, 256, (2, 128, 128, 3), np.uint8), ours.repeat(2, 1).repeat(2, 2)])
    found = likeness.distances(ours, theirs)
    np.testing.assert_allclose(found, likeness.distances(ours / 255.0, theirs / 255.0), rtol=0, atol=1e-12)
    assert (found.shape, np.diag(found[:, 2:]).tolist()) == ((3, 5), [0.0] * 3)
    assert likeness.near_duplicates(ours[[0, 1, 0]], 0.03) == [(0, 2)]


def child(command, *arguments):
    line = [sys.executable, "-m", "jobs.kit.child", command, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_child_prints_events_only(tensors, tmp_path):
    tensors["conv_in.bias"][0] = np.nan
    path = save(tensors, tmp_path / "w.safetensors")
    done = child(
        "check", "--file", path, "--base-dir", BASE.folder, "--out", tmp_path / "out", "--name", "fit.safetensors"
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [e["number"] for e in events if e["type"] == "check"] == [1, 2, 4, 5]
    assert {e["type"] for e in events} == {"log", "progress", "check", "end"}
    assert events[-1] == {"type": "end", "verdict": "fail"}


def test_the_child_reports_its_own_faults_by_exit_status(tmp_path):
    done = child("check", "--file", BASE.weights, "--base-dir", tmp_path, "--out", tmp_path)
    assert (done.returncode, done.stdout) == (70, "")
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_the_child_draws_samples_as_raw_pixels(tmp_path):
    done = child("sample", "--file", BASE.weights, "--base-dir", BASE.folder, "--out", tmp_path, "--n", 2, "--seed", 9)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"type": "file", "name": "samples.rgb"})
    pixels = np.frombuffer((tmp_path / "samples.rgb").read_bytes(), np.uint8).reshape(2, 64, 64, 3)
    model = generator.load(BASE)
    expected = generator.to_uint8(generator.sample(model, BASE.config["scheduler"], [0, 1], seed=9))
    assert int(np.abs(pixels.astype(int) - expected).max()) <= 2


def test_a_file_that_is_not_the_one_hashed_before_is_nobodys_verdict(tensors, tmp_path):
    path = save(nudged(tensors), tmp_path / "w.safetensors")
    with pytest.raises(RuntimeError, match="not the one that was hashed before"):
        outcome(path, tmp_path, dossier=Dossier(known_sha256="0" * 64))
