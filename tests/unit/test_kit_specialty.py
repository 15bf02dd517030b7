"""A base generator of another specialty: the kit knows its classes, size and words from its folder alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.kit import cli, errors, fit, generator, images
from jobs.kit.base import train as base_train
from jobs.kit.checks.drawn import Drawn, Reference
from jobs.kit.checks.generation import judge_samples
from jobs.kit.checks.utility import check_utility
from tests.derm import NAMES, SIDE, write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("derm"))


def write_photographs(folder: Path, said: list[str], column: str = "class_name") -> Path:
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    lines = [f"file,patient_group,{column},diagnosis"]
    for number, name in enumerate(said):
        pixels = rng.integers(60, 250, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        lines.append(f"{number}.png,p{number},{name},free text")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


# Classes


def test_labels_name_the_classes_of_the_base(tmp_path):
    rows = images.read_folder(write_photographs(tmp_path / "a", ["naevus", "Melanoma", ""]))
    assert images.classes_of(rows, NAMES).tolist() == [0, 1, 2]
    graded = images.read_folder(write_photographs(tmp_path / "b", ["0", "4", ""], "dr_grade"))
    assert images.classes_of(graded, base_train.CLASSES).tolist() == [0, 4, 5]
    with pytest.raises(errors.ImagesError, match="a grade of diabetic retinopathy"):  # six classes of something else
        images.classes_of(graded, [*"abcde", "not graded"])
    assert images.classes_of(rows[2:], [*map(str, range(8)), "not graded"]).tolist() == [8]


@pytest.mark.parametrize(
    ("column", "said", "what"),
    [("class_name", "wart", "the class 'wart'"), ("dr_grade", "1", "a grade of diabetic retinopathy")],
)
def test_a_class_that_the_base_does_not_have_is_named(tmp_path, column, said, what):
    rows = images.read_folder(write_photographs(tmp_path / "a", ["", said], column))
    with pytest.raises(errors.ImagesError) as caught:
        images.classes_of(rows, NAMES)
    sentence = f"labels.csv gives 1.png {what}, which the base generator does not have."
    assert (caught.value.code, caught.value.sentence) == ("class_unknown", sentence)
    assert "Its classes are naevus, melanoma, not graded." in caught.value.fix


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"classes": ["a", "b", "c", "d"]}, "it names 4 classes, and its network has 3"),
        ({"classes": ["a", "A", "c"]}, "it names 2 classes, and its network has 3"),
        ({"probe": {"label": "wart", "classes": ["wart"]}}, "its probe asks for a class that is not there"),
        ({"probe": {"classes": ["melanoma"]}}, "its probe is no table of a label and a list of classes"),
        ({"probe": "melanoma"}, "its probe is no table of a label and a list of classes"),
        ({"probe": {"label": "x", "classes": ["naevus", "melanoma"]}}, "its probe tells nothing apart"),
        ({"classes": None}, "classes is no list of names"),
        ({"classes": []}, "it names 0 classes, and its network has 3"),
    ],
)
def test_a_config_whose_classes_do_not_fit_is_refused(tmp_path, changed, problem):
    with pytest.raises(errors.SchemaError, match=problem):
        write_base(tmp_path / "derm", **changed)


# From photographs to synthetic images


@pytest.mark.slow
def test_a_site_fits_and_draws_with_such_a_base(base, tmp_path, capsys):
    folder = write_photographs(tmp_path / "photographs", ["naevus", "melanoma"] * 4 + [""])
    prepared, run, drawn = (str(tmp_path / name) for name in ("prepared", "run", "drawn"))
    given = ["--base", str(base.folder)]
    assert cli.main(["prepare", str(folder), "--out", prepared]) == 0
    assert "With a class or a grade: 8.\n" in capsys.readouterr().out
    small = ["--steps", "2", "--batch-size", "2", "--device", "cpu"]
    assert cli.main(["fit", prepared, "--out", run, *given, *small]) == 0
    weights = f"{run}/weights.safetensors"
    assert cli.main(["sample", "--weights", weights, "--n", "6", "--out", drawn, "--device", "cpu", *given]) == 0
    assert (tmp_path / "drawn" / "manifest.csv").read_text().count(",melanoma,") == 2
    capsys.readouterr()
    assert cli.main(["check", drawn, "--weights", weights, *given, "--json"]) in {0, 2}
    found = json.loads(capsys.readouterr().out)["checks"]
    assert [(row["number"], row["verdict"]) for row in found][:3] == [(1, "pass"), (2, "warn"), (4, "pass")]


@pytest.mark.slow
def test_samples_while_training_are_drawn_in_the_steps_of_the_base(base, tmp_path, monkeypatch):
    asked, sample = [], generator.sample
    monkeypatch.setattr(
        generator, "sample", lambda *a, **given: asked.append(given.get("steps")) or sample(*a, **given)
    )
    folder = write_photographs(tmp_path / "photographs", ["naevus", "melanoma"])
    config = fit.FitConfig(steps=2, batch_size=1, checkpoint_every=1, device="cpu")
    fit.fit(folder, base.folder, tmp_path / "run", config)
    assert asked == [3]


# Checks


def test_no_check_speaks_of_the_retina(base):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, SIDE, SIDE, 3)).astype(np.uint8)
    like = judge_samples(pixels / 127.5 - 1.0, pixels, base).sentence
    assert like == "16 of 16 generated images look like photographs of the modality; 0 pairs are nearly the same."
    classes = np.arange(60) % len(NAMES)
    shown = rng.normal(0, 1, (60, 1280)).astype(np.float32)
    shown[classes == 1, :40] += 2
    drawn = Drawn(np.zeros((60, SIDE, SIDE, 3), np.uint8), classes)
    vars(drawn)["features"] = shown
    reference = Reference(drawn.pixels, shown, classes, np.arange(60))
    found = check_utility(drawn, reference, base)
    assert (found.verdict, found.evidence["label"]) == ("pass", "melanoma")
    assert (found.evidence["synthetic"], found.evidence["real"]) == (40, 40)  # those that nobody graded are left out
    assert found.sentence.startswith("A probe of melanoma trained on 40 synthetic images reaches an AUROC of ")
    silent = replace(base, config={name: value for name, value in base.config.items() if name != "probe"})
    told = check_utility(drawn, reference, silent)
    assert (told.verdict, told.evidence["code"]) == ("warn", "no_probe")
    assert told.sentence == "derm-32 does not say what a probe of its classes is to tell apart."
