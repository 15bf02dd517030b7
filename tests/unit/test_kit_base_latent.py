"""A base of the latent family is made of a whole checkpoint whose parts fit each other, or not at all."""

import json
import shutil

import pytest
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from jobs.kit.base import judge, latent
from tests import tiny_sd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny_sd.write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def checkpoint(made, tmp_path):
    return shutil.copytree(made, tmp_path / "checkpoint")


def make(monkeypatch, capsys, checkpoint, *, classes=tiny_sd.CLASSES, rank=4):
    """Type the command; return its exit status, and the last line of its standard error."""
    (checkpoint.parent / "classes.json").write_text(json.dumps(classes))
    given = {"checkpoint": checkpoint, "classes": checkpoint.parent / "classes.json", "slug": "sd-tiny",
             "licence": "CC0-1.0", "rank": rank, "out": checkpoint.parent / "base"}  # fmt: skip
    typed = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["latent", *typed])
    capsys.readouterr()
    status = latent.main()
    return status, capsys.readouterr().err.strip().rpartition("\n")[2]


def left(checkpoint):
    return sorted(path.name for path in (checkpoint.parent / "base").glob("*"))


def test_a_checkpoint_becomes_a_base_once(monkeypatch, capsys, checkpoint):
    assert make(monkeypatch, capsys, checkpoint)[0] == 0
    assert left(checkpoint) == ["card.md", "config.json", "model.safetensors"]
    assert judge.problems(checkpoint.parent / "base") == []
    (checkpoint.parent / "base" / "card.md").write_text("Completed by hand.")
    status, told = make(monkeypatch, capsys, checkpoint, rank=8)
    assert (status, told.startswith(f"Error: {checkpoint.parent / 'base'} holds files already.")) == (1, True)
    assert (checkpoint.parent / "base" / "card.md").read_text() == "Completed by hand."


def test_the_schedule_is_the_checkpoints_own(checkpoint):
    DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", timestep_spacing="trailing",
        rescale_betas_zero_snr=True, set_alpha_to_one=False,
    ).save_pretrained(checkpoint / "scheduler")  # fmt: skip
    _, _, found = latent.load_checkpoint(checkpoint)
    wanted = {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "set_alpha_to_one": False}
    assert {name: found[name] for name in wanted} == wanted
    DDIMScheduler(prediction_type="sample").save_pretrained(checkpoint / "scheduler")
    with pytest.raises(latent.CheckpointError, match="predicts sample"):
        latent.load_checkpoint(checkpoint)


def _without(name):
    return lambda checkpoint: shutil.rmtree(checkpoint / name)


def _tensor_lost(file):
    def lose(checkpoint):
        tensors = load_file(checkpoint / file)
        tensors.pop(sorted(tensors)[-1])
        save_file(tensors, checkpoint / file, metadata={"format": "pt"})

    return lose


def _inpainting(checkpoint):
    network = UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet")
    UNet2DConditionModel(**{**network.config, "in_channels": 9}).save_pretrained(checkpoint / "unet")


UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
FAULTS = {
    "no text encoder": (_without("text_encoder"), "/text_encoder cannot be read as a CLIPTextModel ("),
    "no tokenizer": (_without("tokenizer"), "/tokenizer has no vocabulary."),
    "no scheduler": (_without("scheduler"), "/scheduler cannot be read as a DDIMScheduler ("),
    "half a text encoder": (_tensor_lost(TEXT), "/text_encoder lacks 1 tensors of a CLIPTextModel, the first is "),
    "half a UNet": (_tensor_lost(UNET), "/unet lacks 1 tensors of a UNet2DConditionModel, the first is "),
    "one that paints into pictures": (_inpainting, "The parts of the checkpoint do not make one step together ("),
}


@pytest.mark.parametrize(("spoil", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_a_checkpoint_that_is_not_whole_is_refused_in_a_sentence(monkeypatch, capsys, checkpoint, spoil, told):
    spoil(checkpoint)
    status, error = make(monkeypatch, capsys, checkpoint)
    assert (status, error.startswith("Error: "), told in error) == (1, True, True)
    assert left(checkpoint) == []


LONG = "x " * 20
LISTS = {
    "no list": ({"a": 1}, "is no list of classes ("),
    "no prompt": ([{"name": "a"}], "is no list of classes (KeyError: 'prompt')."),
    "one name twice": ([{"name": "a", "prompt": "b"}, {"name": "A", "prompt": "c"}], "names 1 classes in 2 rows."),
    "prompts that differ too late": (
        [{"name": "a", "prompt": f"{LONG}a"}, {"name": "b", "prompt": f"{LONG}b"}], "Two prompts come out the same"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("classes", "told"), LISTS.values(), ids=LISTS.keys())
def test_classes_that_are_none_are_refused_in_a_sentence(monkeypatch, capsys, checkpoint, classes, told):
    status, error = make(monkeypatch, capsys, checkpoint, classes=classes)
    assert (status, told in error, left(checkpoint)) == (1, True, [])
