"""The one-pass scan agrees with hashlib and with NumPy in double precision, whatever the buffers cut."""

import hashlib
import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from jobs.feed import Feed
from jobs.kit import scan as scan_module
from jobs.kit.container import read_container, read_stream
from jobs.kit.errors import ContainerError
from jobs.kit.scan import as_float32, scan, sha256_of
from jobs.kit.stream import Stream


def write(path, arrays: dict[str, tuple[str, np.ndarray]]):
    header, data = {}, b""
    for name, (dtype, values) in arrays.items():
        raw = values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return read_container(path)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("buffer_bytes", [4096 + 1, 1 << 20, 4 << 20])
def test_it_hashes_and_measures_every_tensor(tmp_path, rng, monkeypatch, buffer_bytes):
    monkeypatch.setattr(scan_module, "BUFFER_BYTES", buffer_bytes)
    half = rng.normal(3, 2, 1001).astype(np.float16)
    single = rng.normal(-1, 5, (700, 900)).astype(np.float32)  # starts off any alignment, behind odd bytes
    bits = (rng.normal(0, 1, 5003).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    brain = (bits.astype(np.uint32) << 16).view(np.float32)
    container = write(tmp_path / "x", {"h": ("F16", half), "s": ("F32", single), "b": ("BF16", bits)})
    found = scan(container)
    assert found.sha256 == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == sha256_of(tmp_path / "x")
    for statistics, values in zip(found.tensors, (half, single, brain), strict=True):
        exact = values.astype(np.float64)
        assert statistics.count == exact.size
        assert statistics.finite
        assert (statistics.minimum, statistics.maximum) == (exact.min(), exact.max())
        assert statistics.mean == pytest.approx(exact.mean(), rel=1e-5, abs=1e-6)
        assert statistics.std == pytest.approx(exact.std(), rel=1e-5)


def test_it_counts_what_is_not_finite(tmp_path):
    values = np.array([1.0, np.nan, -np.inf, 3.0, np.inf, np.nan, np.nan], np.float32)
    found = scan(write(tmp_path / "x", {"a": ("F32", values), "h": ("F16", values.astype(np.float16))}))
    for statistics in found.tensors:
        assert (statistics.nan_count, statistics.infinite_count, statistics.finite) == (3, 2, False)
        assert (statistics.minimum, statistics.maximum, statistics.mean) == (1.0, 3.0, 2.0)


def test_large_finite_numbers_are_finite(tmp_path):
    values = np.full(1000, 3e38, np.float32)
    (statistics,) = scan(write(tmp_path / "x", {"a": ("F32", values)})).tensors
    assert statistics.finite
    assert statistics.mean == pytest.approx(3e38, rel=1e-6)


def test_zeros_and_nothing(tmp_path):
    arrays = {"z": ("F32", np.zeros(9, np.float32)), "e": ("F32", np.zeros((0, 3), np.float32))}
    zero, empty = scan(write(tmp_path / "x", arrays)).tensors
    assert (zero.all_zero, empty.all_zero, empty.count, empty.finite) == (True, False, 0, True)


def test_float16_bits_convert_exactly():
    bits = np.arange(65536, dtype=np.uint16)
    numbers = bits[np.isfinite(bits.view(np.float16))]
    fast = as_float32(numbers.tobytes(), "F16")
    assert np.array_equal(fast.view(np.uint32), numbers.view(np.float16).astype(np.float32).view(np.uint32))
    every = as_float32(bits.tobytes(), "F16")
    assert np.array_equal(np.isfinite(every), np.isfinite(bits.view(np.float16)))


def streamed(content: bytes, size: int, *, at_once: int, name: str = "w.safetensors"):
    """Return the container and the scan of content that comes in pieces, as a worker feeds it."""
    feed = Feed(content[start : start + at_once] for start in range(0, len(content), at_once))
    stream = Stream(feed.start(), size)
    try:
        container = read_stream(stream, name=name)
        return container, scan(container)
    finally:
        stream.socket.close()
        feed.finish()


@pytest.mark.parametrize("at_once", [1001, 65_536, 4 * 2**20])
def test_a_stream_is_read_as_the_file_is(tmp_path, rng, monkeypatch, at_once):
    monkeypatch.setattr(scan_module, "BUFFER_BYTES", at_once)  # sums depend on where a block ends
    values = rng.normal(size=(300, 401)).astype(np.float16)
    container = write(tmp_path / "w.safetensors", {"a": ("F16", values), "b": ("F32", np.ones(7, np.float32))})
    content = (tmp_path / "w.safetensors").read_bytes()
    container_of_it, found = streamed(content, len(content), at_once=at_once)
    assert (container_of_it.tensors, container_of_it.data_start) == (container.tensors, container.data_start)
    assert found == replace(scan(container), sha256="")  # who feeds it hashes


@pytest.mark.parametrize("change", [lambda raw: raw[:-4], lambda raw: raw + b"more"])
def test_a_stream_of_another_length_than_announced_is_noticed(tmp_path, change):
    write(tmp_path / "x", {"a": ("F32", np.ones(5000, np.float32))})
    content = (tmp_path / "x").read_bytes()
    with pytest.raises(ContainerError) as caught:
        streamed(change(content), len(content), at_once=4096)
    assert caught.value.code == "changed"


@pytest.mark.parametrize(
    ("content", "size", "name", "code"),
    [
        (b"", 0, "w.safetensors", "empty_file"),
        (b"PK\x03\x04" + bytes(60), 64, "w.safetensors", "not_safetensors"),
        (bytes(64), 64, "w.pth", "not_safetensors"),
        (struct.pack("<Q", 50) + b"{}", 10, "w.safetensors", "truncated"),
        (struct.pack("<Q", 2**40) + b"{}", 10, "w.safetensors", "header_too_large"),
        (struct.pack("<Q", 2) + b"{}", 10, "w.safetensors", "no_tensors"),
    ],
)
def test_a_bad_header_of_a_stream_is_refused_as_that_of_a_file(content, size, name, code):
    with pytest.raises(ContainerError) as caught:
        streamed(content, size, at_once=3, name=name)
    assert caught.value.code == code


def test_it_notices_a_file_that_changed(tmp_path):
    container = write(tmp_path / "x", {"a": ("F32", np.ones(5000, np.float32))})
    with open(tmp_path / "x", "r+b") as file:
        file.truncate(container.size - 4)
    with pytest.raises(ContainerError) as caught:
        scan(container)
    assert caught.value.code == "changed"


def test_progress_reaches_the_end(tmp_path):
    container = write(tmp_path / "x", {"a": ("F32", np.ones(5000, np.float32))})
    seen = []
    scan(container, lambda done, total, text: seen.append((done, total)))
    assert seen[-1] == (container.size, container.size)


@pytest.mark.parametrize("buffer_bytes", [4096 + 1, 4 << 20])
def test_differences_are_relative_to_the_base(tmp_path, rng, monkeypatch, buffer_bytes):
    monkeypatch.setattr(scan_module, "BUFFER_BYTES", buffer_bytes)  # odd: a buffer's end cuts values in two
    ours, base = rng.normal(size=300_000).astype(np.float32), rng.normal(size=300_000).astype(np.float32)
    same = np.ones(3, np.float16)
    a = write(tmp_path / "a", {"w": ("F32", ours), "s": ("F16", same)})
    b = write(tmp_path / "b", {"s": ("F16", same), "w": ("F32", base)})  # order does not matter
    changed, equal = scan(a, base=b).differences
    delta = ours.astype(np.float64) - base
    assert changed.relative == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(base.astype(np.float64)))
    assert equal.relative == 0.0
    assert changed.base_squares == pytest.approx(np.square(base.astype(np.float64)).sum())


def test_differences_of_large_numbers_stay_finite(tmp_path):
    a = write(tmp_path / "a", {"w": ("F32", np.full(9, 1e30, np.float32))})
    b = write(tmp_path / "b", {"w": ("F32", np.ones(9, np.float32))})
    [found] = scan(a, base=b).differences
    assert found.relative == pytest.approx(1e30)
