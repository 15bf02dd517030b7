"""The container check refuses every malformed file with a code, and accepts what the safetensors library writes."""

import json
import os
import runpy
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from jobs.kit.container import Limits, parse_header, read_container
from jobs.kit.errors import ContainerError

HOSTILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "hostile-weights"


def entry(shape=(1,), offsets=(0, 4), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def write(path: Path, header, data=b"\0" * 4, length=None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def code_of(path: Path, **options) -> str:
    with pytest.raises(ContainerError) as caught:
        read_container(path, **options)
    assert caught.value.sentence
    assert caught.value.fix
    return caught.value.code


def test_it_reads_what_the_library_writes(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a.weight": np.zeros((2, 3), np.float32), "b": np.ones(5, np.float16)}, path, {"format": "pt"})
    container = read_container(path)
    assert [(t.name, t.dtype, t.shape, t.count) for t in container.tensors] == [
        ("a.weight", "F32", (2, 3), 6),
        ("b", "F16", (5,), 5),
    ]
    assert container.metadata == {"format": "pt"}
    assert container.parameters == 11
    assert container.tensors[-1].stop == container.size == path.stat().st_size


def test_it_accepts_padding_scalars_and_bfloat16(tmp_path):
    raw = json.dumps({"a": entry((), (0, 2), "BF16"), "b": entry((0, 4), (2, 2))}).encode() + b"   "
    container = read_container(write(tmp_path / "x.safetensors", raw, b"\0\0"))
    assert [(t.shape, t.count) for t in container.tensors] == [((), 1), ((0, 4), 0)]


A = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
BAD_HEADERS = {
    "twice": (f'{{"a":{A},"a":{A}}}', "duplicate_key"),
    "twice_inside": ('{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "duplicate_key"),
    "twice_in_metadata": (f'{{"__metadata__":{{"format":"pt","format":"pt"}},"a":{A}}}', "duplicate_key"),
    "gap": ({"a": entry(offsets=(4, 8))}, "offsets_not_contiguous"),
    "order": ({"a": entry(offsets=(4, 8)), "b": entry(offsets=(0, 4))}, "offsets_not_contiguous"),
    "overlap": ({"a": entry(), "b": entry(offsets=(0, 4))}, "offsets_not_contiguous"),
    "backwards": ({"a": entry(offsets=(4, 0))}, "offsets_invalid"),
    "negative_offset": ({"a": entry(offsets=(-4, 0))}, "offsets_invalid"),
    "three_offsets": ({"a": entry(offsets=(0, 4, 8))}, "offsets_invalid"),
    "bool_offset": ({"a": entry(offsets=(False, 4))}, "offsets_invalid"),
    "text_offset": ({"a": entry(offsets=("0", "4"))}, "offsets_invalid"),
    "float_offset": ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}}', "number_not_integer"),
    "exponent": ('{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', "number_not_integer"),
    "nan": ('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', "number_not_integer"),
    "infinity": ('{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}', "number_not_integer"),
    "huge": (f'{{"a":{{"dtype":"F32","shape":[{"9" * 5000}],"data_offsets":[0,4]}}}}', "number_out_of_range"),
    "bool_shape": ({"a": entry(shape=(True,))}, "shape_invalid"),
    "negative_shape": ({"a": entry(shape=(-1,))}, "shape_invalid"),
    "shape_text": ({"a": entry() | {"shape": "1"}}, "shape_invalid"),
    "rank": ({"a": entry(shape=(1,) * 9)}, "shape_invalid"),
    "overflow": ({"a": entry(shape=(2**33, 2**33))}, "shape_invalid"),
    "overflow_before_nothing": ({"a": entry(shape=(2**62, 2**62, 0), offsets=(0, 0))}, "shape_invalid"),
    "minus_nothing_offset": ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}', "number_out_of_range"),
    "minus_nothing_side": ('{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}', "number_out_of_range"),
    "wrong_size": ({"a": entry(shape=(2,))}, "size_mismatch"),
    "dtype": ({"a": entry(dtype="F64", offsets=(0, 8))}, "dtype_not_allowed"),
    "dtype_list": ({"a": entry() | {"dtype": ["F32"]}}, "dtype_not_allowed"),
    "missing_field": ({"a": {"dtype": "F32", "shape": [1]}}, "entry_invalid"),
    "extra_field": ({"a": entry() | {"code": "x"}}, "entry_invalid"),
    "entry_text": ({"a": "F32"}, "entry_invalid"),
    "entry_null": ({"a": None}, "entry_invalid"),
    "traversal": ({"../../etc/passwd": entry()}, "name_invalid"),
    "absolute": ({"/etc/passwd": entry()}, "name_invalid"),
    "backslash": ({"C:\\weights": entry()}, "name_invalid"),
    "control": ({"a\u001b[2J": entry()}, "name_invalid"),
    "newline": ({"a\n": entry()}, "name_invalid"),
    "right_to_left": ({"a\u202eb": entry()}, "name_invalid"),
    "surrogate": (f'{{"\\ud800":{A}}}', "name_invalid"),
    "empty_name": ({"": entry()}, "name_invalid"),
    "long_name": ({"a" * 257: entry()}, "name_too_long"),
    "no_tensor": ({}, "no_tensors"),
    "only_metadata": ({"__metadata__": {"format": "pt"}}, "no_tensors"),
    "metadata_list": ({"__metadata__": [], "a": entry()}, "metadata_invalid"),
    "metadata_key": ({"__metadata__": {"author": "A. Person"}, "a": entry()}, "metadata_key"),
    "metadata_number": ({"__metadata__": {"format": 1}, "a": entry()}, "metadata_not_text"),
    "metadata_path": ({"__metadata__": {"base_model": "/home/someone/x"}, "a": entry()}, "metadata_value"),
    "metadata_mail": ({"__metadata__": {"base_model": "someone@example.org"}, "a": entry()}, "metadata_value"),
    "metadata_newline": ({"__metadata__": {"format": "pt\n"}, "a": entry()}, "metadata_value"),
    "deep_objects": ('{"a":' * 3000 + "1" + "}" * 3000, "header_too_deep"),
    "deep_lists": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "header_too_deep"),
    "two_objects": (f'{{"a":{A}}}{{}}', "header_not_json"),
    "line_feed_after": (f'{{"a":{A}}}\n', "header_not_json"),
    "cut": ('{"a":', "header_not_json"),
    "spaces_that_could_be_a_text": ("{" + " \t\r\n" * 1000 + f'"a":{A}}}', "header_too_loose"),
    "comment": (f'{{"a":{A}/**/}}', "header_not_json"),
    "blank_before": (f' {{"a":{A}}}', "header_not_json"),
    "array": ("[1]", "header_not_json"),
    "byte_order_mark": (b"\xef\xbb\xbf{}", "header_not_json"),
    "not_utf8": (b'{"\xff":1}', "header_not_utf8"),
    "overlong_utf8": (b'{"\xc0\xaf":1}', "header_not_utf8"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_it_refuses_a_bad_header(case, tmp_path):
    header, code = BAD_HEADERS[case]
    raw = header.encode() if isinstance(header, str) else header
    assert code_of(write(tmp_path / "x.safetensors", raw)) == code


def test_it_refuses_wrong_lengths(tmp_path):
    path, good = tmp_path / "x.safetensors", {"a": entry()}
    path.write_bytes(b"")
    assert code_of(path) == "empty_file"
    path.write_bytes(b"\0\0")
    assert code_of(path) == "truncated"
    assert code_of(write(path, b"", length=0)) == "header_empty"
    assert code_of(write(path, b"{}", length=2**63 - 1)) == "header_too_large"
    assert code_of(write(path, b"{}", length=99_000_000)) == "header_too_large"
    assert code_of(write(path, good, length=500)) == "truncated"
    assert code_of(write(path, good, b"\0" * 3)) == "truncated"
    assert code_of(write(path, good, b"\0" * 5)) == "trailing_bytes"


def test_it_keeps_to_its_limits(tmp_path):
    path = write(tmp_path / "x.safetensors", {f"t{i}": entry((0,), (0, 0)) for i in range(5)}, b"")
    assert len(read_container(path, Limits(max_tensors=5)).tensors) == 5
    assert code_of(path, limits=Limits(max_tensors=4)) == "too_many_tensors"
    assert code_of(path, limits=Limits(max_tensors=2)) == "too_many_tensors"
    assert code_of(path, limits=Limits(max_header_bytes=16)) == "header_too_large"
    commas = b'{"a":[' + b"1," * 2_000_000 + b"1]}"
    assert code_of(write(path, commas)) == "header_too_long"


@pytest.mark.parametrize("name", ["m.pth", "m.pt", "m.ckpt", "m.bin", "m.PKL", "m.zip", "m.h5", "m.npz"])
def test_it_refuses_other_formats_by_name_and_says_how_to_convert(name, tmp_path):
    path = write(tmp_path / name, {"a": entry()})
    with pytest.raises(ContainerError, match="only safetensors files are accepted") as caught:
        read_container(path)
    assert caught.value.code == "not_safetensors"
    assert caught.value.fix.startswith("Run `consortium convert model.pth` where it was made")


@pytest.mark.parametrize(
    "start", [b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9c", b"\x80\x04\x95\x10", b"\x89HDF\r\n", b"GGUF"]
)
def test_it_refuses_other_formats_by_their_first_bytes(start, tmp_path):
    path = tmp_path / "renamed.safetensors"
    path.write_bytes(start + b"\x01" * 100)
    assert code_of(path) == "not_safetensors"


def test_it_checks_the_name_the_site_gave(tmp_path):
    path = write(tmp_path / "upload", {"a": entry()})
    assert read_container(path, name="model.safetensors").parameters == 1
    assert code_of(path, name="model.pth") == "not_safetensors"


def test_a_header_length_that_looks_like_a_pickle_is_no_pickle(tmp_path):
    raw = json.dumps({"a": entry()}).encode()
    path = write(tmp_path / "x.safetensors", raw.ljust(0x0280))  # bytes 80 02 00 ...
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert read_container(path).parameters == 1


def test_it_opens_ordinary_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert code_of(tmp_path / "pipe.safetensors") == "not_a_file"
    assert code_of(tmp_path / "absent.safetensors") == "unreadable"
    assert code_of(tmp_path) == "not_a_file"


@given(st.binary(max_size=300))
def test_any_bytes_give_a_header_or_a_container_error(raw):
    try:
        header = parse_header(raw, Limits())
    except ContainerError as error:
        assert error.code  # noqa: PT017 -- either outcome is right, any other exception is not
    else:
        assert isinstance(header, dict)


def test_the_public_hostile_files(tmp_path):
    """Uses the shared folder where it exists; the cases above hold everywhere."""
    if not HOSTILE.exists():
        return
    copy = tmp_path / "hostile"
    copy.mkdir()
    shutil.copyfile(HOSTILE / "make.py", copy / "make.py")
    runpy.run_path(str(copy / "make.py"))
    verdicts = {path.name: _verdict(path) for path in (copy / "generated").iterdir()}
    assert {name for name, code in verdicts.items() if code == ""} == {n for n in verdicts if n.startswith("good_")}
    assert len(verdicts) >= 17
    codes = {path.name: _verdict(path) for path in (HOSTILE / "pickles").iterdir()}
    assert {name for name, code in codes.items() if code == ""} == set()


def _verdict(path: Path) -> str:
    try:
        read_container(path)
    except ContainerError as error:
        return error.code
    return ""


def test_the_cheap_checks_load_neither_torch_nor_the_dear_ones():
    program = (
        "import sys, jobs.kit.checks.weights\n"
        "print([name for name in ('torch', 'PIL', 'jobs.kit.checks.samples') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
