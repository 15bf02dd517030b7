"""Preparing a folder: patients stay on one side, copies go, quality is told, nothing of the original stays."""

import csv
import errno
import json
import os
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.kit import cli, fit_card, prepare
from jobs.kit.errors import ImagesError, KitError
from jobs.kit.phantom import phantom, write_sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen phantoms of patients with several, a copy, a mirrored re-encoded copy, and what is no image."""
    folder = write_sample(tmp_path_factory.mktemp("site"), 16, seed=4, cameras=["phantom-45"], size=128)
    rows = rows_of(folder / "labels.csv")
    labelled(folder, **{name: [row[name] for row in rows] for name in ("patient_group", "dr_grade", "camera")})
    images = folder / "images"
    first = sorted(images.iterdir())[0]
    (images / "zz-copy.jpg").write_bytes(first.read_bytes())
    Image.open(first).save(images / "zz-again.jpg", quality=60)
    (images / "zz-broken.jpg").write_bytes(b"no image")
    (images / "zz-scan.dcm").write_bytes(b"DICM")
    (images / "left").mkdir()
    (images / "zz-lost.png").symlink_to(images / "nowhere.jpg")
    (images / ".DS_Store").touch()
    return folder


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    return out, prepare.prepare(folder, out, held_out=0.25, seed=1)


def refused(*given, **options):
    with pytest.raises(ImagesError) as caught:
        prepare.prepare(*given, **options)
    return caught.value.code


def labelled(site, **columns):
    """Write a labels.csv of one's own: each column has a value for each photograph, in order."""
    names = sorted(path.name for path in (site / "images").iterdir())
    rows = zip(names, *columns.values(), strict=True)
    lines = [",".join(["file", *columns]), *(",".join(row) for row in rows)]
    (site / "labels.csv").write_text("\n".join(lines) + "\n")
    return site


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_it_counts_what_it_did(prepared):
    _, counts = prepared
    assert (counts["photographs"], counts["copies_removed"], counts["unreadable"]) == (16, 2, 1)
    assert counts["split"]["train"] + counts["split"]["held_out"] == 16
    assert counts["split"]["held_out"] >= 4
    assert sum(counts["quality"].values()) == 16
    assert (counts["graded"], counts["passed_over"]) == (16, {".dcm": 1, "broken link": 1, "subfolder": 1})


def test_the_training_card_counts_the_copies_that_were_left_out(folder, prepared):
    assert [fit_card.copies_left_out(made) for made in (folder, prepared[0])] == [0, 2]


def test_no_patient_is_on_both_sides(prepared):
    out, _ = prepared
    sides = {}
    for row in rows_of(out / "labels.csv"):
        sides.setdefault(row["patient_group"], set()).add(row["split"])
    assert {len(found) for found in sides.values()} == {1}


def test_the_index_names_every_photograph_that_came(folder, prepared):
    out, _ = prepared
    index = {row["original"].rpartition("/")[2]: row["file"] for row in rows_of(out / "index.csv")}
    assert set(index) == {path.name for path in (folder / "images").glob("*.jpg")}
    assert (index["zz-copy.jpg"], index["zz-again.jpg"], index["zz-broken.jpg"]) == (
        "copy", "copy", "image_unreadable"
    )  # fmt: skip


def test_what_is_prepared_is_square_named_anew_and_without_metadata(prepared):
    out, _ = prepared
    for row in rows_of(out / "labels.csv"):
        with Image.open(out / "images" / row["file"]) as image:
            assert (image.size, image.format, image.info) == ((512, 512), "PNG", {})


def test_the_same_seed_holds_out_the_same_patients():
    patients = [f"p{number % 30}" for number in range(90)]
    first = prepare.split_by_patient(patients, held_out=0.2, seed=3)
    assert first == prepare.split_by_patient(patients, held_out=0.2, seed=3)
    assert first != prepare.split_by_patient(patients, held_out=0.2, seed=4)
    before = dict(zip(patients, first, strict=True))
    more = prepare.split_by_patient([*patients, *(["new"] * 3)], held_out=0.2, seed=3)
    moved = [name for name, side in zip(patients, more, strict=False) if before[name] != side]
    assert len(set(moved)) <= 1  # photographs that come later move at most the patient at the border


def test_one_patient_cannot_be_split():
    with pytest.raises(ImagesError) as caught:
        prepare.split_by_patient(["a"] * 5, held_out=0.2, seed=0)
    assert caught.value.code == "one_patient"


def test_quality_is_told_from_sharpness_and_exposure():
    sharp = phantom(3, 1, size=512)
    assert prepare.quality(sharp) in {"good", "usable"}
    blurred = np.asarray(Image.fromarray(sharp).resize((16, 16)).resize((512, 512), Image.Resampling.BICUBIC))
    assert prepare.quality(blurred) == "poor"
    assert prepare.quality(np.zeros((512, 512, 3), np.uint8)) == "other"
    assert prepare.quality(np.full((512, 512, 3), 200, np.uint8)) == "other"


def test_an_unreadable_folder_is_refused(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.jpg").write_bytes(b"no image")
    assert refused(tmp_path / "site", tmp_path / "out", without_patients=True) == "folder_empty"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("out", ["site", "site/images", "site/prepared", "."])
def test_photographs_are_never_written_over(tmp_path, out):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    assert refused(site, tmp_path / out) == "out_not_apart"
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before


def test_a_folder_that_holds_images_is_not_added_to(tmp_path):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "mine.png").touch()
    assert refused(site, tmp_path / "out") == "out_not_empty"
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "thesis.tex").touch()
    assert refused(site, tmp_path / "other") == "out_not_empty"
    assert (tmp_path / "other.partial" / "thesis.tex").exists()


def test_an_interruption_leaves_nothing_that_looks_whole(tmp_path):
    site = write_sample(tmp_path / "site", 6, seed=4, size=96)
    (tmp_path / "out.partial" / "images").mkdir(parents=True)  # of a run that was killed
    (tmp_path / "out.partial" / "images" / "000099.png").touch()

    def stop(done, total, text):
        if done == 3:
            assert (tmp_path / "out.partial" / "images" / "000001.png").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(site, tmp_path / "out", on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    counts = prepare.prepare(site, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "index.csv", "labels.csv"]
    assert len(list((tmp_path / "out" / "images").iterdir())) == counts["photographs"] == 6


@pytest.mark.parametrize("exists", [True, False])
def test_a_disk_that_fills_up_leaves_nothing_and_the_same_command_begins_anew(tmp_path, monkeypatch, capsys, exists):
    site, out = write_sample(tmp_path / "site", 4, seed=4, size=96), tmp_path / "out"
    if exists:
        (out / "images").mkdir(parents=True)
    save = Image.Image.save

    def full(image, path, *given, **options):
        if path.name == "000002.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, path, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", full)
        assert cli.main(["prepare", str(site), "--out", str(out), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["sentence"]) == ("no_room", f"{out} cannot be used: No space left on device.")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and site not in path.parents) == []
    assert cli.main(["prepare", str(site), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["images", "index.csv", "labels.csv"]


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)

    def again(done, total, text):
        if done == 2:
            with pytest.raises(KitError) as caught:
                prepare.prepare(site, tmp_path / "out")
            assert caught.value.code == "folder_in_use"

    assert prepare.prepare(site, tmp_path / "out", on_progress=again)["photographs"] == 4
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4


def test_nobody_else_reads_what_is_prepared(tmp_path):
    """The originals may lie where nobody else can read them."""
    site, seen = write_sample(tmp_path / "site", 4, seed=4, size=96), []

    def note(*_):
        seen.append(stat.S_IMODE((tmp_path / "out.partial").stat().st_mode))

    prepare.prepare(site, tmp_path / "out", on_progress=note)
    assert {*seen, stat.S_IMODE((tmp_path / "out").stat().st_mode)} == {0o700}
    (tmp_path / "shared").mkdir(mode=0o750)
    prepare.prepare(site, tmp_path / "shared")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o750  # of who made it


def test_a_disk_that_does_not_give_a_photograph_ends_the_run(tmp_path, capsys):
    """A share that goes away for a minute must not leave half of the photographs out, as if they were damaged."""
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    gone = site / "images" / "phantom_0003.jpg"
    gone.unlink()
    gone.symlink_to("/proc/self/mem")  # a file whose reading fails
    assert cli.main(["prepare", str(site), "--out", str(tmp_path / "out"), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["sentence"]) == ("file_unusable", f"{gone} cannot be used: Input/output error.")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_file_that_confuses_its_reader_is_left_out(tmp_path):
    """A TIFF whose offsets are called a text: Pillow has a TypeError for it."""
    site = labelled(write_sample(tmp_path / "site", 4, seed=4, size=96), patient_group=["p1", "p2", "p3", "p4"])
    odd = site / "images" / "odd.tif"
    Image.new("L", (40, 40), 90).save(odd)
    odd.write_bytes(odd.read_bytes().replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 2, 1)))
    assert prepare.prepare(site, tmp_path / "out")["unreadable"] == 1


def test_what_a_mac_leaves_beside_a_photograph_is_none(tmp_path):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    for path in [*(site / "images").iterdir()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\x05\x16\x07 AppleDouble")
    counts = prepare.prepare(site, tmp_path / "out")  # labels.csv says a split of each photograph, and of no other file
    assert (counts["photographs"], counts["unreadable"], counts["split_from"]) == (4, 0, "labels.csv")


def test_of_copies_the_one_stays_that_says_whose_it_is(tmp_path):
    site = write_sample(tmp_path / "site", 3, seed=8, size=64)
    rows = rows_of(site / "labels.csv")
    labelled(site, patient_group=["a", "b", "c"])
    images = site / "images"
    (images / "000-unnamed.png").write_bytes((images / rows[2]["file"]).read_bytes())
    counts = prepare.prepare(site, tmp_path / "out")
    found = {row["patient_group"] for row in rows_of(tmp_path / "out" / "labels.csv")}
    assert (found, counts["copies_removed"], counts["without_pseudonym"]) == ({"a", "b", "c"}, 1, 0)


def test_photographs_of_one_patient_are_refused_before_they_are_read(tmp_path):
    site = write_sample(tmp_path / "site", 3, seed=4, size=96)
    labelled(site, patient_group=["p1", "p1", "p1"])
    seen = []
    assert refused(site, tmp_path / "out", on_progress=lambda *given: seen.append(given)) == "one_patient"
    assert (seen, [path.name for path in tmp_path.iterdir()]) == ([], ["site"])


def test_a_patient_of_nearly_all_photographs_is_trained_on():
    """Whatever the seed: a fifth was asked for, and not nine tenths."""
    patients = ["p0"] * 90 + [f"p{number}" for number in range(1, 11)]
    for seed in range(5):
        sides = prepare.split_by_patient(patients, held_out=0.1, seed=seed)
        assert sides == ["train"] * 90 + ["held_out"] * 10
    assert prepare.split_by_patient(["a"] * 6 + ["b"] * 4, held_out=0.2, seed=0) == ["train"] * 6 + ["held_out"] * 4


def test_what_stops_the_last_step_takes_the_first_ones_back(tmp_path, monkeypatch):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    replace = Path.replace

    def stop(path, target):
        if path.name == "labels.csv":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(site, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_labels_without_patients_are_asked_about(tmp_path):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    names = sorted(path.name for path in (site / "images").iterdir())
    (site / "labels.csv").write_text("file,dr_grade\n" + "".join(f"{name},1.0\n" for name in names))
    assert refused(site, tmp_path / "out") == "no_patients"
    counts = prepare.prepare(site, tmp_path / "out", without_patients=True)
    assert (counts["without_pseudonym"], counts["graded"]) == (4, 4)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.txt", "", "{site} has no labels.csv"),
        ("labels.csv", "file,patient_group\n", "labels.csv names no photograph"),
        ("Labels.csv", "file,patient_group\n", "{site}/Labels.csv is not read"),
    ],
)
def test_a_folder_that_names_no_patient_is_asked_about(tmp_path, name, content, sentence):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    (site / "labels.csv").unlink()
    (site / name).write_text(content)
    with pytest.raises(ImagesError) as caught:
        prepare.prepare(site, tmp_path / "out")
    whole = f"{sentence.format(site=site)}, so photographs of one patient could be on both sides."
    assert (caught.value.code, caught.value.sentence) == ("no_patients", whole)
    assert prepare.prepare(site, tmp_path / "out", without_patients=True)["photographs"] == 4


def test_a_column_of_patients_that_is_empty_is_asked_about(tmp_path):
    """As a template has it that nobody filled in: photographs of one patient would be on both sides."""
    site = labelled(write_sample(tmp_path / "site", 4, seed=4, size=96), patient_group=[""] * 4)
    with pytest.raises(ImagesError) as caught:
        prepare.prepare(site, tmp_path / "out")
    assert (caught.value.code, caught.value.sentence) == (
        "no_patients",
        "The column patient_group of labels.csv is empty, so photographs of one patient could be on both sides.",
    )
    assert prepare.prepare(site, tmp_path / "out", without_patients=True)["without_pseudonym"] == 4


def test_a_split_of_the_site_is_kept(tmp_path):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    labelled(site, patient_group=["a", "a", "b", "c"], split=["Train", "train", "held_out", "val"])
    seen = []
    counts = prepare.prepare(
        site, tmp_path / "out", held_out=0.9, on_progress=lambda done, total, text: seen.append(text)
    )
    assert (counts["split"], counts["split_from"]) == ({"train": 2, "held_out": 2}, "labels.csv")
    assert seen[-1] == "Keeping the split of labels.csv; --held-out and --seed are not used"
    rows = rows_of(tmp_path / "out" / "labels.csv")
    assert [row["split"] for row in rows] == ["train", "train", "held_out", "held_out"]
    labelled(site, patient_group=["a", "a", "b", "c"], split=[""] * 4)
    assert prepare.prepare(site, tmp_path / "chosen")["split_from"] == "--held-out"


@pytest.mark.parametrize(
    ("patients", "split", "code", "sentence"),
    [
        ("abca", ["train", "held_out", "held_out", "test"], "patient_on_both_sides",
         "1 patient has photographs on both sides of the split in labels.csv, training and held out."),
        ("abba", ["train", "held_out", "train", "test"], "patient_on_both_sides",
         "2 patients have photographs on both sides of the split in labels.csv, training and held out."),
        ("abcd", ["train", "", "train", ""], "split_incomplete",
         "2 photographs have no split in labels.csv, the first is phantom_0002.jpg."),
        ("abcd", ["train", "2", "train", "test"], "split_unknown", "labels.csv gives phantom_0002.jpg the split '2'."),
        ("abcd", ["train"] * 4, "one_side", "labels.csv gives every photograph the split train."),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_kept_is_refused(tmp_path, patients, split, code, sentence):
    site = labelled(write_sample(tmp_path / "site", 4, seed=4, size=96), patient_group=list(patients), split=split)
    with pytest.raises(ImagesError) as caught:
        prepare.prepare(site, tmp_path / "out")
    assert (caught.value.code, caught.value.sentence) == (code, sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_name_that_is_no_text_is_in_the_index_too(tmp_path):
    site = write_sample(tmp_path / "site", 4, seed=4, size=96)
    (site / "labels.csv").unlink()
    first = sorted((site / "images").iterdir())[0]
    os.rename(first, os.fsencode(first.parent) + b"/aa-M\xfcller.jpg")
    assert prepare.prepare(site, tmp_path / "out", without_patients=True)["photographs"] == 4
    assert b"aa-M\xfcller.jpg" in (tmp_path / "out" / "index.csv").read_bytes()
