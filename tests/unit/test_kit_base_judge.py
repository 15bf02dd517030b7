"""The folder of a base generator is judged before it is registered: later, it would end every run of every site."""

import json

import pytest

from jobs.kit import generator
from jobs.kit.base import judge
from tests import derm, tiny_sd


@pytest.fixture
def folder(tmp_path):
    derm.write_base(tmp_path / "derm")
    return tmp_path / "derm"


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return judge.problems(folder)


def test_bases_of_both_families_are_in_order(folder):
    shipped = generator.Path(generator.__file__).parent / "base" / "fundus-64"
    assert [judge.problems(path) for path in (folder, shipped, tiny_sd.base().folder)] == [[], [], []]


KIND = "config.json: {} is missing or of the wrong kind; it is "
FAULTS = {
    "an entry that every check reads": (lambda c: c.pop("sampling_steps"), KIND.format("sampling_steps")),
    "a slug that no report may name": (lambda c: c.update(slug="Derm_32"), KIND.format("slug")),
    "a side that pictures are not compared at": (lambda c: c.update(image_size=40), KIND.format("image_size")),
    "another side than the network's": (lambda c: c.update(image_size=64), "config.json: image_size is not 2 times"),
    "a schema of no shapes": (lambda c: c.update(schema={"a": 3}), KIND.format("schema")),
    "a threshold without a default": (lambda c: c["checks"].pop("min_contrast"), "config.json: checks lacks min_con"),
    "no sample to look at": (lambda c: c["checks"].update(samples=0), "config.json: checks.samples is below 1"),
    "a threshold in words": (lambda c: c["checks"].update(seed="x"), "config.json: checks.seed is not a number"),
    "a reference that is not there": (lambda c: c.update(reference={"sha256": "0" * 64}), "reference.safetensors, wh"),
    "other bytes": (lambda c: c.update(sha256="0" * 64), "config.json: sha256 is not that of model.safetensors ("),
    "another schema than the file's": (
        lambda c: c["schema"].pop("conv_in.bias"), "model.safetensors is not what the schema of config.json says: The"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "begins"), FAULTS.values(), ids=FAULTS.keys())
def test_what_would_stop_a_check_is_told(folder, change, begins):
    found = edit(folder, change)
    assert found
    assert found[0].startswith(begins)


def test_a_file_that_is_no_safetensors_and_a_reference_that_nobody_names_are_told(folder):
    (folder / "reference.safetensors").touch()
    (folder / "model.safetensors").write_bytes(b"PK\x03\x04")
    found = " ".join(judge.problems(folder))
    for told in (
        "sha256 is not that of model",
        "config.json does not name it",
        "is a zip archive, as PyTorch checkpoints are",
    ):
        assert told in found
