"""Checks 2, 5, 6 and 8 to 11, each made to speak alone."""

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.kit import fit_card, generator, privacy, statements
from jobs.kit.checks import fidelity, numerics, poisoning, sites
from jobs.kit.checks.dossier import Dossier
from jobs.kit.checks.drawn import Drawn, Reference, load_reference
from jobs.kit.checks.fidelity import check_fidelity
from jobs.kit.checks.poisoning import check_poisoning
from jobs.kit.checks.privacy import check_privacy
from jobs.kit.checks.privacy import judge as judge_report
from jobs.kit.checks.report import problem_of, problem_of_budget
from jobs.kit.checks.results import CheckResult
from jobs.kit.checks.runner import run_steps
from jobs.kit.checks.signature import check_signature
from jobs.kit.checks.utility import check_utility
from jobs.kit.phantom import phantom
from tests import attesting

BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")
KEY = attesting.key_of("the clinic")
CONTENT = b"weights"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    path.write_bytes(CONTENT)
    return path


def complete(**given) -> Dossier:
    """Return a dossier as the centre has it."""
    return Dossier(**{"keys": attesting.known(KEY), "is_complete": True, **given})


# 2 signature


def signed(weights, dossier):
    result = check_signature(str(weights), dossier)
    return result.verdict, result.evidence.get("code", "")


def test_check_2(weights):
    good = attesting.signature(CONTENT, KEY)
    assert signed(weights, complete(signature=good)) == ("pass", "")
    assert signed(weights, complete()) == ("fail", "not_signed")
    assert signed(weights, complete(signature=good, keys={})) == ("fail", "unknown_key")
    stranger = attesting.signature(CONTENT, attesting.key_of("a stranger"))
    assert signed(weights, complete(signature=stranger)) == ("fail", "unknown_key")
    other = attesting.signature(b"other", KEY)
    assert signed(weights, complete(signature=other)) == ("fail", "other_file")
    assert signed(weights, complete(signature=attesting.privacy(CONTENT, KEY))) == ("fail", "statement_malformed")
    assert signed(weights, Dossier()) == ("warn", "not_given")
    assert signed(weights, Dossier(signature=good)) == ("warn", "keys_not_known")
    assert signed(weights, Dossier(signature=other)) == ("fail", "other_file")


# 5 numerics: how far from others


def test_a_layer_far_from_those_of_accepted_contributions_warns():
    peers = [{"all": 0.01 + 0.0005 * number, "mid_block": 0.02 + 0.001 * number} for number in range(9)]
    assert numerics.robust_z({"all": 0.012, "mid_block": 0.024}, peers) == {"all": 0.0, "mid_block": 0.0}
    far = numerics.robust_z({"all": 0.012, "mid_block": 0.2}, peers)
    assert (far["all"], far["mid_block"] > 6) == (0.0, True)
    assert numerics.robust_z({"all": 9.0}, peers[:7]) == {}


# 8 to 11 on images


@pytest.fixture(scope="module")
def reference():
    return load_reference(BASE.folder / "reference.safetensors")


def drawn_from(reference: Reference, rows: np.ndarray, pixels: np.ndarray | None = None) -> Drawn:
    """Return public photographs as if a generator had drawn them; their features are at hand unless changed."""
    drawn = Drawn(reference.pixels[rows] if pixels is None else pixels, reference.classes[rows])
    if pixels is None:
        vars(drawn)["features"] = reference.features[rows]
    return drawn


def halves(reference: Reference) -> tuple[np.ndarray, Reference]:
    """Return rows to take as drawn, and the reference without their patients."""
    is_drawn = reference.patients % 2 == 0
    rest = ~is_drawn
    kept = Reference(
        reference.pixels[rest], reference.features[rest], reference.classes[rest], reference.patients[rest]
    )
    return np.flatnonzero(is_drawn), kept


@pytest.mark.slow
def test_real_photographs_pass_the_checks_of_images(reference, weights, tmp_path):
    rows, kept = halves(reference)
    drawn = drawn_from(reference, rows)
    assert check_fidelity(drawn, kept, BASE).verdict == "pass"
    assert check_poisoning(drawn, kept, BASE).evidence["still_patches"] == []
    utility = check_utility(drawn, reference, BASE)  # half of it has too few negatives
    assert (utility.verdict, utility.evidence["trained_on_synthetic"]["auroc"] > 0.6) == ("pass", True)
    dossier = complete(privacy=attesting.privacy(CONTENT, KEY))
    told = check_privacy(weights, BASE, dossier, drawn, kept, tmp_path)
    assert (told.verdict, told.sentence.endswith("(0.5 is chance).")) == ("pass", True)
    offline = check_privacy(weights, BASE, Dossier(privacy=dossier.privacy), drawn, None, tmp_path)
    assert offline.sentence.endswith(" Whether the report is signed by your key, the portal verifies.")
    assert (tmp_path / "neighbours.png").exists()
    twice = replace(kept, pixels=kept.pixels.repeat(2, 1).repeat(2, 2))  # a reference of another size
    again = check_privacy(weights, BASE, dossier, drawn, twice, tmp_path)
    assert again.evidence == check_privacy(weights, BASE, dossier, drawn, kept, tmp_path).evidence


def test_without_a_reference_they_say_that_they_measured_nothing(reference):
    drawn = drawn_from(reference, np.arange(4))
    for check in (check_fidelity, check_poisoning, check_utility):
        result = check(drawn, None, BASE)
        assert (result.verdict, result.evidence) == ("warn", {"code": "no_reference"})


@pytest.mark.slow
def test_noise_is_far_from_public_photographs(reference):
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3)).astype(np.uint8)
    result = check_fidelity(Drawn(noise, np.zeros(16, int)), reference, BASE)
    assert (result.verdict, result.evidence["code"], result.evidence["precision"]) == ("warn", "far_from_public", 0.0)


def test_the_distances_of_check_8_are_those_of_their_papers():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(40, 6)), rng.normal(0.7, size=(50, 6))
    value, error = fidelity.kid(a, b)
    kernel = lambda x, y: (x @ y.T / 6 + 1) ** 3  # noqa: E731 -- the paper's k
    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))  # noqa: E731
    assert value == pytest.approx(off(kernel(a, a)) + off(kernel(b, b)) - 2 * kernel(a, b).mean())
    left_out = [fidelity.kid(np.delete(a, row, axis=0), b)[0] for row in range(40)]
    assert error == pytest.approx(np.sqrt(39 / 40 * ((left_out - np.mean(left_out)) ** 2).sum()))
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)).sum()
    between = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    assert fidelity.fid(a, b) == pytest.approx(between + sum(map(np.trace, covariances)) - 2 * root)
    assert fidelity.overlap(a, a) == (1.0, 1.0, 1.0)
    assert fidelity.overlap(a, b + 100) == (0.0, 0.0, 0.0)


REPORT = attesting.report(weights_sha256="0" * 64)


def judged(**figures):
    result = judge_report(attesting.report(weights_sha256="0" * 64, **figures), BASE)
    return result.verdict, result.evidence.get("code", "")


def test_check_9_by_its_thresholds():
    assert judged() == ("pass", "")
    assert judged(copy_share=0.15) == ("pass", "")
    assert judged(copy_share=0.16) == ("warn", "borderline")
    assert judged(copy_share=0.31) == ("fail", "copies")
    assert judged(auc=0.61) == ("warn", "borderline")
    assert judged(auc=0.71) == ("fail", "membership")
    assert judged(calibrated=0.71) == ("warn", "borderline")
    assert judged(calibrated=0.86) == ("fail", "membership")
    assert judged(calibrated=0.31) == ("pass", "")
    assert judged(calibrated=0.29) == ("warn", "sides_exchanged")
    assert judged(calibrated=0.14) == ("fail", "sides_exchanged")
    assert judged(auc=0.14) == ("pass", "")  # the held-out ones are easier to draw
    for low, by_chance in ((0.6, True), (0.61, False)):
        report = attesting.report(weights_sha256="0" * 64, auc=0.75)
        report["membership"]["loss"] |= {"low": low, "high": 0.9}
        assert ("one side may be easier to draw by chance" in judge_report(report, BASE).fix) is by_chance
    strict = replace(BASE, config=BASE.config | {"checks": BASE.config["checks"] | {"max_copy_share": 0.01}})
    assert judge_report(REPORT, strict).verdict == "fail"


def test_a_measure_that_could_show_no_copy_is_no_pass():
    for measure, words in (("perceptual_hash", "By perceptual hash nothing"), ("features", "By features nothing")):
        report = copy.deepcopy(REPORT)
        report["copies"] = {name: dict(found) for name, found in REPORT["copies"].items()}
        report["copies"][measure]["threshold"] = 1.0
        result = judge_report(report, BASE)
        assert (result.verdict, result.evidence["code"], words in result.sentence) == ("warn", "sides_overlap", True)
        report["membership"]["loss"]["auc"] = 0.9
        assert judge_report(report, BASE).evidence["code"] == "membership"


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ((), {"names": ["Jane Doe"]}, "it holds 'names', which the kit does not write"),
        (("images",), {"train": 1}, "images.train is not what it must be"),
        (("images",), {"Jane Doe": 3}, "images holds 'Jane Doe', which the kit does not write"),
        (("membership", "loss"), {"auc": float("nan")}, "membership.loss.auc is not what it must be"),
        (("membership", "loss"), {"auc": 1.5}, "membership.loss.auc is not what it must be"),
        (("membership", "loss"), {"low": 10**400}, "membership.loss.low is not what it must be"),
        (("copies", "features"), {"copy_share": "nan"}, "copies.features.copy_share is not what it must be"),
        (("copies", "features", "generated_to_train"), {"q05": True}, "copies.features.generated_to_train.q05 is not"),
        (("method",), {"device": "the laptop of Jane Doe"}, "method.device is not what it must be"),
        (("method", "loss"), {"noise_steps": ["Jane Doe"]}, "method.loss.noise_steps is not what it must be"),
        ((), {"dp": {"used": False, "note": "Jane Doe"}}, "dp holds 'note', which the kit does not write"),
        ((), {"dp": {"used": True}}, "it lacks dp.epsilon"),
        ((), {"base": {"slug": "other", "sha256": BASE.sha256}}, "it was measured against another base generator"),
        ((), {"weights_sha256": "1" * 64}, "it measured other weights"),
        ((), {"copies": 7}, "copies is no table"),
        (("copies", "features"), {"threshold_quantile": 1.0}, "copies.features.threshold_quantile is not what"),
        (
            ("copies", "features"),
            {"threshold": 0.9},
            "copies.features.threshold is not what the held-out",
        ),
        (("copies", "features"), {"copies": 64}, "copies.features.copy_share is not that of its copies among the"),
        (("copies", "features"), {"copy_share": 0.01}, "copies.features.copy_share is not that of its copies among"),
        (
            ("copies", "features", "generated_to_train"),
            {"q05": 0.6},
            "copies.features.generated_to_train does not rise",
        ),
        (("membership", "loss"), {"low": 0.7}, "membership.loss has an interval that ends before it begins"),
        (("method",), {"sampling_steps": 1}, "its images were drawn in another number of steps than fundus-64 takes"),
        (("method", "features"), {"encoder": "another"}, "method.features.encoder is not what it must be"),
        (("method", "loss"), {"noise_steps": [999]}, "method.loss.noise_steps is not what it must be"),
        (("method", "loss"), {"noise_steps": []}, "method.loss.noise_steps is not what it must be"),
        (("method",), {"most": 19}, "method.most is not what it must be"),
        (("method", "loss"), {"draws": True}, "method.loss.draws is not what it must be"),
    ],
)
def test_a_report_holds_figures_alone(place, value, problem):
    report = copy.deepcopy(REPORT)
    target = report
    for name in place:
        target = target[name]
    target.update(value)
    assert problem_of(report, BASE, weights_sha256="0" * 64).startswith(problem)
    assert problem_of({}, BASE) == "it lacks base"


PRIVATE = {
    "used": True, "epsilon": 8.0, "noise_multiplier": 1.1, "sample_rate": 0.05, "delta": 1e-5, "clip_norm": 1.0,
}  # fmt: skip


def test_a_private_run_is_a_report_too():
    assert problem_of({**REPORT, "dp": {**PRIVATE, **fit_card.DP_FACTS}}, BASE) == ""
    assert problem_of({**REPORT, "dp": {**PRIVATE, "unit": "Jane Doe"}}, BASE) == ("dp.unit is not what it must be")


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"epsilon": "8"}, "it lacks dp.epsilon"), ({"delta": 2}, "dp.delta is not what it must be")],
)
def test_a_budget_that_is_none_is_named_before_the_work(change, problem):
    assert problem_of_budget(privacy.declared(PRIVATE | change)) == problem


def test_check_9_believes_only_a_signed_report_of_this_file(reference, weights, tmp_path):
    rows, kept = halves(reference)

    def outcome(dossier):
        result = check_privacy(weights, BASE, dossier, drawn_from(reference, rows[:8]), kept, tmp_path)
        return result.verdict, result.evidence.get("code", "")

    assert outcome(complete()) == ("fail", "no_report")
    assert outcome(Dossier()) == ("warn", "not_given")
    assert outcome(complete(privacy=attesting.privacy(b"other", KEY))) == ("fail", "other_file")
    stranger = attesting.privacy(CONTENT, attesting.key_of("a stranger"))
    assert outcome(complete(privacy=stranger)) == ("fail", "unknown_key")
    assert outcome(complete(privacy=attesting.privacy(CONTENT, KEY, copy_share=0.9))) == ("fail", "copies")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    of_other = statements.sign(statements.PRIVACY, "w.safetensors", sha256, REPORT, KEY)
    assert outcome(complete(privacy=of_other)) == ("fail", "report_malformed")


def test_check_9_holds_the_report_against_the_training_card_and_what_is_sent(reference, weights, tmp_path):
    rows, kept = halves(reference)
    sha256, no = hashlib.sha256(CONTENT).hexdigest(), {"used": False}

    def outcome(card, dp=no, *, looked_at=64, **of_images):
        counts = {"train": 200, "held_out": 50, "generated": looked_at}
        facts = attesting.report(weights_sha256=sha256, copy_share=0.0) | {"dp": dp, "images": counts}
        dossier = complete(card=card, privacy=statements.sign(statements.PRIVACY, "w", sha256, facts, KEY))
        result = check_privacy(weights, BASE, dossier, drawn_from(reference, rows[:6]), kept, tmp_path, **of_images)
        return result.evidence.get("code", "")

    against = "report_contradicted"
    assert [outcome({"images": count, "dp": no}) for count in (200, 199, "<10")] == ["", against, against]
    assert outcome({"images": 201, "dp": no}) == "not_all_asked"
    assert outcome({"images": 200, "dp": PRIVATE | {"library": "our own"}}, PRIVATE) == ""
    assert outcome({"images": 200, "dp": PRIVATE}) == ""  # made without --card: it promises less
    assert outcome({"images": 200, "dp": no}, PRIVATE) == against
    assert outcome({"images": 200, "dp": PRIVATE}, PRIVATE | {"epsilon": 0.1}) == against
    assert outcome(None, PRIVATE) == ""
    assert [outcome(None, looked_at=count) for count in (16, 15)] == ["", against]
    assert [outcome(None, looked_at=count, generator=sha256) for count in (6, 5)] == ["", against]  # six are sent


def test_no_evidence_is_too_long_for_the_line_that_carries_it(tmp_path):
    told = []
    long = CheckResult(9, "privacy", "fail", "x" * 10_000, evidence={"code": "copies", "figures": ["y" * 60_000]})
    odd = CheckResult(5, "numerics", "pass", "It is.", evidence={"value": float("inf")})
    results = run_steps(iter([lambda: odd, lambda: long]), tmp_path, told.append)
    assert [(result.verdict, result.evidence) for result in results] == [
        ("pass", {"code": "", "left_out": True}), ("fail", {"code": "copies", "left_out": True}),
    ]  # fmt: skip
    assert max(len(json.dumps(event)) for event in told) < 65_536


def test_a_stamp_on_every_image_is_found(reference):
    rows, kept = halves(reference)
    stamped = reference.pixels[rows].copy()
    stamped[:, 24:32, 24:32] = (255, 255, 0)
    drawn = Drawn(stamped, reference.classes[rows])
    vars(drawn)["features"] = reference.features[rows]  # the stamp is looked for in pixels
    result = check_poisoning(drawn, kept, BASE)
    assert (result.verdict, result.evidence["code"], result.evidence["still_patches"]) == ("warn", "odd", [[3, 3]])


def test_an_odd_texture_and_outliers_are_found(reference):
    rows, kept = halves(reference)
    checkered = reference.pixels[rows].astype(int)
    checkered[:, ::2, ::2] += 40
    assert poisoning.high_frequency(np.clip(checkered, 0, 255).astype(np.uint8)).min() > 0
    drawn = Drawn(np.clip(checkered, 0, 255).astype(np.uint8), reference.classes[rows])
    apart = reference.features[rows].copy()
    apart[:3] += 40 * np.eye(1, apart.shape[1], 7, dtype=np.float32)
    vars(drawn)["features"] = apart
    result = check_poisoning(drawn, kept, BASE)
    assert (result.verdict, result.evidence["spectral_outliers"]) == ("warn", 3)
    assert result.evidence["high_frequency_shift"] > 6


def sited(reference, rows, folder, name, *, flipped: bool = False):
    """Write what the centre keeps of a site's accepted images; `flipped` calls the healthy ill and the ill healthy."""
    classes = reference.classes[rows].copy()
    graded = classes != BASE.any_class
    classes[graded] = np.where(classes[graded] >= 2, 0, 3) if flipped else classes[graded]
    drawn = Drawn(reference.pixels[rows], classes)
    vars(drawn)["features"] = reference.features[rows]
    sites.save_drawn(drawn, folder / "out")
    (folder / "out" / sites.DRAWN).rename(folder / f"{name}.safetensors")
    return drawn


def test_a_site_that_makes_the_probe_worse_for_all_is_found(reference, tmp_path):
    rows, kept = halves(reference)
    parts = np.array_split(rows, 3)
    for number, part in enumerate(parts[:2]):
        sited(reference, part, tmp_path, f"{number}-7")
    others = sites.load_others(tmp_path)
    assert (others.sites, others.features.shape) == (2, (len(parts[0]) + len(parts[1]), 1280))
    (tmp_path / "ours").mkdir()
    honest = sited(reference, parts[2], tmp_path / "ours", "9-9")
    found = check_poisoning(honest, kept, BASE, others).evidence["left_out"]
    assert (found["sites"], found["effect"] > -0.05) == (2, True)
    assert found["effect"] == pytest.approx(found["with"] - found["without"], abs=1e-4)
    turned = sited(reference, np.tile(parts[2], 4), tmp_path / "ours", "9-9", flipped=True)
    result = check_poisoning(turned, kept, BASE, others)
    assert (result.verdict, result.evidence["left_out"]["effect"] < -0.05) == ("warn", True)
    assert "a probe of the images of 3 sites is worse by" in result.sentence


def test_one_other_site_is_too_few_to_compare_with(reference, tmp_path):
    rows, kept = halves(reference)
    drawn = sited(reference, rows, tmp_path, "1-1")
    (tmp_path / "1-2.safetensors").write_bytes((tmp_path / "1-1.safetensors").read_bytes())
    others = sites.load_others(tmp_path)
    assert (others.sites, len(others.each)) == (1, 2)
    assert "left_out" not in check_poisoning(drawn, kept, BASE, others).evidence


def test_labels_of_one_kind_make_no_probe(reference):
    rows, kept = halves(reference)
    drawn = Drawn(reference.pixels[rows], np.zeros(len(rows), int))
    vars(drawn)["features"] = reference.features[rows]
    assert check_utility(drawn, kept, BASE).evidence["code"] == "no_probe"


def test_classes_the_wrong_way_round_are_told(reference):
    rows = np.flatnonzero(reference.classes != BASE.any_class)
    drawn = Drawn(reference.pixels[rows], 4 - reference.classes[rows])
    vars(drawn)["features"] = reference.features[rows]
    result = check_utility(drawn, reference, BASE)
    assert (result.verdict, result.evidence["code"]) == ("warn", "below_chance")


def test_phantoms_are_no_candidate_copies_of_each_other():
    from jobs.kit import copies

    drawn = np.stack([phantom(seed, seed % 5, size=64) for seed in range(12)])
    same, mirrored = (copies.by_hash(drawn, copies.perceptual_hash(of)) for of in (drawn, drawn[:, :, ::-1]))
    assert np.diag(same).tolist() == [1.0] * 12
    assert (mirrored.diagonal() > 0.9).all()  # mirrored or not
