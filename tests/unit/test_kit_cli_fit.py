"""`fit` and what stands around it, as typed: what is refused, what comes next, what is never lost."""

import json
import shlex
import shutil

import pytest

from jobs.kit import cli, cli_site, fit, fit_card, privacy
from tests.derm import write_base
from tests.unit.test_kit_specialty import write_photographs

pytestmark = pytest.mark.slow
SMALL = ["--steps", "2", "--batch-size", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    write_base(folder / "derm")
    write_photographs(folder / "photographs", ["naevus", "melanoma"] * 3)
    return folder


def fitted(site, out, *more):
    return cli.main(["fit", str(site / "photographs"), "--out", str(out), "--base", str(site / "derm"), *SMALL, *more])


def test_what_comes_next_names_the_base(site, tmp_path, capsys):
    assert fitted(site, tmp_path / "my run") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  consortium ")]
    assert [line.endswith(f" --base {site / 'derm'}") for line in told] == [True, True]
    weights = tmp_path / "my run" / "weights.safetensors"
    assert shlex.split(told[1])[:3] == ["consortium", "check", str(weights)]
    drawn = ["--n", "3", "--out", str(tmp_path / "drawn"), "--base", str(site / "derm"), "--device", "cpu"]
    assert cli.main(["sample", "--weights", str(weights), *drawn]) == 0
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(f"consortium check {tmp_path / 'drawn'} --weights '{weights}' --base {site / 'derm'}")


def test_a_run_that_was_stopped_after_its_weights_goes_on(site, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fit_card, "training_card", full)
        config = fit.FitConfig(steps=2, batch_size=2, device="cpu", checkpoint_every=1)
        with pytest.raises(OSError, match="No space"):
            fit.fit(site / "photographs", site / "derm", tmp_path / "run", config)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "samples-000001.png", "state.safetensors", "weights.safetensors",
    ]  # fmt: skip
    assert fitted(site, tmp_path / "run", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "run_stopped"
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    fit.fit(site / "photographs", site / "derm", tmp_path / "run", config)
    assert (tmp_path / "run" / "training_card.json").exists()
    assert fitted(site, tmp_path / "other", "--resume", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "state_differs"  # it got as far as the state


def test_a_seed_that_nothing_takes_is_wrong_usage(site, tmp_path):
    assert fitted(site, tmp_path / "run", "--seed", str(2**63)) == cli.WRONG_USAGE


@pytest.mark.parametrize("option", ["--lr", "--noise-multiplier", "--clip-norm"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none_are_wrong_usage(site, tmp_path, option, value):
    assert fitted(site, tmp_path / "run", option, value) == cli.WRONG_USAGE


@pytest.mark.parametrize(
    ("given", "code"), [(["--device", "cuda"], "no_cuda"), (["--noise-multiplier", "0.005"], "dp_invalid")]
)
def test_what_cannot_be_trained_is_told_before_a_photograph_is_read(site, tmp_path, capsys, monkeypatch, given, code):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "a.png").write_bytes(b"no photograph")
    command = ["fit", str(tmp_path / "photographs"), "--out", str(tmp_path / "run"), *SMALL, *given, "--json"]
    assert cli.main(command) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not (tmp_path / "run").exists()


def test_a_patient_on_both_sides_is_told_before_the_training(site, tmp_path, capsys):
    """The report of `privacy`, which the portal asks for, is refused for it: after the training that was too late."""
    shutil.copytree(site / "photographs", tmp_path / "photographs")
    pictures = [path for path in (tmp_path / "photographs").rglob("*") if path.suffix in {".png", ".jpg"}]
    rows = [f"{path.name},p1,{'train' if number < 3 else 'held_out'}" for number, path in enumerate(sorted(pictures))]
    labels = next((tmp_path / "photographs").rglob("labels.csv"))
    labels.write_text("\n".join(["file,patient_group,split", *rows]) + "\n")
    command = ["fit", str(tmp_path / "photographs"), "--out", str(tmp_path / "run"), *SMALL, "--json"]
    assert cli.main(command) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "patient_on_both_sides"


def test_a_private_run_does_not_tell_the_loss_of_its_photographs(site, tmp_path):
    config = fit.FitConfig(steps=2, batch_size=6, device="cpu", noise_multiplier=1.0)
    card = fit.fit(site / "photographs", site / "derm", tmp_path / "run", config)
    assert (card["dp"]["used"], card["final_loss"]) == (True, None)


def test_prepare_tells_that_the_report_will_need_more(site, tmp_path, capsys):
    assert cli_site.FEWEST == privacy.MINIMUM_IMAGES
    assert cli.main(["prepare", str(site / "photographs"), "--out", str(tmp_path / "prepared")]) == 0
    assert "`consortium privacy` needs 20 photographs on either side" in capsys.readouterr().err
