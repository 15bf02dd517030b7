"""An object of the store on its way into a sandboxed child: through shared memory, hashed as it passes, on no disk."""

import fcntl
import hashlib
import mmap
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from portal.storage import BLOCK_BYTES

SLOTS = 8  # blocks that the child has not taken yet, or still looks at; they count as its memory, too
F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h, which Python 3.11 does not name: the child may map it to read alone


class Feed:
    """
    A thread that puts blocks into a ring of shared memory, of which `kit.stream.Stream` takes them, and hashes them.

    The hash is of all blocks, also where the child closed its end before: it ends early when it refuses. It is taken of
    bytes that the child never sees, so nothing that the child does changes it.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks
        self.digest, self.size_bytes = hashlib.sha256(), 0
        self.error: Exception | None = None
        self.is_stopped = False
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ring = _shared_ring(self.ours)
        self.sent = 0
        self.is_open = True
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> int:
        """Begin, and return the descriptor for a Stream: the child's, which who starts the child closes here."""
        self.thread.start()
        return self.theirs.detach()

    def finish(self) -> str:
        """Wait until the child has all or is gone; return the SHA-256 of all, or raise what reading them raised."""
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
            self._let_go()
            self.ring.close()

    def _pass(self, hashing: ThreadPoolExecutor) -> None:
        hashed: Future[None] = hashing.submit(lambda: None)
        for block in self.blocks:
            if self.is_stopped:
                break
            hashed.result()  # no more than one block waits, so that memory stays bounded
            hashed = hashing.submit(self.digest.update, block)
            self.size_bytes += len(block)
            self.is_open = self.is_open and self._put(block)
        hashed.result()

    def _put(self, block: bytes) -> bool:
        """Put a block into the next slot, once the child needs what lies there no more; return whether it listens."""
        try:
            if self.sent >= SLOTS and not self.ours.recv(1):
                return False
            start = self.sent % SLOTS * BLOCK_BYTES
            self.ring[start : start + len(block)] = block
            self.ours.send(len(block).to_bytes(8, "little"), socket.MSG_NOSIGNAL)
        except ConnectionError:
            return False
        self.sent += 1
        return True

    def _let_go(self) -> None:
        """Say that this was all, and wait until the child has it: what is closed before makes it lose the rest."""
        with self.ours, suppress(ConnectionError):
            self.ours.shutdown(socket.SHUT_WR)
            while self.ours.recv(1):
                pass


def _shared_ring(to: socket.socket) -> mmap.mmap:
    """Return memory that only this process can write, its descriptor being the first message to the other end."""
    memory = os.memfd_create("feed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memory, SLOTS * BLOCK_BYTES)
        ring = mmap.mmap(memory, 0)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL | F_SEAL_FUTURE_WRITE
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
        socket.send_fds(to, [BLOCK_BYTES.to_bytes(8, "little")], [memory])
    finally:
        os.close(memory)
    return ring
