"""
Read a weights file once: SHA-256 in one thread, finiteness and moments of every tensor in another.

A stream is not hashed here: who feeds it hashes it (DESIGN.md section 5), and is the one to trust. Its blocks are
measured where they lie.

A file goes through a ring of four 4 MiB buffers filled by preadv. A memory map would be shorter, but its pages count
against a container's memory limit. Statistics are taken in blocks of 256 KiB so that a block, the base's and their
difference stay in a core's own cache: whole arrays are 15 to 50 times slower (BENCHMARKS.md section 1), blocks of 1 MiB
a third.
"""

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from .container import ITEM_BYTES, Container, Tensor
from .errors import ContainerError
from .stream import Stream

RING_BUFFERS = 4
BUFFER_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 256 * 1024
PROGRESS_BYTES = 64 * 1024 * 1024
ONES = np.ones(BLOCK_BYTES // 2, dtype=np.float32)
Progress = Callable[[int, int, str], None]


@dataclass
class TensorStatistics:
    """
    Moments of one tensor. minimum, maximum, mean and std are over the finite values (nan when there is none).

    std is the population value from sums of squares: good for evidence, not for numbers whose mean dwarfs their spread.
    """

    name: str
    count: int = 0
    nan_count: int = 0
    infinite_count: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    total_squares: float = 0.0

    @property
    def finite_count(self) -> int:
        return self.count - self.nan_count - self.infinite_count

    @property
    def finite(self) -> bool:
        return self.finite_count == self.count

    @property
    def all_zero(self) -> bool:
        return self.finite and self.count > 0 and self.minimum == 0.0 == self.maximum

    @property
    def mean(self) -> float:
        return self.total / self.finite_count if self.finite_count else math.nan

    @property
    def std(self) -> float:
        if not self.finite_count:
            return math.nan
        return math.sqrt(max(0.0, self.total_squares / self.finite_count - self.mean**2))

    def add(self, values: np.ndarray) -> None:
        """Add float32 values of any number; min and max carry NaN and infinity, so they are the finite test too."""
        if len(values) == 0:
            return
        self.count += len(values)
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            values = self._without_nonfinite(values)
            if len(values) == 0:
                return
            low, high = float(values.min()), float(values.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        if max(-low, high) > 1e15:  # float32 squares would overflow beyond 1e19
            values = values.astype(np.float64)
        # float32 partial sums of one block; a dot product with ones is twice as fast as sum()
        self.total += float(np.dot(values, ONES[: len(values)].astype(values.dtype, copy=False)))
        self.total_squares += float(np.dot(values, values))

    def _without_nonfinite(self, values: np.ndarray) -> np.ndarray:
        self.nan_count += int(np.isnan(values).sum())
        self.infinite_count += int(np.isinf(values).sum())
        return values[np.isfinite(values)]


@dataclass(frozen=True)
class Scan:
    """What one read of the file found; `sha256` is empty for a stream."""

    sha256: str
    size: int
    tensors: tuple[TensorStatistics, ...]
    differences: tuple["Difference", ...] = ()


@dataclass
class Difference:
    """How far one tensor is from the base's: squared norms, summed in float64 over blocks."""

    name: str
    delta_squares: float = 0.0
    base_squares: float = 0.0

    @property
    def relative(self) -> float:
        """Return |w - base| / |base|; infinite when the base is zero and w is not."""
        if self.delta_squares == 0.0:
            return 0.0
        return math.sqrt(self.delta_squares / self.base_squares) if self.base_squares else math.inf


def scan(
    container: Container,
    on_progress: Progress = lambda done, total, text: None,
    *,
    base: Container | None = None,
) -> Scan:
    """
    Hash a whole file, measure every tensor and, given the base, its distance from it: in one read of each.

    Args:
        base: holds a tensor of every name in the container, of the same shape; finite numbers are expected there.
        on_progress: gets (bytes done, bytes in all, text), about every 64 MiB.
    Raises:
        ContainerError: the file changed since its header was read.
    """
    deltas = _Deltas(base) if base is not None else None
    moments = _Moments(container.tensors, deltas)
    try:
        if container.stream is None:
            sha256 = _scan_file(container, moments, on_progress)
        else:
            sha256 = _scan_stream(container, container.stream, moments, on_progress)
    finally:
        if deltas is not None:
            os.close(deltas.descriptor)
    found = tuple(deltas.found.values()) if deltas is not None else ()
    return Scan(sha256, container.size, tuple(moments.statistics), found)


def _scan_stream(container: Container, stream: Stream, moments: "_Moments", on_progress: Progress) -> str:
    done = told = 0
    for block in stream.blocks():
        done += len(block)
        if done > container.size:
            break
        moments.feed(block)
        if done - told >= PROGRESS_BYTES or done == container.size:
            on_progress(told := done, container.size, "Reading the file")
    _require_whole(container, done == container.size)
    return ""


def _scan_file(container: Container, moments: "_Moments", on_progress: Progress) -> str:
    digest = hashlib.sha256()
    free: SimpleQueue[int] = SimpleQueue()
    consumers = [_Consumer(digest.update), _Consumer(moments.feed)]
    buffers = [memoryview(bytearray(BUFFER_BYTES)) for _ in range(RING_BUFFERS)]
    pending = _Pending(RING_BUFFERS, len(consumers), free)
    for consumer in consumers:
        consumer.start(pending)
    told = 0
    try:
        for done, slot, filled in _fill(container, buffers, free):
            for consumer in consumers:
                consumer.blocks.put((slot, buffers[slot][:filled]))
            if done - told >= PROGRESS_BYTES or done == container.size:
                on_progress(told := done, container.size, "Reading the file")
    finally:
        for consumer in consumers:
            consumer.blocks.put(None)
            consumer.thread.join()
    for consumer in consumers:
        if consumer.error is not None:
            raise consumer.error
    return digest.hexdigest()


def _fill(container: Container, buffers: list[memoryview], free: "SimpleQueue[int]") -> Iterator[tuple[int, int, int]]:
    """Read the file into free buffers; yield (bytes done, slot, bytes in the slot)."""
    descriptor = os.open(container.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        position = 0
        while position < container.size:
            slot = free.get()
            filled = os.preadv(descriptor, [buffers[slot]], position)
            position += filled
            if filled == 0 or position > container.size:
                break
            yield position, slot, filled
        _require_whole(container, position == container.size == os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _require_whole(container: Container, is_whole: bool) -> None:
    if not is_whole:
        raise ContainerError(f"{container.path.name} changed while it was read.", code="changed", fix="Try again.")


class _Pending:
    """Counts who still needs a buffer; the last one frees it."""

    def __init__(self, slots: int, users: int, free: "SimpleQueue[int]") -> None:
        self.users, self.free, self.lock = users, free, threading.Lock()
        self.left = [users] * slots
        for slot in range(slots):
            free.put(slot)

    def release(self, slot: int) -> None:
        with self.lock:
            self.left[slot] -= 1
            if self.left[slot] == 0:
                self.left[slot] = self.users
                self.free.put(slot)


class _Consumer:
    """One thread that takes every buffer in order. After an error it only releases, so that the reader never waits."""

    def __init__(self, work: Callable[[memoryview], None]) -> None:
        self.work = work
        self.blocks: SimpleQueue[tuple[int, memoryview] | None] = SimpleQueue()
        self.error: BaseException | None = None

    def start(self, pending: _Pending) -> None:
        self.thread = threading.Thread(target=self._run, args=(pending,), daemon=True)
        self.thread.start()

    def _run(self, pending: _Pending) -> None:
        while (block := self.blocks.get()) is not None:
            slot, data = block
            try:
                if self.error is None:
                    self.work(data)
            except BaseException as error:  # raised again by scan(), in the caller's thread
                self.error = error
            finally:
                pending.release(slot)


class _Moments:
    """Feeds the bytes of a file, in order, to the statistics of the tensor they belong to."""

    def __init__(self, tensors: tuple[Tensor, ...], deltas: "_Deltas | None" = None) -> None:
        self.tensors, self.deltas = tensors, deltas
        self.statistics = [TensorStatistics(tensor.name) for tensor in tensors]
        self.index = 0
        self.position = 0
        self.rest = b""  # the first bytes of a value that a buffer's end cut in two

    def feed(self, data: memoryview) -> None:
        end = self.position + len(data)
        while self.index < len(self.tensors) and self.tensors[self.index].start < end:
            tensor = self.tensors[self.index]
            first, last = max(tensor.start, self.position), min(tensor.stop, end)
            for start in range(first, last, BLOCK_BYTES):
                stop = min(start + BLOCK_BYTES, last)
                self._feed_block(tensor, data[start - self.position : stop - self.position])
            if tensor.stop > end:
                break
            self.index += 1
        self.position = end

    def _feed_block(self, tensor: Tensor, block: memoryview) -> None:
        statistics, item = self.statistics[self.index], ITEM_BYTES[tensor.dtype]
        if self.rest:
            need = item - len(self.rest)
            whole, block = self.rest + bytes(block[:need]), block[need:]
            self._add(statistics, as_float32(whole, tensor.dtype))
        tail = len(block) % item
        self.rest = bytes(block[len(block) - tail :]) if tail else b""
        self._add(statistics, as_float32(block[: len(block) - tail], tensor.dtype))

    def _add(self, statistics: TensorStatistics, values: np.ndarray) -> None:
        if self.deltas is not None:
            self.deltas.add(statistics.name, statistics.count, values)
        statistics.add(values)


class _Deltas:
    """Compares values with the base's of the same tensor and place, as they pass by."""

    def __init__(self, base: Container) -> None:
        self.tensors = {tensor.name: tensor for tensor in base.tensors}
        self.found: dict[str, Difference] = {}
        self.descriptor = os.open(base.path, os.O_RDONLY | os.O_CLOEXEC)
        self.buffer = memoryview(bytearray(2 * BLOCK_BYTES))  # a float32 for each float16 of a block
        self.change = np.empty(BLOCK_BYTES // 2, dtype=np.float32)

    def add(self, name: str, first: int, values: np.ndarray) -> None:
        """Add float32 values, of which `first` stood before in their tensor."""
        tensor = self.tensors[name]
        difference = self.found.setdefault(name, Difference(name))
        item = ITEM_BYTES[tensor.dtype]
        space = self.buffer[: len(values) * item]
        os.preadv(self.descriptor, [space], tensor.start + first * item)
        other = as_float32(space, tensor.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is another finding
            change = np.subtract(values, other, out=self.change[: len(values)])
            moved = float(np.dot(change, change))
        if not math.isfinite(moved):  # float32 squares overflow beyond 1e19
            moved = float(np.dot(change.astype(np.float64), change.astype(np.float64)))
        difference.delta_squares += moved
        difference.base_squares += float(np.dot(other, other))


def as_float32(data: bytes | memoryview, dtype: str) -> np.ndarray:
    """Return the values of little-endian F32, F16 or BF16 bytes as float32, (N,); a view where it can be one."""
    if dtype == "F32":
        return np.frombuffer(data, dtype="<f4")
    if dtype == "F16":
        return _half_to_float(np.frombuffer(data, dtype="<i2"))
    # bfloat16 is the upper half of a float32
    return (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)


def _half_to_float(bits: np.ndarray) -> np.ndarray:
    """
    Convert float16 bits (N,) int16 to float32, exactly; ten times faster here than NumPy's astype.

    Exponent and mantissa move to their place in a float32, whose exponent bias is larger by 112. Infinity and NaN come
    out as 65536 and more, which float16 cannot hold: only then the slow way is taken.
    """
    words = bits.astype(np.int32)
    words <<= 13
    words &= np.int32(-0x70002000)  # 0x8FFFE000: clears the copies of the sign
    values = words.view(np.float32)
    values *= np.float32(2.0**112)
    if len(values) and max(float(values.max()), -float(values.min())) >= 65536.0:
        return bits.view("<f2").astype(np.float32)
    return values


def sha256_of(path: Path | str) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
