"""The privacy report: a generator that learnt its photographs by heart fails, one that did not passes."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.kit import copies, dp, fit, generator, membership, metrics, privacy
from jobs.kit.checks.declaration import check_declaration
from jobs.kit.checks.dossier import Dossier
from jobs.kit.checks.drawn import load_reference
from jobs.kit.checks.privacy import judge as judge_report
from jobs.kit.checks.report import problem_of
from jobs.kit.phantom import write_sample

BASE_DIR = Path(generator.__file__).parent / "base" / "fundus-64"
BASE = generator.load_base(BASE_DIR)
# 230 public photographs that the base never saw, at its own size: real ones, wherever the tests run.
PUBLIC = load_reference(BASE_DIR / "reference.safetensors")
FIRST = [int(np.flatnonzero(PUBLIC.patients == patient)[0]) for patient in np.unique(PUBLIC.patients)]
ORDER = np.random.default_rng(0).permutation(FIRST)  # one photograph of each patient
LEARNT, HELD_OUT, REST = ORDER[:20], ORDER[20:50], ORDER[50:75]


def site(folder: Path, train, held_out) -> Path:
    """Write photographs as a prepared folder: what trained, and what was held out."""
    (folder / "images").mkdir(parents=True)
    lines = ["file,split,patient_group,dr_grade"]
    for split, rows in (("train", train), ("held_out", held_out)):
        for row in rows:
            Image.fromarray(PUBLIC.pixels[row]).save(folder / "images" / f"secret-{row}.png")
            grade = PUBLIC.classes[row] if PUBLIC.classes[row] != BASE.any_class else ""
            lines.append(f"secret-{row}.png,{split},pseudonym-{PUBLIC.patients[row]},{grade}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def trained(path: Path, rows, **config) -> Path:
    """Train the base on photographs and write the weights."""
    model = generator.load(BASE)
    settings = fit.FitConfig(batch_size=8, device="cpu", checkpoint_every=10**6, **config)
    state = fit.train(
        model, BASE.config["scheduler"], PUBLIC.pixels[rows], PUBLIC.classes[rows], settings, state_path=path / "state"
    )
    fit.save_average(state, path / "weights.safetensors")
    return path / "weights.safetensors"


def reported(tmp_path, train, held_out, weights):
    folder = site(tmp_path / "site", train, held_out)
    report = privacy.report(folder, weights, BASE_DIR, samples=16)  # the attacks decide; 64 images take a minute
    return report, judge_report(report, BASE)


@pytest.mark.slow
def test_a_generator_that_learnt_twenty_photographs_by_heart_fails(tmp_path):
    by_heart = {"flip": False, "rotation_degrees": 0.0, "zoom": 0.0, "ema_decay": 0.95}
    weights = trained(tmp_path, np.tile(LEARNT, 5), steps=220, learning_rate=1.5e-3, **by_heart)
    report, result = reported(tmp_path, LEARNT, HELD_OUT, weights)
    assert (result.verdict, result.evidence["code"]) == ("fail", "membership")
    assert report["membership"]["loss_less_base"]["auc"] > 0.85


@pytest.mark.slow
def test_a_generator_trained_as_advised_passes_and_tells_statistics_alone(tmp_path):
    weights = trained(tmp_path, REST, steps=30, learning_rate=1e-4)
    report, result = reported(tmp_path, REST, HELD_OUT, weights)
    assert (result.verdict, problem_of(report, BASE, weights_sha256=report["weights_sha256"])) == ("pass", "")
    assert report["images"] == {"train": 25, "held_out": 30, "generated": 16}
    assert report["base"] == {"slug": "fundus-64", "sha256": BASE.sha256}
    assert set(report["copies"]) == {"features", "perceptual_hash"}
    text = json.dumps(report, allow_nan=False)
    assert not [word for word in ("secret", "pseudonym", str(tmp_path), ".png") if word in text]
    assert max(map(len, _lists(report)), default=0) <= len(membership.STEPS)  # nothing for each photograph


def _lists(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [*([value] if isinstance(value, list) else []), *(found for item in inner for found in _lists(item))]


@pytest.mark.parametrize(
    ("train", "held_out", "code"),
    [(19, 30, "too_few_images"), (30, 19, "too_few_images")],
)
def test_too_few_photographs_make_no_report(tmp_path, train, held_out, code):
    folder = site(tmp_path / "site", ORDER[:train], ORDER[train : train + held_out])
    with pytest.raises(privacy.PrivacyError) as caught:
        privacy.sides(folder, BASE)
    assert caught.value.code == code


def test_a_patient_on_both_sides_makes_no_report(tmp_path):
    folder = site(tmp_path / "site", ORDER[:25], ORDER[25:50])
    labels = (folder / "labels.csv").read_text().splitlines()
    shared = labels[1].split(",")[2]
    labels[-1] = ",".join([*labels[-1].split(",")[:2], shared, ""])
    (folder / "labels.csv").write_text("\n".join(labels))
    with pytest.raises(privacy.PrivacyError) as caught:
        privacy.sides(folder, BASE)
    assert caught.value.code == "patient_on_both_sides"


def test_a_photograph_on_both_sides_was_trained_on(tmp_path):
    """`fit` counts it, so the report asks as many as the card tells; the first by its name is the one held out."""
    folder = site(tmp_path / "site", ORDER[:25], ORDER[25:50])
    shutil.copy(folder / "images" / f"secret-{ORDER[0]}.png", folder / "images" / "again.png")
    with (folder / "labels.csv").open("a") as labels:
        labels.write("\nagain.png,held_out,,")
    train, held_out = privacy.sides(folder, BASE)
    assert (len(train.bits), len(held_out.bits)) == (25, 25)


def test_copies_are_looked_for_among_all_that_was_trained_on(tmp_path):
    """However few the attack asks for: images that are training photographs, each of them, are candidate copies."""
    folder = site(tmp_path / "site", ORDER[:45], ORDER[45:65])
    train, held_out = privacy.sides(folder, BASE, most=20)
    assert (len(train.squares), len(train.bits), len(held_out.squares), len(held_out.bits)) == (20, 45, 20, 20)
    found = privacy._copies(PUBLIC.pixels[ORDER[:45]], train, held_out, seed=0, device="cpu")
    assert [measure["copy_share"] for measure in found.values()] == [1.0, 1.0]


def test_what_is_as_far_from_either_side_is_nearer_to_neither():
    """Three in ten hashes are: counted against the training side, independent photographs would show 0.35."""
    drawn, both = PUBLIC.pixels[FIRST[:25]], PUBLIC.pixels[FIRST[25:50]]
    ours, theirs = (partial(copies.by_hash, side) for side in (drawn, both))
    train, held_out = (copies.perceptual_hash(side) for side in (drawn, both))
    assert copies.nearest(ours, theirs, held_out, held_out, seed=0).facts()["nearer_to_train"] == 0.5
    assert copies.nearest(ours, theirs, train, held_out, seed=0).facts()["nearer_to_train"] == 1.0


def test_photographs_are_compared_in_blocks_as_all_at_once(monkeypatch):
    """The first of those that are as near is named, whichever block it is in."""
    ours = PUBLIC.pixels[FIRST[:25]]
    theirs = np.concatenate([copies.perceptual_hash(PUBLIC.pixels[ORDER[:60]])] * 2)
    whole = copies.by_hash(ours, theirs)
    monkeypatch.setattr(copies, "AT_ONCE", 7)
    value, where = copies.best(partial(copies.by_hash, ours), theirs)
    assert np.array_equal(value, whole.max(axis=1))
    assert np.array_equal(where, whole.argmax(axis=1))


def test_an_attack_is_an_area_with_its_interval_and_the_share_found():
    rng = np.random.default_rng(0)
    groups = np.arange(200)
    none = membership.attack(rng.normal(size=100), rng.normal(size=100), groups)
    assert none["low"] < 0.5 < none["high"]
    all_found = membership.attack(rng.normal(size=100) - 100, rng.normal(size=100), groups)
    assert (all_found["auc"], all_found["tpr_at_1_percent_fpr"]) == (1.0, 1.0)


@pytest.mark.parametrize(("others", "allowed"), [(20, 0), (99, 0), (100, 1), (101, 1), (200, 2), (500, 5)])
def test_one_false_alarm_is_allowed_of_each_hundred(others, allowed):
    def found(above: int) -> float:
        """Members that so many of the others score as well as."""
        losses = np.full(50, above - 0.5)
        return membership.attack(losses, np.arange(others, dtype=float), np.arange(50 + others))["tpr_at_1_percent_fpr"]

    assert (found(allowed), found(allowed + 1)) == (1.0, 0.0)


def test_an_interval_is_none_of_nothing():
    ramp = np.arange(50, dtype=float)
    below_chance = membership.attack(ramp + 100, ramp, np.arange(100))
    high = round(metrics.score_interval(0.0, 50, 50)[1], 4)
    assert (below_chance["auc"], below_chance["low"], below_chance["high"]) == (0.0, 0.0, high)
    of_one_patient = membership.attack(ramp, ramp + 3, np.repeat([0, 1], 50))
    assert (of_one_patient["low"], of_one_patient["high"]) == (0.0, 1.0)


def test_the_losses_repeat(tmp_path):
    model = generator.load(BASE)
    rows = ORDER[:3]
    first, again = (
        membership.losses(model, BASE.config["scheduler"], PUBLIC.pixels[rows], PUBLIC.classes[rows]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first > 0).all()


# Differential privacy


@pytest.mark.slow
def test_a_private_run_states_the_epsilon_that_follows_and_goes_on_after_a_stop(tmp_path):
    folder = write_sample(tmp_path / "site", 12, seed=2, cameras=["phantom-45"], size=96)
    config = fit.FitConfig(steps=6, batch_size=2, checkpoint_every=2, device="cpu", noise_multiplier=1.0)

    def stop(done, total, text):
        if text.startswith("Training") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit.fit(folder, BASE_DIR, tmp_path / "out", config, stop)
    card = fit.fit(folder, BASE_DIR, tmp_path / "out", config)
    found = dp.epsilon(noise_multiplier=1.0, sample_rate=2 / card["images"], steps=6, delta=config.delta)
    assert (card["steps"], card["dp"]["used"], card["dp"]["epsilon"]) == (6, True, round(found, 4))
    assert card["dp"]["unit"] == "photograph"
    card |= {"demographics": "unknown"}
    assert check_declaration(BASE, Dossier(card=card)).verdict == "pass"


@pytest.mark.slow
def test_a_private_run_that_drew_no_photograph_has_a_card_without_a_loss(tmp_path, monkeypatch):
    import torch

    folder = write_sample(tmp_path / "site", 6, seed=2, cameras=["phantom-45"], size=96)
    config = fit.FitConfig(steps=1, batch_size=2, device="cpu", noise_multiplier=1.0)
    monkeypatch.setattr("jobs.kit.dp.draw", lambda *_: torch.empty(0, dtype=torch.long))
    card = fit.fit(folder, BASE_DIR, tmp_path / "out", config)
    assert json.loads((tmp_path / "out" / "training_card.json").read_text()) == card
    assert (card["steps"], card["final_loss"]) == (1, None)
    assert check_declaration(BASE, Dossier(card={**card, "demographics": "unknown"})).verdict == "pass"


def test_too_little_noise_is_refused_before_the_training(tmp_path):
    config = fit.FitConfig(steps=2, batch_size=2, device="cpu", noise_multiplier=dp.LEAST_NOISE)
    with pytest.raises(dp.BudgetError) as caught:
        fit.fit(write_sample(tmp_path / "site", 4, size=64), BASE_DIR, tmp_path / "out", config)
    assert (caught.value.code, (tmp_path / "out" / "weights.safetensors").exists()) == ("dp_invalid", False)


def test_the_noise_of_private_steps_follows_no_seed():
    import torch

    from jobs.kit import dp

    def noise() -> torch.Tensor:
        torch.manual_seed(7)
        layer = torch.nn.Linear(50, 1, bias=False)
        optimizer = dp.optimizer(
            layer, torch.optim.SGD(layer.parameters(), lr=1.0), noise_multiplier=1.0, clip_norm=1.0, batch_size=1
        )
        before = layer.weight.detach().clone()
        optimizer.zero_grad()
        dp.without_photographs(layer)
        optimizer.step()
        return layer.weight.detach() - before

    assert not torch.equal(noise(), noise())


def test_a_private_step_that_draws_no_photograph_is_noise_alone(tmp_path):
    import torch

    from jobs.kit import dp

    layer = torch.nn.Linear(2, 1, bias=False)
    optimizer = dp.optimizer(
        layer, torch.optim.SGD(layer.parameters(), lr=1.0), noise_multiplier=1.0, clip_norm=1.0, batch_size=4
    )
    before = layer.weight.detach().clone()
    optimizer.zero_grad()
    dp.without_photographs(layer)
    optimizer.step()
    moved = (layer.weight.detach() - before).abs()
    assert (moved > 0).all()
    assert (moved < 5).all()  # noise of standard deviation 1 over 4
