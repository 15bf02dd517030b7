"""Check 7 beside what other sites' accepted weights draw: a disguised copy is found, an honest neighbour is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jobs.kit import generator
from jobs.kit.checks import sites
from jobs.kit.checks.generation import check_generation
from jobs.kit.checks.sites import Kept, Others

BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")
FEW = replace(BASE, config=BASE.config | {"checks": BASE.config["checks"] | {"samples": 8}})


def test_only_weights_that_drew_as_many_images_are_compared_with():
    outlines, few = np.zeros((4, 16, 16, 3), np.float32), np.zeros((1, 16, 16, 3), np.float32)
    features, classes = np.zeros((4, 8), np.float32), np.zeros(4, int)
    others = Others(tuple(Kept("7", features, classes, one) for one in (None, few, outlines)))
    assert [len(one) for one in others.drawing(3)] == [3]
    assert (len(others.drawing(1)), len(others.drawing(5)), Others().drawing(1)) == (2, 0, [])


def weights(path: Path, *, seed: int, change: float = 3e-3) -> Path:
    """Write the base with every number moved at random, as far as a fine-tuning of some hundred steps moves it."""
    rng = np.random.default_rng(seed)
    moved = {
        name: (value + change * rng.standard_normal(value.shape)).astype(value.dtype)
        for name, value in load_file(BASE.weights).items()
    }
    save_file(moved, path, {"format": "pt"})
    return path


def disguised(path: Path, original: Path) -> Path:
    """Write the weights again with noise in the lowest bits of every number, and other metadata."""
    rng = np.random.default_rng(9)
    moved = {}
    for name, value in load_file(original).items():
        noise = rng.integers(0, 4, value.shape, dtype=np.uint16)
        moved[name] = (value.view(np.uint16) & np.uint16(0xFFFC) | noise).view(np.float16)
    save_file(moved, path, {"format": "pt"})
    return path


@pytest.mark.slow
def test_anothers_weights_in_disguise_are_refused_and_own_ones_pass(tmp_path):
    original = weights(tmp_path / "original.safetensors", seed=1)
    first, drawn = check_generation(original, FEW, tmp_path / "first")
    assert first.verdict == "pass"
    (tmp_path / "others").mkdir()
    sites.save_drawn(drawn, tmp_path / "others")
    (tmp_path / "others" / sites.DRAWN).rename(tmp_path / "others" / "7-1.safetensors")
    held = sites.load_others(tmp_path / "others")

    copy, _ = check_generation(
        disguised(tmp_path / "copy.safetensors", original), FEW, tmp_path / "second", others=held
    )
    assert (copy.verdict, copy.evidence["code"]) == ("fail", "draws_anothers")
    assert copy.fix.startswith("Run `consortium fit` on your own images")
    wary = replace(FEW, config=FEW.config | {"checks": FEW.thresholds | {"min_others_ratio": 1e-3}})
    near, _ = check_generation(tmp_path / "copy.safetensors", wary, tmp_path / "near", others=held)
    assert (near.verdict, near.evidence["code"]) == ("warn", "near_anothers")
    own, _ = check_generation(weights(tmp_path / "own.safetensors", seed=2), FEW, tmp_path / "third", others=held)
    assert (own.verdict, "code" in own.evidence) == ("pass", False)
