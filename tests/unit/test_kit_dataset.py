"""Image sets: a folder and its tar are the same set."""

import csv
import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from jobs.kit import dataset

COLUMNS = ["file", "patient_group", "country", "source", "camera", "split", "dr_any", "sha256"]


def png(color, size=(60, 40)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def write_set(folder, images, **columns):
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for name, data in images.items():
            (folder / "images" / name).write_bytes(data)
            row = {"file": name, "patient_group": f"p-{name}", "sha256": hashlib.sha256(data).hexdigest()}
            writer.writerow({**row, **columns})
    return folder


@pytest.fixture
def folder(tmp_path):
    images = {"b.png": png((250, 0, 0)), "a.png": png((0, 250, 0)), "c.png": png((0, 0, 250), size=(30, 50))}
    return write_set(tmp_path / "set", images, country="IN", split="train")


@pytest.fixture
def tar(folder, tmp_path):
    dataset.write_tar(folder, tmp_path / "set.tar")
    return tmp_path / "set.tar"


def test_folder_gives_records_in_the_order_of_the_labels(folder):
    records = dataset.read_image_set(folder).records
    assert [record.file for record in records] == ["b.png", "a.png", "c.png"]
    assert [record.patient_group for record in records] == ["p-b.png", "p-a.png", "p-c.png"]
    first = records[0]
    assert (first.country, first.split, first.source, first.camera) == ("IN", "train", "", "")
    assert first.sha256 == hashlib.sha256((folder / "images" / "b.png").read_bytes()).hexdigest()
    assert first.column("no_such_column") == ""


def test_tar_gives_the_same_records_and_pixels_as_the_folder(folder, tar):
    of_folder, of_tar = dataset.read_image_set(folder), dataset.read_image_set(tar)
    assert of_tar.records == of_folder.records
    assert of_tar.labels_sha256 == of_folder.labels_sha256
    assert np.array_equal(dataset.load_pixels(of_tar, 16), dataset.load_pixels(of_folder, 16))


def test_tar_is_deterministic_with_labels_first(folder, tar, tmp_path):
    again = dataset.write_tar(folder, tmp_path / "again.tar")
    assert again == hashlib.sha256(tar.read_bytes()).hexdigest()
    with tarfile.open(tar, "r:") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == ["labels.csv", "images/a.png", "images/b.png", "images/c.png"]
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}


def test_pixels_are_the_centre_square(tmp_path):
    image = Image.new("RGB", (60, 40), (255, 0, 0))
    image.paste((0, 0, 255), (10, 0, 50, 40))  # the centre square is blue, the margins red
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    image_set = dataset.read_image_set(write_set(tmp_path / "set", {"x.png": buffer.getvalue()}))
    pixels = dataset.load_pixels(image_set, 20)
    assert (pixels.shape, pixels.dtype) == ((1, 20, 20, 3), np.uint8)
    assert (pixels == (0, 0, 255)).all()


def test_pixels_of_16_bits_are_scaled_and_a_range_nobody_knows_is_refused(tmp_path):
    def saved(values, kind):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, kind)
        return {"x": buffer.getvalue()}

    deep = dataset.read_image_set(write_set(tmp_path / "deep", saved(np.full((8, 8), 25_700, np.uint16), "PNG")))
    assert (dataset.load_pixels(deep, 4) == 100).all()
    real = dataset.read_image_set(write_set(tmp_path / "real", saved(np.ones((8, 8), np.float32), "TIFF")))
    with pytest.raises(dataset.DatasetError) as refused:
        dataset.load_pixels(real, 4)
    assert refused.value.code == "image_range_unknown"


def test_pixels_report_progress(folder):
    seen = []
    dataset.load_pixels(dataset.read_image_set(folder), 8, lambda done, total, text: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_manifest_is_the_hash_of_the_sorted_sums(folder):
    records = dataset.read_image_set(folder).records
    lines = sorted(
        f"{hashlib.sha256((folder / 'images' / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("a.png", "b.png", "c.png")
    )
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert dataset.manifest_sha256(records) == expected
    assert dataset.manifest_sha256(reversed(records)) == expected


def test_where_restricts_the_set(folder):
    image_set = dataset.read_image_set(folder)
    assert len(image_set.where("split", "train", "val").records) == 3
    assert image_set.where("split", "test").records == ()
    assert dataset.load_pixels(image_set.where("file", "a.png"), 4)[0, 0, 0].tolist() == [0, 250, 0]


def test_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(dataset.DatasetError, match="has no labels.csv"):
        dataset.read_image_set(tmp_path)


def test_missing_image_is_named(folder):
    (folder / "images" / "a.png").unlink()
    with pytest.raises(dataset.DatasetError, match="The image a.png of labels.csv is not in the set"):
        dataset.read_image_set(folder)


def test_image_that_differs_from_its_declared_hash_is_named(folder):
    (folder / "images" / "a.png").write_bytes(png((1, 2, 3)))
    with pytest.raises(dataset.DatasetError, match="a.png is not the one"):
        dataset.read_image_set(folder)


def test_image_changed_after_reading_is_refused(folder):
    image_set = dataset.read_image_set(folder)
    (folder / "images" / "a.png").write_bytes(png((1, 2, 3)))
    with pytest.raises(dataset.DatasetError, match="a.png changed"):
        dataset.load_pixels(image_set, 8)


def test_damaged_image_is_named(tmp_path):
    image_set = dataset.read_image_set(write_set(tmp_path / "set", {"x.png": png((9, 9, 9))[:-30]}))
    with pytest.raises(dataset.DatasetError, match="x.png cannot be decoded"):
        dataset.load_pixels(image_set, 8)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ("file\nx.png\n", "no column patient_group"),
        ("file,patient_group\n", "names no image"),
        ("file,patient_group\n../x.png,p\n", "Row 2"),
        ("file,patient_group\nx.png,\n", "Row 2"),
        ("file,patient_group\nx.png,p\nx.png,p\n", "twice"),
        (b"file,patient_group\n\xff\xfe,p\n", "UTF-8"),
    ],
)
def test_malformed_labels_are_refused(tmp_path, labels, match):
    (tmp_path / "labels.csv").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    with pytest.raises(dataset.DatasetError, match=match):
        dataset.read_image_set(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a tar" * 200])
def test_what_is_no_tar_is_refused(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(dataset.DatasetError):
        dataset.read_image_set(tmp_path / "x.tar")


def test_missing_path_is_refused(tmp_path):
    with pytest.raises(dataset.DatasetError) as caught:
        dataset.read_image_set(tmp_path / "absent.tar")
    assert caught.value.code == "dataset_missing"


def test_links_in_a_tar_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        labels = b"file,patient_group\nx.png,p\n"
        member = tarfile.TarInfo("labels.csv")
        member.size = len(labels)
        archive.addfile(member, io.BytesIO(labels))
        link = tarfile.TarInfo("images/x.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(dataset.DatasetError, match="x.png of labels.csv is not in the set"):
        dataset.read_image_set(tmp_path / "x.tar")
