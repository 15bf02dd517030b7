"""An object of the store on its way into a sandboxed child: through a pipe, hashed as it passes, on no disk."""

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

PIPE_BYTES = 1 << 20  # the largest that a system allows by default


class Feed:
    """
    A thread that reads blocks and writes them into a pipe, while a second one hashes the block before.

    The hash is of all blocks, also where the child closed the pipe before the end: it ends early when it refuses.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks
        self.digest, self.size_bytes = hashlib.sha256(), 0
        self.error: Exception | None = None
        self.is_stopped = False
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> int:
        """Begin, and return the descriptor to read from: the child's, which who starts the child closes here."""
        self.thread.start()
        return self.reader

    def finish(self) -> str:
        """Wait for the last block; return the SHA-256 of all, or raise what reading them raised."""
        self.thread.join()
        if self.error is not None:
            raise self.error
        return self.digest.hexdigest()

    def stop(self) -> None:
        """Read no further block: nobody wants the rest any more."""
        self.is_stopped = True

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(1, "hashing") as hashing:
                self._pass(hashing)
        except Exception as error:  # raised again by finish(), in the thread that waits
            self.error = error
        finally:
            os.close(self.writer)

    def _pass(self, hashing: ThreadPoolExecutor) -> None:
        is_open = True
        hashed: Future[None] = hashing.submit(lambda: None)
        for block in self.blocks:
            if self.is_stopped:
                break
            hashed.result()  # no more than one block waits, so that memory stays bounded
            hashed = hashing.submit(self.digest.update, block)
            self.size_bytes += len(block)
            is_open = is_open and _written(self.writer, block)
        hashed.result()


def _written(descriptor: int, block: bytes) -> bool:
    """Write a block whole; return whether anybody reads the other end."""
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        return False
    return True
