"""The phantom is deterministic, looks like its labels, and writes the same columns as a real sample."""

import csv
from pathlib import Path

import numpy as np
import pytest

from jobs.kit.images import load_squares, read_folder
from jobs.kit.likeness import measure
from jobs.kit.phantom import CAMERAS, COLUMNS, phantom, write_sample

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "sample" / "labels.csv"


def test_equal_arguments_give_equal_pictures():
    first = phantom(5, 3, size=128)
    assert (first.shape, first.dtype) == ((128, 128, 3), np.dtype(np.uint8))
    assert np.array_equal(first, phantom(5, 3, size=128))
    assert not np.array_equal(first, phantom(6, 3, size=128))


@pytest.mark.parametrize("camera", CAMERAS)
def test_every_camera_gives_a_round_warm_field(camera):
    found = measure(phantom(1, 0, camera=camera, size=64) / 255.0)
    assert found.corner_ratio < 0.1
    assert found.warmth > 0.2
    assert found.smoothness > 0.7


def test_eyes_are_mirrored():
    right, left = (phantom(2, 0, eye=eye, size=128).mean(axis=2) for eye in "RL")
    bright = [int(np.argmax(image[40:88].mean(axis=0))) for image in (right, left)]
    assert bright[0] > 80
    assert bright[1] < 48


def test_grade_and_glaucoma_are_visible():
    def dark(grade):  # haemorrhages are darker than vessels: the red channel falls
        return np.mean([(phantom(s, grade, size=256)[60:200, 60:200, 0] < 120).mean() for s in range(4)])

    def white(glaucoma):  # the cup is the only near-white area
        return np.mean([(phantom(s, 0, glaucoma=glaucoma, size=256).min(axis=2) > 150).mean() for s in range(4)])

    assert dark(4) > 2 * dark(0)
    assert white(True) > 2 * white(False)


def test_the_sample_has_the_columns_patients_and_splits_of_a_real_one(tmp_path):
    write_sample(tmp_path, 12, seed=3, countries=[("SG", "WPRO"), ("KE", "AFRO")], size=96)
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert len(rows) == 12
    assert {row["country"] for row in rows} == {"SG", "KE"}
    assert {row["source"] for row in rows} == {"phantom"}
    splits = {row["patient_group"]: set() for row in rows}
    for row in rows:
        splits[row["patient_group"]].add(row["split"])
        assert row["dr_any"] == str(int(row["dr_grade"] != "0"))
    assert {len(found) for found in splits.values()} == {1}
    assert set().union(*splits.values()) == {"train", "val", "test"}
    assert load_squares(read_folder(tmp_path), 64).shape == (12, 64, 64, 3)
    if REAL.exists():
        assert REAL.read_text().splitlines()[0].split(",") == COLUMNS


def test_equal_seeds_write_equal_samples(tmp_path):
    write_sample(tmp_path / "a", 3, seed=1, size=64)
    write_sample(tmp_path / "b", 3, seed=1, size=64)
    assert (tmp_path / "a/labels.csv").read_bytes() == (tmp_path / "b/labels.csv").read_bytes()


def test_the_word_phantom_is_burned_in():
    corner = phantom(1, 0, size=512)[490:508, 0:80]
    assert (corner.max(axis=2) > 120).sum() > 40
