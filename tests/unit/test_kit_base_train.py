"""A small base is trained from nothing for any specialty: its name, side and classes are what was typed."""

import json

import pytest

from jobs.kit import generator
from jobs.kit.base import judge, train
from tests.derm import NAMES
from tests.unit.test_kit_specialty import write_photographs

pytestmark = pytest.mark.slow


def test_a_base_of_another_specialty_is_trained_by_options(tmp_path, monkeypatch):
    folder = write_photographs(tmp_path / "photographs", ["naevus", "melanoma", "", "naevus"])
    labels = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([f"{labels[0]},split", *(f"{line},train" for line in labels[1:])]))
    out = tmp_path / "derm"
    typed = ["train", str(folder), "--out", str(out), "--slug", "derm-32", "--side", "32", "--classes", *NAMES]
    monkeypatch.setattr("sys.argv", [*typed, "--steps", "2", "--batch-size", "2", "--device", "cpu"])
    train.main()
    assert judge.problems(out) == []
    base = generator.load_base(out)
    assert (base.slug, base.image_size, base.config["classes"]) == ("derm-32", 32, NAMES)
    assert generator.load(base).noise_shape == (3, 32, 32)
    config = json.loads((out / "config.json").read_text())
    config["checks"]["min_warmth"] = -1.0
    config["probe"] = {"label": "melanoma", "classes": ["melanoma"]}
    (out / "config.json").write_text(json.dumps(config))
    train.main()
    again = generator.load_base(out)
    assert (again.thresholds["min_warmth"], again.config["probe"]) == (-1.0, config["probe"])


def test_the_shipped_base_is_what_the_defaults_say(monkeypatch):
    held = generator.load_base(generator.Path(generator.__file__).parent / "base" / "fundus-64").config
    monkeypatch.setattr("sys.argv", ["train", "none", "--out", "none"])
    with pytest.raises(train.images.ImagesError):
        train.main()  # the options are read, and there are no photographs
    assert held["classes"] == train.CLASSES
    assert held["architecture"] == generator.ARCHITECTURE
