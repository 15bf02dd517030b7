"""Shards and their images: what the kit writes is read back, and nothing else is."""

import io
import json
import struct
import tarfile
import zlib

import numpy as np
import pytest

from jobs.kit import pngs, shards, synthetic
from tests import synthesising
from tests.synthesising import BASE, picture

PICTURES = [picture(seed) for seed in range(3)]
TAGS = synthetic.tags_of(synthesising.row(0))


def written(tmp_path, **given):
    return synthesising.shard(tmp_path, PICTURES, **given)


def code_of(path) -> str:
    with pytest.raises((shards.ShardError, synthetic.SyntheticError)) as refused:
        list(synthetic.images_of([path], BASE.image_size))
    assert path.name in str(refused.value)
    return refused.value.code


# Tar


def test_a_shard_is_read_as_it_was_written_and_equal_members_give_equal_bytes(tmp_path):
    path = written(tmp_path)
    assert list(shards.read(path)) == synthesising.members(PICTURES)
    (tmp_path / "again").mkdir()
    assert written(tmp_path / "again").read_bytes() == path.read_bytes()
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert names == ["manifest.json", "images/000000.png", "images/000001.png", "images/000002.png"]
    found = list(synthetic.images_of([path], BASE.image_size))
    assert [row.seed for _, row, _, _ in found] == [100, 101, 102]
    assert all(np.array_equal(pixels, PICTURES[n]) for n, (_, _, pixels, _) in enumerate(found))


def _foreign(tmp_path, change, *, pax: bool = False):
    """Write the members with the tarfile of the standard library, each header changed by `change`."""
    path = tmp_path / shards.name_of(7)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT if pax else tarfile.USTAR_FORMAT) as archive:
        for name, data in synthesising.members(PICTURES):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            change(member)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"uname": "dr.okafor"}, "header_not_plain"),
        ({"uid": 1000}, "header_not_plain"),
        ({"mtime": 1_700_000_000}, "header_not_plain"),
        ({"mode": 0o777}, "header_not_plain"),
        ({"linkname": "/etc/passwd"}, "header_not_plain"),
        ({"type": tarfile.SYMTYPE}, "header_not_plain"),
        ({"type": tarfile.FIFOTYPE}, "header_not_plain"),
        ({"pax_headers": {"comment": "hidden"}}, "unknown_member"),
    ],
)
def test_a_header_that_says_more_than_name_and_size_is_refused(tmp_path, change, code):
    def apply(member):
        for name, value in change.items():
            setattr(member, name, value)

    assert code_of(_foreign(tmp_path, apply, pax="pax_headers" in change)) == code


@pytest.mark.parametrize(
    "name", ["../000000.png", "images/../x.png", "/images/000000.png", "notes.txt", "images/a.png"]
)
def test_a_member_of_another_name_is_refused(tmp_path, name):
    path = tmp_path / "s.tar"
    first, (_, data), *_ = synthesising.members(PICTURES)
    shards.write(path, [first, (name, data)])
    assert code_of(path) == "unknown_member"


def _changed(path, change):
    path.write_bytes(change(bytearray(path.read_bytes())))
    return path


def _hide_in_padding(raw: bytearray) -> bytes:
    size = int(raw[124:135], 8)  # of the manifest; what fills its last block up is nobody's
    assert size % 512
    raw[512 + size] = 1
    return bytes(raw)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_hide_in_padding, "hidden_bytes"),
        (lambda raw: bytes(raw) + b"x" * 512, "hidden_bytes"),
        (lambda raw: bytes(raw) + bytes(10240), "hidden_bytes"),
        (lambda raw: bytes(raw[:-1]) + b"x", "hidden_bytes"),
        (lambda raw: bytes(raw[:-512]), "cut_short"),
        (lambda raw: bytes(raw[:2000]), "cut_short"),
        (lambda raw: bytes(raw[:700]), "cut_short"),
        (lambda raw: b"", "empty"),
        (lambda raw: bytes(len(raw)), "empty"),
        (lambda raw: b"PK\x03\x04" + bytes(raw[4:]), "not_a_shard"),
        (lambda raw: b"\x1f\x8b" + bytes(raw), "not_a_shard"),
    ],
)
def test_a_changed_shard_is_refused(tmp_path, change, code):
    assert code_of(_changed(written(tmp_path), change)) == code


def test_a_member_larger_than_any_image_is_refused(tmp_path):
    path = tmp_path / "s.tar"
    first = synthesising.members(PICTURES)[0]
    shards.write(path, [first, ("images/000000.png", bytes(shards.LARGEST_IMAGE + 1))])
    assert code_of(path) == "too_large"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda members: members[:-1], "not_as_listed"),
        (lambda members: [*members, ("images/000009.png", b"x")], "not_as_listed"),
        (lambda members: [members[0], members[2], members[1], members[3]], "not_as_listed"),
        (lambda members: [*members[:-1], (members[-1][0], members[1][1])], "not_as_listed"),
        (lambda members: [(members[0][0], b"[" * 100_000), *members[1:]], "manifest_invalid"),
        (lambda members: [(members[0][0], b'{"images": []}'), *members[1:]], "manifest_invalid"),
        (lambda members: [(members[0][0], b"\xff"), *members[1:]], "manifest_invalid"),
        (lambda members: members[1:], "unknown_member"),
    ],
)
def test_a_shard_holds_exactly_what_its_manifest_lists(tmp_path, change, code):
    path = tmp_path / "s.tar"
    shards.write(path, change(synthesising.members(PICTURES)))
    assert code_of(path) == code


@pytest.mark.parametrize(
    "facts",
    [
        {"synthetic": False}, {"format": "x"}, {"date": "27/11/2026"}, {"drawn": -1}, {"steps": True}, {"base": 1},
        {"patients": [{"name": "Jane Doe", "born": "1954-03-02"}]},
        {"kit_version": "Jane Doe, born 1954-03-02"},
        {"base": {"slug": "Jane Doe", "sha256": synthesising.BASE.sha256}},
        {"base": {"slug": "fundus-64", "sha256": synthesising.BASE.sha256, "patient": "Jane Doe"}},
        {"generator_sha256": "Jane Doe"}, {"drawn": 19540302 * 1000}, {"date": "2026-11-27 "},
    ],
)  # fmt: skip
def test_a_manifest_that_the_kit_does_not_write_is_refused(tmp_path, facts):
    assert code_of(written(tmp_path, **facts)) == "manifest_invalid"


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda facts: json.dumps(dict(reversed(facts.items())), indent=0),
        lambda facts: json.dumps(facts, indent=0, sort_keys=True) + " \t \t\t ",
        lambda facts: json.dumps(facts, indent=0, sort_keys=True).replace("{", '{\n"drawn": 7,', 1),  # a key twice
        lambda facts: json.dumps({**facts, "images": [{**one, "seed": one["seed"] + 2**32} for one in facts["images"]]},
                                 indent=0, sort_keys=True),
    ],
)  # fmt: skip
def test_a_manifest_has_one_text(tmp_path, rewrite):
    (name, text), *images = synthesising.members(PICTURES)
    path = tmp_path / "s.tar"
    shards.write(path, [(name, rewrite(json.loads(text)).encode()), *images])
    assert code_of(path) == "manifest_invalid"


def test_every_flipped_bit_of_a_shard_is_found(tmp_path):
    """The manifest's own texts apart: the signature over the whole holds those."""
    path = written(tmp_path)
    raw = path.read_bytes()
    first = 512 + (-(-int(raw[124:135], 8) // 512)) * 512  # where the manifest ends
    rng = np.random.default_rng(0)
    for place in rng.integers(first, len(raw), 200):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises((shards.ShardError, synthetic.SyntheticError)):
            list(synthetic.images_of([path], BASE.image_size))


# PNG


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _insert(data: bytes, chunk: bytes) -> bytes:
    return data[:33] + chunk + data[33:]  # behind IHDR


def _without(data: bytes, text: bytes) -> bytes:
    start = data.index(text) - 4
    (length,) = struct.unpack_from(">I", data, start)
    return data[:start] + data[start + 12 + length :]


def _with_pixels(change) -> bytes:
    """Return an image whose packed pixels are changed, whole in every other way."""
    raw = PICTURES[0]
    rows = b"".join(b"\0" + line.tobytes() for line in raw)
    data = pngs.encode(raw, TAGS)
    start = data.index(b"IDAT") - 4
    return data[:start] + _chunk(b"IDAT", change(rows)) + _chunk(b"IEND", b"")


def _packed(*, level: int, parts: int = 1) -> bytes:
    """Return an image whose rows are packed in another way, in one part or in several."""
    start = GOOD.index(b"IDAT") - 4
    rows = zlib.decompress(GOOD[start + 8 : -16])
    packed = zlib.compress(rows, level)
    size = -(-len(packed) // parts)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    return GOOD[:start] + b"".join(_chunk(b"IDAT", piece) for piece in pieces) + _chunk(b"IEND", b"")


GOOD = pngs.encode(PICTURES[0], TAGS)
MARK = GOOD[GOOD.index(b"iTXt") - 4 : GOOD.index(b"IDAT") - 4]


def test_an_image_says_what_it_is_and_is_read_back():
    pixels, tags = pngs.decode(GOOD, 64)
    assert (np.array_equal(pixels, PICTURES[0]), tags) == (True, TAGS)
    assert tags["synthetic"] == "true"
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in GOOD
    assert pngs.decode(_packed(level=9), 64)[0].tolist() == PICTURES[0].tolist()


@pytest.mark.parametrize("pixels", [
    np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8),  # in four parts
    np.zeros((256, 256, 3), np.uint8),
])  # fmt: skip
def test_what_packs_badly_or_very_well_is_read_back(pixels):
    assert np.array_equal(pngs.decode(pngs.encode(pixels, TAGS), 256)[0], pixels)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_png"),
        (b"\xff\xd8\xff\xe0 a JPEG", "not_png"),
        (GOOD[:60], "cut_short"),
        (GOOD.replace(b"synthetic\0true", b"synthetic\0TRUE"), "damaged"),
        (GOOD[:-12], "cut_short"),
        (GOOD + b"x", "hidden_bytes"),
        (_insert(GOOD, _chunk(b"eXIf", b"GPS")), "unknown_chunk"),
        (_insert(GOOD, _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"Jane Doe"))), "unknown_chunk"),
        (_insert(GOOD, _chunk(b"tEXt", b"Comment\0Jane Doe")), "unknown_tag"),
        (_insert(GOOD, _chunk(b"tEXt", b"seed\x001")), "unknown_tag"),
        (_insert(GOOD, _chunk(b"iTXt", b"Comment\0\0\0\0\0Jane Doe")), "not_marked"),
        (_without(GOOD, b"tEXtgenerator_sha256"), "tag_missing"),
        (_without(GOOD, b"iTXt"), "not_marked"),
        (pngs.encode(PICTURES[0], {**TAGS, "class": "1" * 201}), "unknown_tag"),
        (pngs.encode(np.zeros((32, 32, 3), np.uint8), TAGS), "wrong_size"),
        (_with_pixels(lambda rows: zlib.compress(rows + b"hidden")), "hidden_bytes"),
        (_with_pixels(lambda rows: zlib.compress(rows) + b"hidden"), "hidden_bytes"),
        (_with_pixels(lambda rows: zlib.compress(bytes(10**8))), "hidden_bytes"),
        (_with_pixels(lambda rows: zlib.compress(rows[:-1])), "hidden_bytes"),
        (_with_pixels(lambda rows: b"\0" * 9), "damaged"),
        (_with_pixels(lambda rows: zlib.compress(b"\7" + rows[1:])), "damaged"),  # no filter has the number 7
        (_packed(level=0), "hidden_bytes"),  # the padding bits of each block could be a text
        (_packed(level=6, parts=40), "hidden_bytes"),  # and so could the lengths of the parts
        (_insert(GOOD.replace(MARK, b""), MARK), "wrong_order"),
    ],
)
def test_an_image_that_holds_anything_else_is_refused(data, code):
    with pytest.raises(pngs.PngError) as refused:
        pngs.decode(data, 64)
    assert refused.value.code == code
