"""Blocks on their way through shared memory: all are hashed, whoever reads them, and nobody changes them."""

import hashlib
import mmap
import os
import socket

import pytest

from jobs.feed import SLOTS, Feed
from jobs.kit.stream import Stream

BLOCKS = [bytes([number]) * (300_000 + number) for number in range(3 * SLOTS)]  # more than there are slots
WHOLE = b"".join(BLOCKS)
SHA256 = hashlib.sha256(WHOLE).hexdigest()


def read_all(stream: Stream) -> bytes:
    return b"".join(map(bytes, stream.blocks()))


@pytest.mark.parametrize("looked_at", [0, 8, 700_000, 2 * len(WHOLE)])
def test_what_goes_in_comes_out_and_its_hash_is_told(looked_at):
    feed = Feed(iter(BLOCKS))
    stream = Stream(feed.start(), len(WHOLE))
    assert stream.peek(looked_at) == WHOLE[:looked_at]
    assert read_all(stream) == WHOLE
    assert (feed.finish(), feed.size_bytes) == (SHA256, len(WHOLE))


def test_nothing_is_lost_at_the_end_however_late_it_is_read():
    for _ in range(200):
        feed = Feed(iter(BLOCKS[: SLOTS + 2]))
        stream = Stream(feed.start(), 0)
        stream.peek(1)  # what it gives back is not read before the end
        assert list(map(bytes, stream.blocks())) == BLOCKS[: SLOTS + 2]
        feed.finish()


@pytest.mark.parametrize("count", [0, 1, 2, SLOTS + 1])
def test_a_reader_that_ends_early_leaves_the_hash_whole(count):
    feed = Feed(iter(BLOCKS))
    stream = Stream(feed.start(), len(WHOLE))
    taken = [bytes(block) for block, _ in zip(stream.blocks(), range(count), strict=False)]
    stream.socket.close()
    assert (taken, feed.finish()) == (BLOCKS[:count], SHA256)


def test_a_reader_that_never_looks_leaves_the_hash_whole():
    feed = Feed(iter(BLOCKS))
    os.close(feed.start())
    assert feed.finish() == SHA256


def test_who_reads_can_neither_write_nor_change_the_size():
    feed = Feed(iter(BLOCKS))
    theirs = socket.socket(fileno=feed.start())
    _, (memory,), *_ = socket.recv_fds(theirs, 8, 1)
    again = os.open(f"/proc/self/fd/{memory}", os.O_RDWR)
    for descriptor in (memory, again):
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, 0)
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"other", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)
    theirs.close()
    assert feed.finish() == SHA256


def test_a_reader_that_gives_back_what_it_never_had_hurts_itself_alone():
    feed = Feed(iter(BLOCKS))
    stream = Stream(feed.start(), len(WHOLE))
    for _ in BLOCKS:
        stream.socket.send(b"\0" * 100)
    stream.socket.close()
    assert (feed.finish(), feed.size_bytes) == (SHA256, len(WHOLE))


def test_an_error_of_the_store_is_raised_to_who_waits():
    def blocks():
        yield BLOCKS[0]
        raise ConnectionError("away")

    feed = Feed(blocks())
    assert read_all(Stream(feed.start(), len(WHOLE))) == BLOCKS[0]
    with pytest.raises(ConnectionError, match="away"):
        feed.finish()


def test_a_stopped_feed_reads_no_further():
    taken = []

    def blocks():
        for block in BLOCKS:
            taken.append(block)
            yield block

    feed = Feed(blocks())
    feed.stop()
    assert read_all(Stream(feed.start(), len(WHOLE))) == b""
    assert (feed.finish(), len(taken)) == (hashlib.sha256(b"").hexdigest(), 1)
