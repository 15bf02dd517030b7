"""A file that comes block by block through memory shared with who reads it from the store: it lies on no disk."""

import mmap
import os
import socket
from collections.abc import Iterator


class Stream:
    """
    A file of known size, read once and in order; what was looked at of its start is given again.

    The descriptor is a Unix socket of whole messages. The first brings a descriptor of the memory, a ring of slots of
    one size, and that size in bytes; each later one the length of the next block, which lies in the next slot. A
    message goes back for each block that is not needed any more. The memory can only be read here.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.socket = socket.socket(fileno=descriptor)
        slot, (memory,), *_ = socket.recv_fds(self.socket, 8, 1)
        self.slot_bytes = int.from_bytes(slot, "little")
        self.ring = memoryview(mmap.mmap(memory, 0, prot=mmap.PROT_READ))
        os.close(memory)
        self.taken = 0
        self.head = bytearray()

    def peek(self, count: int) -> bytes:
        """Return the first `count` bytes, or fewer where the file is shorter; only before blocks()."""
        while len(self.head) < count and (block := self._take()):
            self.head += block
            self._give_back()
        return bytes(self.head[:count])

    def blocks(self) -> Iterator[memoryview]:
        """Yield the file from its start; each block holds until the next is asked for."""
        if self.head:
            yield memoryview(self.head)
        while block := self._take():
            yield block
            self._give_back()
        self.socket.close()

    def _take(self) -> memoryview:
        """Return the next block, which is empty at the end."""
        length = int.from_bytes(self.socket.recv(8), "little")
        start = self.taken * self.slot_bytes % len(self.ring)
        self.taken += 1
        return self.ring[start : start + length]

    def _give_back(self) -> None:
        self.socket.send(b"\0", socket.MSG_NOSIGNAL)
