"""Folders of photographs: labels, crops and what cannot be used."""

import resource
import struct
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from jobs.kit.errors import ImagesError
from jobs.kit.images import (
    crop_to_field,
    load_square,
    load_squares,
    open_image,
    read_folder,
    sides,
    squares_on_disk,
    without_duplicates,
)


def photograph(path, *, width=90, height=60, field=(20, 10, 70, 50), value=150):
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = field
    pixels[top:bottom, left:right] = value
    Image.fromarray(pixels).save(path)
    return path


def write_deep_colours(path, most: int) -> None:
    """Write a PNG of 8 x 8 pixels with 16 bits a colour, white at `most`, which Pillow itself does not (PNG, 5.3)."""
    rows = b"".join(b"\0" + struct.pack(">H", most) * 24 for _ in range(8))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def write_deep_grey(path, most: int) -> None:
    Image.fromarray(np.full((8, 8), most, np.uint16)).save(path)


def test_a_folder_without_labels(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt"):
        photograph(tmp_path / name) if name != "notes.txt" else (tmp_path / name).write_text("x")
    found = read_folder(tmp_path)
    assert [(p.path.name, p.dr_grade, p.patient) for p in found] == [("a.jpg", None, ""), ("b.png", None, "")]


def test_a_folder_with_labels_and_splits(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        photograph(tmp_path / "images" / name)
    lines = "file,dr_grade,patient_group,split\na.png,3,p1,train\nb.png,,p2,test\nc.png,4.0,p2,train\n"
    (tmp_path / "labels.csv").write_text(lines)
    assert [(p.dr_grade, p.patient) for p in read_folder(tmp_path)] == [(3, "p1"), (None, "p2"), (4, "p2")]
    assert [p.path.name for p in read_folder(tmp_path, split="train")] == ["a.png", "c.png"]
    assert len(without_duplicates(read_folder(tmp_path))) == 1  # the three files are equal byte for byte


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"file,dr_grade\na.png,9\n", "Row 2 of {} gives a.png the grade '9'."),
        (b"file,dr_grade\na.png,2\nb.png,mild\n", "Row 3 of {} gives b.png the grade 'mild'."),
        (b"file,patient_group\na.png,p1\na.png,p2\n", "Row 3 of {} names a.png a second time."),
        (b"file,patient_group\n,p1\n", "Row 2 of {} names no file."),
        (b"file,camera,patient_group\na.png,CR-2, AF,p1\n", "Row 2 of {} has more cells than the first line."),
        (b"file,patient_group,Patient_Group\na.png,1,2\n", "{} names a column twice."),
        (b"name\na.png\n", "{} has no column named file."),
        (b"", "{} has no column named file."),
        ("file\na\u0308.png\n\u00e4.png\n".encode(), "Row 3 of {} names \u00e4.png a second time."),
        (
            b"file,patient_group\na.png,P1\nb.png,p1\n",
            "{} has the pseudonyms P1 and p1, which differ in capitals alone.",
        ),
    ],
)
def test_faults_of_labels_are_named(tmp_path, content, sentence):
    for name in ("a.png", "b.png"):
        photograph(tmp_path / name)
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(ImagesError) as caught:
        read_folder(tmp_path)
    assert (caught.value.code, caught.value.sentence) == ("labels_invalid", sentence.format(path))


@pytest.mark.parametrize("grade", ["U", "moderate", "9"])
def test_a_grade_that_an_earlier_prepare_copied_says_which_cell_to_empty(tmp_path, grade):
    photograph(tmp_path / "000000.png")
    path, rows = tmp_path / "labels.csv", "file,split,quality,patient_group,dr_grade\n000000.png,train,good,p1,{}\n"
    path.write_text(rows.format(grade))
    with pytest.raises(ImagesError, match=r"^Row 2 of .*labels\.csv gives 000000\.png the grade ") as caught:
        read_folder(tmp_path)
    assert caught.value.fix.startswith(
        "An earlier `consortium prepare` left it there: empty the cell dr_grade of this row"
    )
    path.write_text(rows.format(""))
    assert [p.dr_grade for p in read_folder(tmp_path)] == [None]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfFile;Patient_Group;dr_grade\r\na.png;p1;2\r\n",
        b"file\tpatient_group\tdr_grade\na.png\tp1\t2.0\n",
        b" File , patient_group , dr_grade ,,\n a.png , p1 ,2 ,,\n,,,,\n",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, content):
    photograph(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    assert [(p.patient, p.dr_grade) for p in read_folder(tmp_path)] == [("p1", 2)]


@pytest.mark.parametrize(("on_disk", "in_csv"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_accent_is_read_alike_whichever_way_a_disk_or_a_spreadsheet_writes_it(tmp_path, on_disk, in_csv):
    photograph(tmp_path / unicodedata.normalize(on_disk, "Zoë-1.png"))
    photograph(tmp_path / "b.png")
    lines = f"file,patient_group\n{unicodedata.normalize(in_csv, 'Zoë-1.png,Zoë')}\n"
    lines += f"b.png,{unicodedata.normalize(on_disk, 'Zoë')}\n"
    (tmp_path / "labels.csv").write_text(lines, encoding="utf-8")
    assert {photo.patient for photo in read_folder(tmp_path)} == {unicodedata.normalize("NFC", "Zoë")}


@pytest.mark.parametrize("content", ["file\nM\xfcller.png\n".encode("latin-1"), "file\na.png\n".encode("utf-16"),
                                     b'file,patient_group\n"a.png,p1\n'])  # fmt: skip
def test_labels_that_are_no_utf8_or_no_csv_say_how_to_save_them(tmp_path, content):
    photograph(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(ImagesError) as caught:
        read_folder(tmp_path)
    assert caught.value.code == "labels_invalid"
    assert caught.value.fix.startswith("Save it as CSV in UTF-8, with the first line file,patient_group,dr_grade")


def test_a_split_is_of_every_photograph_or_of_none(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        photograph(tmp_path / name)
    assert [len(side) for side in sides(read_folder(tmp_path))] == [3, 0]
    for rows in ("a.png,train\nb.png,\nc.png,held_out\n", "a.png,train\nc.png,held_out\n"):
        (tmp_path / "labels.csv").write_text(f"file,split\n{rows}")
        with pytest.raises(ImagesError, match=r"the first is b\.png") as caught:
            sides(read_folder(tmp_path))
        assert caught.value.code == "not_prepared"
    (tmp_path / "labels.csv").write_text("file,split\na.png,train\nb.png,held_out\nc.png,held_out\n")
    assert [[p.path.name for p in side] for side in sides(read_folder(tmp_path))] == [["a.png"], ["b.png", "c.png"]]


def test_a_split_in_other_letters_is_read_and_one_in_other_words_is_refused(tmp_path):
    for name in ("a.png", "b.png"):
        photograph(tmp_path / name)
    (tmp_path / "labels.csv").write_text("file,split\na.png,Train\nb.png,Test\n")
    assert [[p.path.name for p in side] for side in sides(read_folder(tmp_path))] == [["a.png"], ["b.png"]]
    (tmp_path / "labels.csv").write_text("file,split\na.png,training\nb.png,test\n")
    with pytest.raises(ImagesError) as caught:
        sides(read_folder(tmp_path))
    assert (caught.value.code, caught.value.sentence) == (
        "split_unknown",
        "labels.csv says train of no photograph in its column split; of the first it says 'training'.",
    )


def test_a_folder_of_folders_says_what_was_not_looked_at(tmp_path):
    (tmp_path / "patient 1").mkdir()
    (tmp_path / "scan.dcm").touch()
    with pytest.raises(ImagesError) as caught:
        read_folder(tmp_path)
    assert caught.value.sentence == f"{tmp_path} holds no photograph. Not looked at: 1 .dcm, 1 subfolder."


def test_it_says_what_is_wrong_with_a_folder(tmp_path):
    def code(action, *arguments):
        with pytest.raises(ImagesError) as caught:
            action(*arguments)
        return caught.value.code

    assert code(read_folder, tmp_path / "absent") == "folder_missing"
    assert code(read_folder, tmp_path) == "folder_empty"
    photograph(tmp_path / "a.png")
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


@pytest.mark.parametrize(("dtype", "suffix"), [("<u2", "png"), ("<u2", "tif"), (">u2", "tif"), ("<i4", "tif")])
def test_16_bits_are_scaled_to_8(tmp_path, dtype, suffix):
    values = np.array([[0, 128, 129], [257, 32_896, 65_535]])
    Image.fromarray(values.astype(dtype)).save(tmp_path / f"deep.{suffix}")
    pixels = np.asarray(open_image(tmp_path / f"deep.{suffix}"))
    assert pixels.tolist() == [[[v] * 3 for v in row] for row in ([0, 0, 1], [1, 128, 255])]


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_what_is_transparent_around_the_field_is_black(tmp_path, mode):
    """Programs that cut the field out leave white there, which nobody sees."""
    pixels = np.full((100, 100, 4), (255, 255, 255, 0), dtype=np.uint8)
    pixels[30:70, 20:80] = (180, 80, 40, 255)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    found = crop_to_field(open_image(tmp_path / "a.png"))
    assert (found.size, found.getpixel((0, 0))) == ((60, 60), (0, 0, 0))


@pytest.mark.parametrize("values", [np.array([[0.1, 0.9]], np.float32), np.array([[0, 65_536]], np.int32),
                                    np.array([[-1, 200]], np.int32)])  # fmt: skip
def test_a_range_that_nobody_knows_is_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "odd.tif")
    with pytest.raises(ImagesError) as caught:
        open_image(tmp_path / "odd.tif")
    assert caught.value.code == "image_range_unknown"
    assert caught.value.sentence.startswith("odd.tif holds numbers whose black and white nobody knows")


@pytest.mark.parametrize(
    ("write", "name"), [(write_deep_colours, "a.png"), (write_deep_grey, "a.png"), (write_deep_grey, "a.tif")]
)
def test_twelve_bits_in_sixteen_are_refused_before_they_are_black(tmp_path, write, name):
    write(tmp_path / name, 4095)
    with pytest.raises(ImagesError, match=f"{name} has 16 bits and uses 12 of them at most") as caught:
        open_image(tmp_path / name)
    assert caught.value.code == "image_range_unknown"
    write(tmp_path / name, 4096)
    assert np.asarray(open_image(tmp_path / name)).max() == 16


@pytest.mark.parametrize(
    ("suffix", "dtype", "shape"),
    [
        ("jpg", "u1", (32, 64, 3)),
        ("png", "u1", (32, 64, 3)),
        ("tif", "u1", (32, 64, 3)),
        ("tif", "u1", (32, 64)),
        ("png", "<u2", (32, 64)),
        ("tif", "<u2", (32, 64)),
        ("tif", ">u2", (32, 64)),
    ],
)
@pytest.mark.parametrize(("orientation", "bright"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, suffix, dtype, shape, orientation, bright):
    pixels = np.zeros(shape, dtype)
    pixels[:, :32] = np.iinfo(dtype).max
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f"turned.{suffix}", exif=exif)
    found = np.asarray(open_image(tmp_path / f"turned.{suffix}")).astype(float).mean(axis=2)
    height, width = found.shape
    halves = {"left": found[:, : width // 2], "right": found[:, width // 2 :],
              "top": found[: height // 2], "bottom": found[height // 2 :]}  # fmt: skip
    means = {name: round(half.mean()) for name, half in halves.items()}
    dark = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[bright]
    assert (means[bright], means[dark]) == (255, 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0no header", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0"])
def test_an_exif_that_nobody_can_read_changes_nothing(tmp_path, exif):
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert np.asarray(open_image(tmp_path / "a.jpg")).shape == (16, 16, 3)


def test_an_image_too_long_for_a_square_is_refused_before_it_is_padded(tmp_path):
    Image.fromarray(np.full((50, 90_000), 150, np.uint8)).save(tmp_path / "strip.png")
    with pytest.raises(ImagesError) as caught:
        load_square(tmp_path / "strip.png", 64)
    sentence = "strip.png shows a field of 90000 x 50 pixels, too long to be padded to a square."
    assert (caught.value.code, caught.value.sentence) == ("image_too_large", sentence)


def test_the_field_is_centred_in_a_square(tmp_path):
    square = crop_to_field(Image.open(photograph(tmp_path / "a.png")))
    assert square.size == (50, 50)
    pixels = np.asarray(square)
    assert (pixels[5:45] == 150).all()
    assert (pixels[:5] == 0).all()
    assert (pixels[45:] == 0).all()


def test_squares_come_in_order_and_are_the_same_mapped_from_disk(tmp_path):
    for number in range(3):
        photograph(tmp_path / f"{number}.png", value=100 + 50 * number)
    (tmp_path / "run").mkdir()
    rows, seen = read_folder(tmp_path), []
    squares = load_squares(rows, 32)
    assert (squares.shape, squares.dtype) == ((3, 32, 32, 3), np.dtype(np.uint8))
    assert squares[:, 16, 16, 0].tolist() == [100, 150, 200]
    mapped = squares_on_disk(rows, 32, tmp_path / "run", lambda done, total, text: seen.append((done, total)))
    assert (type(mapped), seen) == (np.memmap, [(1, 3), (2, 3), (3, 3)])
    assert np.array_equal(mapped, squares)
    assert list((tmp_path / "run").iterdir()) == []  # no photograph is left where the weights lie


def test_a_full_disk_is_told_with_its_folder(tmp_path):
    photograph(tmp_path / "a.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as refused:
            squares_on_disk(read_folder(tmp_path), 32, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refused.value.filename == str(tmp_path)
