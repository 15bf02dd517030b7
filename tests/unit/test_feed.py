"""Blocks on their way through a pipe: all are hashed, whoever reads them."""

import hashlib
import os

import pytest

from jobs.feed import PIPE_BYTES, Feed

BLOCKS = [bytes([number]) * 300_000 for number in range(12)]  # more than the pipe holds
WHOLE = b"".join(BLOCKS)


def read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb") as reader:
        return reader.read()


def test_what_goes_in_comes_out_and_its_hash_is_told():
    feed = Feed(iter(BLOCKS))
    assert read_all(feed.start()) == WHOLE
    assert feed.finish() == hashlib.sha256(WHOLE).hexdigest()
    assert (feed.size_bytes, len(WHOLE) > PIPE_BYTES) == (len(WHOLE), True)


@pytest.mark.parametrize("count", [0, 1, 200_000])
def test_a_reader_that_ends_early_leaves_the_hash_whole(count):
    feed = Feed(iter(BLOCKS))
    reader = feed.start()
    os.read(reader, count)
    os.close(reader)
    assert feed.finish() == hashlib.sha256(WHOLE).hexdigest()


def test_an_error_of_the_store_is_raised_to_who_waits():
    def blocks():
        yield BLOCKS[0]
        raise ConnectionError("away")

    feed = Feed(blocks())
    assert read_all(feed.start()) == BLOCKS[0]
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
    assert read_all(feed.start()) == b""
    assert (feed.finish(), len(taken)) == (hashlib.sha256(b"").hexdigest(), 1)
