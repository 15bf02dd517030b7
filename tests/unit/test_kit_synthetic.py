"""Synthetic images: drawn, packed, and checked; each check made to fail alone."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jobs.kit import cli, generator, pngs, scan, shards, statements, synthetic
from jobs.kit.checks.dossier import Dossier
from jobs.kit.checks.drawn import load_reference
from jobs.kit.checks.provenance import check_provenance
from jobs.kit.checks.repeats import check_repeats
from jobs.kit.checks.shard import check_shards
from jobs.kit.checks.synthetic import run_synthetic_checks
from tests import attesting, synthesising
from tests.factories import CARD
from tests.synthesising import BASE, GENERATOR, picture

KEY = attesting.key_of("the clinic")
COUNT = 24


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights a little off the base's: a generator of a site."""
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    model = generator.load(BASE)
    with_noise = {name: value * 1.001 for name, value in model.state_dict().items()}
    model.load_state_dict(with_noise)
    generator.save_weights(model, path)
    return path


@pytest.fixture(scope="module")
def drawn(weights, tmp_path_factory):
    """A folder of COUNT images as `consortium sample` draws them."""
    folder = tmp_path_factory.mktemp("drawn") / "images"
    model = generator.load(BASE, weights)
    given = {"seed": 40, "date": "2026-11-27"}
    assert synthetic.draw(model, BASE, weights, folder, count=COUNT - 4, **given) == COUNT - 4
    assert synthetic.draw(model, BASE, weights, folder, count=COUNT, **given) == 4
    assert synthetic.draw(model, BASE, weights, folder, count=COUNT, **given) == 0
    return folder


def rows_of(folder):
    with (folder / "manifest.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


# Drawing and packing


@pytest.mark.slow
def test_a_run_that_goes_on_draws_what_one_go_would_have(drawn, weights):
    rows = rows_of(drawn)
    assert [int(row["seed"]) for row in rows] == list(range(40, 40 + COUNT))
    assert [int(row["class"]) for row in rows] == [number % 6 for number in range(COUNT)]
    assert {row["generator_sha256"] for row in rows} == {scan.sha256_of(weights)}
    pixels, tags = pngs.decode((drawn / "000021.png").read_bytes(), 64)
    again = synthetic.redrawn(generator.load(BASE, weights), BASE, [21 % 6], 61)[0]
    assert np.abs(pixels.astype(int) - again.astype(int)).max() <= 1
    assert (tags["seed"], tags["class"], tags["synthetic"], tags["date"]) == ("61", "3", "true", "2026-11-27")


@pytest.mark.slow
def test_images_of_another_generator_are_not_mixed_in(drawn, weights):
    with pytest.raises(synthetic.SyntheticError) as refused:
        synthetic.draw(None, BASE, weights, drawn, count=COUNT + 1, seed=41, date="2026-11-27")
    assert (refused.value.code, len(rows_of(drawn))) == ("out_not_empty", COUNT)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "kit_version", "base"])
def test_images_drawn_otherwise_are_not_mixed_in(drawn, weights, tmp_path, name):
    folder = copied(drawn, tmp_path / "begun")
    rows = [{**row, name: "7"} for row in rows_of(drawn)]
    with (folder / "manifest.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, synthetic.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(synthetic.SyntheticError, match=f"begun with {name} 7") as refused:
        synthetic.draw(None, BASE, weights, folder, count=COUNT + 1, seed=40, date="2026-11-27")
    assert (refused.value.code, len(rows_of(folder))) == ("out_differs", COUNT)


@pytest.mark.slow
def test_packing_gives_the_same_bytes_and_the_name_that_the_portal_computes(drawn):
    paths = synthetic.pack(drawn, BASE)
    listed = synthetic.hashed(paths)
    assert synthetic.hashed(synthetic.pack(drawn, BASE)) == listed
    sums = "".join(f"{sha256}  {name}\n" for name, sha256 in listed)
    assert shards.digest_of(listed) == hashlib.sha256(sums.encode()).hexdigest()
    manifest = next(synthetic.images_of(paths, 64))[0]
    assert (manifest.drawn, len(manifest.rows), manifest.date) == (COUNT, COUNT, "2026-11-27")


@pytest.mark.parametrize("left", [0, 40, 125, 460, -1, -2])
def test_a_listing_that_a_full_disk_cut_off_is_gone_on_with(tmp_path, monkeypatch, left):
    """Cut within the header, at its end but for the newline, within a row, and before the newline of the last."""
    monkeypatch.setattr(
        synthetic, "redrawn", lambda _, __, labels, first: np.stack([picture(first + i) for i in range(len(labels))])
    )
    weights, folder, given = tmp_path / "weights", tmp_path / "drawn", {"seed": 40, "date": "2026-11-27"}
    weights.touch()
    assert synthetic.draw(None, BASE, weights, folder, count=5, **given) == 5
    whole = (folder / "manifest.csv").read_bytes()
    (folder / "manifest.csv").write_bytes(whole[:left])
    lines = whole[:left].count(b"\n")
    assert synthetic.draw(None, BASE, weights, folder, count=5, **given) == 5 - max(0, lines - 1)
    assert (folder / "manifest.csv").read_bytes() == whole


def copied(drawn, folder):
    folder.mkdir()
    for path in [*drawn.glob("*.png"), drawn / "manifest.csv"]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.slow
def test_what_a_site_deletes_is_left_out_and_the_count_is_told(drawn, tmp_path):
    folder = copied(drawn, tmp_path / "chosen")
    (folder / "000003.png").unlink()
    manifest = next(synthetic.images_of(synthetic.pack(folder, BASE), 64))[0]
    assert (manifest.drawn, len(manifest.rows), 43 in {row.seed for row in manifest.rows}) == (COUNT, COUNT - 1, False)


@pytest.mark.slow
def test_a_changed_image_an_empty_folder_and_a_broken_listing_are_refused(drawn, tmp_path):
    folder = copied(drawn, tmp_path / "changed")
    (folder / "000001.png").write_bytes((folder / "000002.png").read_bytes())
    with pytest.raises(synthetic.SyntheticError) as refused:
        synthetic.pack(folder, BASE)
    assert refused.value.code == "image_changed"
    (folder / "manifest.csv").write_text("file,seed\n000001.png,1\n")
    with pytest.raises(synthetic.SyntheticError, match="not as `consortium sample` wrote it"):
        synthetic.pack(folder, BASE)
    with pytest.raises(synthetic.SyntheticError) as refused:
        synthetic.pack(tmp_path, BASE)
    assert refused.value.code == "no_listing"


@pytest.mark.slow
def test_contribute_refuses_images_that_are_not_the_kits_before_anybody_signs_in(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CONSORTIUM_TOKEN", raising=False)
    folder, card = copied(drawn, tmp_path / "photographs"), tmp_path / "card.json"
    Image.fromarray(picture(3)).save(folder / "000001.png")
    digest = hashlib.sha256((folder / "000001.png").read_bytes()).hexdigest()
    rows = [{**row, "sha256": digest} if row["file"] == "000001.png" else row for row in rows_of(folder)]
    with (folder / "manifest.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, synthetic.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    card.write_text("{}")
    given = ["--institution", "moi", "--title", "Drawn", "--card", str(card), "--unsigned", "--json"]
    assert cli.main(["contribute", "synthetic", str(folder), *given]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_marked"
    (folder / "000001.png").unlink()
    assert cli.main(["contribute", "synthetic", str(folder), *given]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_signed_in"


@pytest.mark.slow
def test_more_images_than_a_shard_holds_make_several(drawn, tmp_path, monkeypatch):
    folder = copied(drawn, tmp_path / "many")
    monkeypatch.setattr(synthetic.shards, "IMAGES_A_SHARD", 10)
    paths = synthetic.pack(folder, BASE)
    assert [path.name for path in paths] == [f"synthetic-0000{number}.tar" for number in range(3)]
    assert len(list(synthetic.images_of(paths, 64))) == COUNT
    spread = synthetic.some(paths, BASE, 4)
    every = [pixels for _, _, pixels, _ in synthetic.images_of(paths, 64)]
    assert [next(n for n, one in enumerate(every) if np.array_equal(one, taken)) for taken in spread] == [0, 8, 15, 23]


# Checks


def dossier_of(paths, *, generator_sha256: str = GENERATOR, **changed):
    """Return what the centre has of good shards."""
    digest = shards.digest_of(synthetic.hashed(paths))
    signature = statements.sign(statements.SYNTHETIC, shards.SUMS, digest, {}, KEY)
    report = attesting.report(weights_sha256=generator_sha256)
    privacy = statements.sign(statements.PRIVACY, shards.SUMS, digest, report, KEY)
    given = {"card": CARD, "signature": signature, "privacy": privacy, "keys": attesting.known(KEY)}
    return Dossier(**{**given, "is_complete": True, "known_sha256": digest, **changed})


def checked(paths, tmp_path, **given):
    """Return (verdict by number) and the code of the last check."""
    given = {"dossier": dossier_of(paths), **given}
    results = run_synthetic_checks(paths, BASE, tmp_path / "out", **given)
    return {result.number: result.verdict for result in results}, results[-1].evidence.get("code", ""), results


@pytest.mark.slow
def test_images_as_the_kit_draws_them_pass_and_are_drawn_again(drawn, weights, tmp_path):
    paths, digest = synthetic.pack(drawn, BASE), scan.sha256_of(weights)
    dossier = dossier_of(paths, generator_sha256=digest)
    verdicts, _, results = checked(paths, tmp_path, dossier=dossier, generators={digest: weights})
    assert (list(verdicts), set(verdicts.values()) <= {"pass", "warn"}) == ([1, 2, 4, 5, 6, 7, 8, 9, 10, 11], True)
    assert [verdicts[number] for number in (1, 2, 4, 5, 6, 9)] == ["pass"] * 6
    assert results[2].evidence["redrawn"] == COUNT
    assert results[2].evidence["largest_difference"] < 0.1
    assert results[5].evidence["mixture"].keys() == {"like photographs", "blurred", "badly exposed",
                                                     "not of the modality"}  # fmt: skip
    assert (tmp_path / "out" / "samples.png").exists()
    assert (tmp_path / "out" / "neighbours.png").exists()


@pytest.mark.slow
def test_images_of_other_seeds_than_they_claim_are_found_out(drawn, weights, tmp_path):
    digest = scan.sha256_of(weights)
    model = generator.load(BASE, weights)
    shared = {"generator_sha256": digest}
    rows = [synthesising.row(number, **shared) for number in range(8)]
    other = list(synthetic.redrawn(model, BASE, [row["class"] for row in rows], 9_000))
    path = synthesising.shard(tmp_path, other, rows=rows, **shared)
    dossier = dossier_of([path], generator_sha256=digest)
    verdicts, code, results = checked([path], tmp_path, dossier=dossier, generators={digest: weights})
    assert (verdicts, code) == ({1: "pass", 2: "pass", 4: "fail"}, "not_redrawn")
    assert results[-1].evidence["largest_difference"] > 10 * BASE.thresholds["max_redrawn_difference"] / 4
    assert checked([path], tmp_path, dossier=dossier)[0][4] == "warn"  # nobody holds the generator


@pytest.mark.slow
def test_images_of_one_name_hide_none_of_those_that_are_drawn_again(weights, tmp_path):
    """Seven pictures from elsewhere and, drawn again last, one that is what it says."""
    shared = {"generator_sha256": scan.sha256_of(weights)}
    rows = [synthesising.row(number, file="000000.png", **shared) for number in range(8)]
    last = int(np.random.default_rng(list(b"redrawn abc")).permutation(8)[-1])
    pictures = PICTURES[:8]
    pictures[last] = synthetic.redrawn(generator.load(BASE, weights), BASE, [rows[last]["class"]], 100 + last)[0]
    path = synthesising.shard(tmp_path, pictures, rows=rows, **shared)
    _, seen = check_shards([path], BASE, salt="abc")
    result = check_provenance(seen, BASE, {shared["generator_sha256"]: weights}, salt="abc")
    assert (result.verdict, result.evidence["code"]) == ("fail", "name_twice")


PICTURES = [picture(seed) for seed in range(12)]


@pytest.mark.parametrize(
    ("changed", "facts", "code"),
    [
        ({3: {"generator_sha256": "0" * 64}}, {}, "tags_differ"),
        ({3: {"date": "2026-11-26"}}, {}, "tags_differ"),
        ({3: {"synthetic": "false"}}, {}, "tags_differ"),
        ({3: {"seed": 102}}, {}, "seed_twice"),
        ({3: {"file": "000002.png"}}, {}, "name_twice"),
        ({3: {"class": 6}}, {}, "unknown_class"),
        ({}, {"base": {"slug": "fundus-64", "sha256": "0" * 64}}, "other_base"),
        ({}, {"steps": 50}, "other_sampling"),
        ({}, {"generator_sha256": BASE.sha256}, "is_the_base"),
        ({}, {"drawn": 11}, "too_few_drawn"),
    ],
)
def test_check_4_fails_alone(tmp_path, changed, facts, code):
    rows = [synthesising.row(number, **changed.get(number, {})) for number in range(12)]
    path = synthesising.shard(tmp_path, PICTURES, rows=rows, **facts)
    assert checked([path], tmp_path)[:2] == ({1: "pass", 2: "pass", 4: "fail"}, code)


def test_check_4_refuses_shards_of_several_generators(tmp_path):
    first = synthesising.shard(tmp_path, PICTURES[:6])
    rows = [synthesising.row(number + 6, generator_sha256="1" * 64) for number in range(6)]
    second = synthesising.shard(tmp_path, PICTURES[6:], rows=rows, number=1, generator_sha256="1" * 64)
    assert checked([first, second], tmp_path)[1] == "several_generators"


def test_check_1_and_2_fail_alone(tmp_path):
    path = synthesising.shard(tmp_path, PICTURES)
    unknown = dossier_of([path], keys=attesting.known(attesting.key_of("a stranger")))
    assert checked([path], tmp_path, dossier=unknown)[:2] == ({1: "pass", 2: "fail"}, "unknown_key")
    of_weights = dossier_of([path], signature=attesting.signature(path.read_bytes(), KEY))
    assert checked([path], tmp_path, dossier=of_weights)[1] == "statement_malformed"
    good = dossier_of([path])
    path.write_bytes(path.read_bytes() + bytes(512))
    assert checked([path], tmp_path, dossier=good)[:2] == ({1: "fail"}, "hidden_bytes")


def test_check_5_finds_a_picture_that_comes_twice_and_a_generator_that_repeats_itself(tmp_path):
    twice = synthesising.shard(tmp_path, [*PICTURES[:-1], PICTURES[0]])
    verdicts, code, results = checked([twice], tmp_path)
    assert (verdicts[5], code, results[-1].evidence["equal"]) == ("fail", "equal_images", 1)
    nearly = [np.clip(PICTURES[0].astype(int) + number, 0, 255).astype(np.uint8) for number in range(6)]
    alike = synthesising.shard(tmp_path, nearly, number=1)
    assert checked([alike], tmp_path)[1] == "not_diverse"


def test_check_5_finds_a_few_pictures_that_come_often(tmp_path):
    """Copies of 12, each changed a little: hardly a pair in ten is alike, and each image has a twin."""
    rng = np.random.default_rng(0)
    few = [np.clip(PICTURES[number % 12] + rng.integers(-2, 3, (64, 64, 3)), 0, 255) for number in range(36)]
    path = synthesising.shard(tmp_path, [one.astype(np.uint8) for one in few])
    verdicts, code, results = checked([path], tmp_path)
    found = results[-1].evidence
    assert (verdicts[5], code, found["with_a_twin"], found["near_duplicate_pairs"]) == ("fail", "not_diverse", 36, 45)
    assert found["near_duplicate_pairs"] < BASE.thresholds["max_near_duplicates"] * found["pairs"]


def test_check_5_finds_pictures_that_are_sent_again_with_a_pixel_changed(tmp_path, monkeypatch):
    """Copies of photographs are found among all images where hardly one that is looked at has its twin there."""
    monkeypatch.setattr("jobs.kit.checks.shard.LOOKED_AT", 8)
    pictures = list(load_reference(BASE.folder / "reference.safetensors").pixels[:40])
    raised = [one.copy() for one in pictures]
    for one in raised:
        one[32, 32, 0] ^= 1
    mirrored = [one[:, ::-1] for one in pictures]
    found = []
    for number, sent in enumerate([pictures, pictures + raised[:30], pictures + raised[:10], pictures + mirrored]):
        _, seen = check_shards([synthesising.shard(tmp_path, sent, number=number)], BASE, salt="abc")
        result = check_repeats(seen, BASE)
        found.append((result.verdict, result.evidence.get("code", ""), result.evidence["coarse_again"]))
    assert found == [
        ("pass", "", 0), ("fail", "not_diverse", 60), ("warn", "borderline", 20), ("fail", "not_diverse", 80)
    ]  # fmt: skip


@pytest.mark.slow
def test_photographs_that_are_called_synthetic_are_found_out(tmp_path):
    """Public ones that the centre holds, a little changed, under the name of a generator that nobody sent."""
    reference = load_reference(BASE.folder / "reference.safetensors")
    photographs = list(reference.pixels[:24])
    rng = np.random.default_rng(0)
    noisy = [np.clip(one + rng.integers(-4, 5, one.shape), 0, 255).astype(np.uint8) for one in photographs]
    for number, pictures in enumerate([photographs, noisy, [one[:, ::-1] for one in photographs]]):
        path = synthesising.shard(tmp_path, pictures, number=number)
        verdicts, code, results = checked([path], tmp_path)
        assert (verdicts[4], verdicts[9], code) == ("warn", "fail", "public_photographs")
        assert results[-1].evidence["public"]["photographs_themselves"] == 24


def test_photographs_that_were_cropped_turned_and_mirrored_are_found_out(tmp_path):
    photographs = load_reference(BASE.folder / "reference.safetensors").pixels[::10]
    changed = [Image.fromarray(one[:, ::-1]).rotate(8).crop((5, 5, 59, 59)).resize((64, 64)) for one in photographs]
    darker = [(np.asarray(one) * 0.8).astype(np.uint8) for one in changed]
    verdicts, code, results = checked([synthesising.shard(tmp_path, darker)], tmp_path)
    found = results[-1].evidence["public"]
    assert (verdicts[7], verdicts[9], code) == ("pass", "fail", "public_copies")
    assert (found["cropped_or_turned"], found["photographs_themselves"]) == (len(darker), 0)


def test_few_images_are_told_and_no_fault(tmp_path):
    for number, count in enumerate((1, 2)):
        verdicts, _, results = checked([synthesising.shard(tmp_path, PICTURES[12 - count :], number=number)], tmp_path)
        told = [result.evidence for result in results if result.number in {8, 10}]
        assert ((verdicts[8], verdicts[10]), told) == (("warn", "warn"), [{"code": "too_few"}] * 2)


def test_check_7_refuses_images_that_are_no_photographs(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(12)]
    verdicts, code, results = checked([synthesising.shard(tmp_path, noise)], tmp_path)
    assert (verdicts[7], code, results[-1].evidence["fundus_like"]) == ("fail", "not_fundus_like", 0)


def test_check_9_asks_for_a_report_of_these_images_and_of_their_generator(tmp_path):
    path = synthesising.shard(tmp_path, PICTURES)
    good = dossier_of([path])
    base = replace(BASE, config={**BASE.config, "checks_run": [1, 4, 7, 9]})

    def nine(dossier):
        last = run_synthetic_checks([path], base, tmp_path / "out", dossier=dossier)[-1]
        return last.number, last.verdict, last.evidence.get("code", "")

    assert nine(good) == (9, "pass", "")
    assert nine(dossier_of([path], privacy=None)) == (9, "fail", "no_report")
    assert nine(dossier_of([path], generator_sha256="2" * 64)) == (9, "fail", "report_malformed")
    of_weights = attesting.privacy(b"weights", KEY)
    assert nine(dossier_of([path], privacy=of_weights)) == (9, "fail", "other_file")


# As typed


@pytest.mark.slow
def test_sample_sign_and_check_as_typed(drawn, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CONSORTIUM_KEY", raising=False)
    folder = copied(drawn, tmp_path / "typed")

    def answer(*typed):
        status = cli.main([*typed, "--json"])
        return status, json.loads(capsys.readouterr().out)

    assert answer("keys", "new")[0] == 0
    status, signed = answer("sign", str(folder))
    digest = shards.digest_of(synthetic.hashed(sorted((folder / "shards").iterdir())))
    assert (status, signed["sha256"], signed["signature"]) == (0, digest, str(folder / "SHA256SUMS.signed.json"))
    status, found = answer("check", str(folder), "--signature", signed["signature"], "--weights", str(weights))
    assert (status, [row["number"] for row in found["checks"]]) == (0, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11])
    assert found["checks"][2]["evidence"]["redrawn"] == COUNT
    typed = ("sample", "--weights", str(weights), "--n", str(COUNT), "--seed", "40", "--out", str(folder))
    assert answer(*typed) == (0, {"images": COUNT, "new": 0, "out": str(folder), "seed": 40})
