"""Folders of photographs: labels, crops and what cannot be used."""

import numpy as np
import pytest
from PIL import Image

from jobs.kit.errors import ImagesError
from jobs.kit.images import crop_to_field, load_square, load_squares, read_folder, without_duplicates


def photograph(path, *, width=90, height=60, field=(20, 10, 70, 50), value=150):
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = field
    pixels[top:bottom, left:right] = value
    Image.fromarray(pixels).save(path)
    return path


def test_a_folder_without_labels(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt"):
        photograph(tmp_path / name) if name != "notes.txt" else (tmp_path / name).write_text("x")
    found = read_folder(tmp_path)
    assert [(p.path.name, p.dr_grade, p.patient) for p in found] == [("a.jpg", None, ""), ("b.png", None, "")]


def test_a_folder_with_labels_and_splits(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        photograph(tmp_path / "images" / name)
    lines = "file,dr_grade,patient_group,split\na.png,3,p1,train\nb.png,,p2,test\nc.png,9,p2,train\n"
    (tmp_path / "labels.csv").write_text(lines)
    assert [(p.dr_grade, p.patient) for p in read_folder(tmp_path)] == [(3, "p1"), (None, "p2"), (None, "p2")]
    assert [p.path.name for p in read_folder(tmp_path, split="train")] == ["a.png", "c.png"]
    assert len(without_duplicates(read_folder(tmp_path))) == 1  # the three files are equal byte for byte


def test_it_says_what_is_wrong_with_a_folder(tmp_path):
    def code(action, *arguments):
        with pytest.raises(ImagesError) as caught:
            action(*arguments)
        return caught.value.code

    assert code(read_folder, tmp_path / "absent") == "folder_missing"
    assert code(read_folder, tmp_path) == "folder_empty"
    photograph(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("name\na.png\n")
    assert code(read_folder, tmp_path) == "labels_invalid"
    (tmp_path / "labels.csv").write_text("file\nz.png\n")
    assert code(read_folder, tmp_path) == "labels_without_image"
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    assert code(load_square, tmp_path / "bad.jpg", 64) == "image_unreadable"
    cut = photograph(tmp_path / "cut.png", width=400, height=400, field=(0, 0, 400, 400))
    cut.write_bytes(cut.read_bytes()[:200])
    assert code(load_square, cut, 64) == "image_unreadable"


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    Image.new("1", (20_000, 6_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ImagesError) as caught:
        load_square(tmp_path / "bomb.png", 64)
    assert caught.value.code == "image_too_large"


def test_the_field_is_centred_in_a_square(tmp_path):
    square = crop_to_field(Image.open(photograph(tmp_path / "a.png")))
    assert square.size == (50, 50)
    pixels = np.asarray(square)
    assert (pixels[5:45] == 150).all()
    assert (pixels[:5] == 0).all()
    assert (pixels[45:] == 0).all()


def test_squares_have_the_promised_shape(tmp_path):
    photograph(tmp_path / "a.png")
    seen = []
    squares = load_squares(read_folder(tmp_path), 32, lambda done, total, text: seen.append((done, total)))
    assert (squares.shape, squares.dtype, seen) == ((1, 32, 32, 3), np.dtype(np.uint8), [(1, 1)])
