"""Photographs are known again after a crop, a turn, a mirror and another exposure; others are not taken for them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.kit import generator
from jobs.kit.checks.drawn import load_reference
from jobs.kit.phantom import phantom

REFERENCE = load_reference(Path(generator.__file__).parent / "base" / "fundus-64" / "reference.safetensors")
ROWS = np.arange(0, 230, 10)


def changed(*, crop: int = 0, turn: float = 0, light: float = 1.0, mirrored: bool = False) -> np.ndarray:
    """Return some public photographs as somebody may have changed them."""
    images = (Image.fromarray(REFERENCE.pixels[row]).rotate(turn) for row in ROWS)
    cropped = [np.asarray(one.crop((crop, crop, 64 - crop, 64 - crop)).resize((64, 64))) * light for one in images]
    return np.stack(cropped).astype(np.uint8)[:, :, :: -1 if mirrored else 1]


@pytest.mark.parametrize(
    "how",
    [
        {}, {"mirrored": True}, {"light": 0.7}, {"crop": 3}, {"crop": 5, "mirrored": True}, {"crop": 7}, {"turn": 9},
        {"crop": 6, "turn": -10, "light": 0.8, "mirrored": True},
    ],
)  # fmt: skip
def test_a_photograph_is_known_again(how):
    similar = REFERENCE.views.similarity(changed(**how))
    assert (similar.argmax(axis=1) == ROWS).all()
    assert similar.max(axis=1).min() > REFERENCE.most_alike


def test_a_drawing_is_no_photograph():
    drawn = np.stack([phantom(seed, seed % 5, size=64) for seed in range(12)])
    assert REFERENCE.views.similarity(drawn).max() < REFERENCE.most_alike


def test_a_black_image_is_like_none():
    assert REFERENCE.views.similarity(np.zeros((1, 64, 64, 3), np.uint8)).max() < REFERENCE.most_alike
