"""Converting checkpoints: weights come out whole, and nothing that a file asks for is ever run."""

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.kit import convert

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the shared test data is not here")


def weights() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


def converted(tmp_path, content, name="model.pth"):
    torch.save(content, tmp_path / name)
    facts = convert.convert(tmp_path / name, tmp_path / "out.safetensors")
    return facts, load_file(tmp_path / "out.safetensors")


RETFOUND = {"model": weights(), "optimizer": {"state": {}}, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
LAYOUTS = {
    "the weights alone": (weights(), ""),
    "RETFound's": (RETFOUND, "model"),
    "timm's": ({"state_dict": weights(), "arch": "vit"}, "state_dict"),
    "DataParallel's": ({"state_dict": {f"module.{name}": value for name, value in weights().items()}}, "state_dict"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("content", "layout"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_known_layout_is_converted(tmp_path, content, layout):
    facts, found = converted(tmp_path, content)
    assert (facts["layout"], facts["tensors"], facts["parameters"]) == (layout, 2, 8)
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in weights().items()
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


HEAVY_TORCH = """
import mmap, sys
class Libraries:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and not hasattr(sys, "libraries"):
            sys.libraries = mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
sys.meta_path.insert(0, Libraries())
"""


@pytest.mark.slow
def test_a_torch_that_maps_gigabytes_of_libraries_converts_too(tmp_path, monkeypatch):
    """The builds for CUDA do, most other machines' here: addresses alone, not memory."""
    (tmp_path / "sitecustomize.py").write_text(HEAVY_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert converted(tmp_path, weights())[0]["tensors"] == 2


@pytest.mark.slow
def test_a_machine_that_grants_less_time_converts_too(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import resource; resource.setrlimit(resource.RLIMIT_CPU, (300, 300))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert converted(tmp_path, weights())[0]["tensors"] == 2


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ({"best_acc": torch.tensor(0.91), "epoch": 3, "state_dict": weights()}, "state_dict"),
        ({"model": {"step": torch.ones(1)}, "teacher": weights(), "loss": torch.ones(7)}, "teacher"),
        ({**weights(), "params": {"scale": torch.ones(2)}}, ""),
        ({"model": weights(), "state_dict": weights()}, "model"),
    ],
)
def test_the_model_is_where_most_of_the_numbers_are(tmp_path, content, layout):
    torch.save(content, tmp_path / "model.pth")
    tensors, facts = convert.read_weights(tmp_path / "model.pth")
    assert (facts["layout"], sorted(tensors), facts["parameters"]) == (layout, ["a.bias", "a.weight"], 8)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"net": weights(), "loss_ema": torch.tensor(0.3)}, "['net']"),
        ({"net": weights(), "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}}, "['net']"),
        ({"model": {"state_dict": weights()}, "epoch": 3}, "['model']['state_dict']"),
    ],
)
def test_weights_in_an_unknown_entry_are_neither_left_out_nor_none(tmp_path, content, place):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(convert.ConvertError) as caught:
        convert.read_weights(tmp_path / "model.pth")
    assert (caught.value.code, caught.value.sentence) == (
        "layout_unknown",
        f"model.pth keeps its weights where we do not look, in its entry {place}.",
    )
    assert f"torch.load(FILE, weights_only=True){place}" in caught.value.fix


def test_names_that_are_one_without_their_prefix_are_refused(tmp_path):
    torch.save({"a": torch.ones(2), "module.a": torch.zeros(2)}, tmp_path / "model.pth")
    with pytest.raises(convert.ConvertError) as caught:
        convert.read_weights(tmp_path / "model.pth")
    sentence = "model.pth holds a more than once, with and without module. or _orig_mod. before its name."
    assert (caught.value.code, caught.value.sentence) == ("names_collide", sentence)


@pytest.mark.slow
def test_a_folder_for_what_comes_out_is_made(tmp_path):
    torch.save(weights(), tmp_path / "model.pth")
    convert.convert(tmp_path / "model.pth", tmp_path / "new" / "out.safetensors")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.safetensors"]


def test_a_place_that_cannot_be_written_is_the_systems_own_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        convert.convert(tmp_path / "model.pth", tmp_path / "file" / "out.safetensors")


@pytest.mark.slow
def test_tensors_that_share_their_memory_are_written_apart_and_numbers_left_out(tmp_path):
    shared = torch.ones(4, 4)
    facts, found = converted(tmp_path, {"a": shared, "b": shared.t(), "steps": torch.tensor(5)})
    assert (sorted(found), facts["left_out"]) == (["a", "b"], ["steps"])


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.slow
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    import pickle  # noqa: TID251 -- to make what an attacker would send

    (tmp_path / "model.pth").write_bytes(pickle.dumps({"model": Canary(tmp_path / "canary")}))
    with pytest.raises(convert.ConvertError) as caught:
        convert.convert(tmp_path / "model.pth", tmp_path / "out.safetensors")
    assert (caught.value.code, bool(caught.value.fix)) == ("not_weights", True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pth"]


def test_an_existing_file_is_never_written_over(tmp_path):
    (tmp_path / "out.safetensors").write_bytes(b"mine")
    with pytest.raises(convert.ConvertError) as caught:
        convert.convert(tmp_path / "model.pth", tmp_path / "out.safetensors")
    assert (caught.value.code, (tmp_path / "out.safetensors").read_bytes()) == ("target_exists", b"mine")


@pytest.mark.slow
@needs_shared
def test_the_limit_of_memory_ends_the_child_and_nothing_else(tmp_path, monkeypatch):
    torch.save({"a": torch.empty(0).new_zeros(1).expand(2**33)}, tmp_path / "model.pth")  # 32 GB from a small file
    with pytest.raises(convert.ConvertError) as caught:
        convert.convert(tmp_path / "model.pth", tmp_path / "out.safetensors")
    assert caught.value.code in {"child_ended", "not_weights"}


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("path", sorted((SHARED / "benign-weights").rglob("*.pth")), ids=lambda path: path.parent.name)
def test_real_checkpoints_are_converted(tmp_path, path):
    facts = convert.convert(path, tmp_path / "out.safetensors")
    assert facts["tensors"] == len(load_file(tmp_path / "out.safetensors")) > 10


@needs_shared
def test_no_hostile_pickle_gets_anything_run(tmp_path, monkeypatch):
    """All of them in one process, by the child's own function: none may load, whatever it is called."""
    monkeypatch.chdir(tmp_path)
    ran = []
    monkeypatch.setattr("os.system", lambda command: ran.append(command))
    refused = 0
    for path in sorted((SHARED / "hostile-weights" / "pickles").iterdir()):
        if path.name.startswith("malicious"):
            with pytest.raises(convert.ConvertError):
                convert.read_weights(path)
            refused += 1
    assert (refused > 30, ran) == (True, [])


# What is told


def read(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    return convert.read_weights(tmp_path / "model.pth")


def test_numbers_of_64_bits_are_narrowed_and_told(tmp_path):
    tensors, facts = read(tmp_path, {"model": {"a": torch.ones(2, dtype=torch.float64), "b": torch.ones(2)}})
    assert {name: str(value.dtype) for name, value in tensors.items()} == dict.fromkeys("ab", "torch.float32")
    assert (facts["narrowed"], facts["left_out"]) == (1, [])


def test_a_sparse_tensor_is_left_out_and_named(tmp_path):
    tensors, facts = read(tmp_path, {"model": {"a": torch.ones(3, 3).to_sparse(), "b": torch.ones(2)}})
    assert (sorted(tensors), facts["left_out"]) == (["b"], ["a"])


def test_what_a_file_asks_for_beside_weights_is_named(tmp_path):
    with pytest.raises(convert.ConvertError) as caught:
        read(tmp_path, {"model": weights(), "args": argparse.Namespace(out=Path("/data"))})
    assert caught.value.sentence.startswith("model.pth is not a file of weights alone: it asks for pathlib.")
    assert 'torch.save(loaded["model"], NEW)' in caught.value.fix


def test_a_damaged_file_is_not_called_untrusted(tmp_path):
    torch.save(weights(), tmp_path / "whole.pth")
    for content in (b"", b"abc", (tmp_path / "whole.pth").read_bytes()[:700]):
        (tmp_path / "model.pth").write_bytes(content)
        with pytest.raises(
            convert.ConvertError, match=r"model\.pth cannot be read as a PyTorch checkpoint \("
        ) as caught:
            convert.read_weights(tmp_path / "model.pth")
        assert caught.value.fix.startswith("It is damaged, or of another kind")
