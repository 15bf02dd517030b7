"""
Files to the portal's object store: in parts, in parallel, resumable, every byte under SHA-256. Back comes fetch.py.

The portal signs a short-lived address for each part; the bytes go to the store directly, and the token never does.
Whatever is interrupted goes on where it stopped when the same command is run again.
"""

import base64
import hashlib
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import urllib3

from .client import PLATFORM_FAULT, RETRIES, RETRY_AFTER_MAX_SECONDS, USER_AGENT, Document, Portal, PortalError, http
from .errors import KitError

PART_SIZE_BYTES = 16 * 2**20  # what the portal asks for; another size costs a second read of the file
PARTS_PER_CALL = 20  # limit of the portal
CONNECTIONS = 4  # parts on the way at once
BLOCK_BYTES = 512 * 1024
BLOCK_SECONDS = 120.0  # for a block to leave, which urllib3 counts as connecting: four need 18 kB/s together
SLOWEST_WAIT_SECONDS = 30.0

Progress = Callable[[int, int, str], None]


class TransferError(KitError):
    """A file did not get through."""

    default_code = "transfer_failed"


class Broken(Exception):
    """One attempt failed; the next may not, `after` seconds at the earliest. Its text names no address."""

    def __init__(self, why: str, *, expired: bool = False, after: float = 0.0) -> None:
        super().__init__(why)
        self.expired, self.after = expired, after


# Hashes


@dataclass(frozen=True)
class FileHash:
    """
    SHA-256 of a file (hexadecimal) and of each of its parts (base64, as S3 wants them).

    An empty file has one empty part.
    """

    size_bytes: int
    sha256: str
    part_size_bytes: int
    parts: tuple[str, ...]

    @property
    def parts_sha256(self) -> str:
        """SHA-256 of the parts' SHA-256, one after the other: what the portal knows an upload by."""
        return hashlib.sha256(b"".join(map(base64.b64decode, self.parts))).hexdigest()


def hash_file(
    path: Path | str, *, part_size_bytes: int = PART_SIZE_BYTES, on_progress: Progress | None = None
) -> FileHash:
    """Hash the file and its parts in one read, on two threads (hashlib lets go of the interpreter's lock)."""
    whole, done = hashlib.sha256(), 0
    parts: list[str] = []
    text, size = f"Reading {Path(path).name}", Path(path).stat().st_size
    buffer = memoryview(bytearray(part_size_bytes))
    with open(path, "rb", buffering=0) as file, ThreadPoolExecutor(1) as other:
        while (count := _fill(file, buffer)) or not parts:
            ahead = other.submit(whole.update, buffer[:count])
            parts.append(base64.b64encode(hashlib.sha256(buffer[:count]).digest()).decode())
            ahead.result()
            done += count
            if on_progress is not None:
                on_progress(done, size, text)
            if count < len(buffer):
                break
    return FileHash(done, whole.hexdigest(), part_size_bytes, tuple(parts))


def _fill(file: IO[bytes], buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends; return the count of bytes."""
    filled = 0
    while filled < len(buffer) and (count := file.readinto(buffer[filled:])):  # type: ignore[attr-defined]
        filled += count
    return filled


# Upload


def upload(
    portal: Portal,
    contribution_id: int,
    path: Path | str,
    *,
    hashed: FileHash | None = None,
    connections: int = CONNECTIONS,
    on_progress: Progress | None = None,
) -> Document:
    """
    Send a file to a contribution and return the portal's record of it; parts that are there already are not sent again.

    Args:
        hashed: of hash_file(), when it was needed before.
        connections: parts on the way at once, from 1; what an interruption costs is at most so many parts.
        on_progress: gets (bytes done, bytes in all, text).
    Raises:
        TransferError: a part did not arrive in five attempts, the file changed meanwhile, or somebody completed it with
            another SHA-256.
        PortalError, Unreachable: the portal refused, or did not answer.
    """
    path = Path(path)
    hashed = hashed or hash_file(path, on_progress=on_progress)
    size_bytes, parts_sha256 = hashed.size_bytes, hashed.parts_sha256
    file = portal.add_file(contribution_id, name=path.name, size_bytes=size_bytes, parts_sha256=parts_sha256)
    if file["state"] != "uploading":
        return _as_read(file, hashed)
    if file["part_size_bytes"] != hashed.part_size_bytes:
        again = hash_file(path, part_size_bytes=file["part_size_bytes"], on_progress=on_progress)
        hashed = again if again.sha256 == hashed.sha256 else _changed(path)
    for last in (False, True):
        _Upload(portal, contribution_id, file, path, hashed, on_progress).run(connections)
        try:
            return _as_read(portal.complete_file(contribution_id, file["id"], sha256=hashed.sha256), hashed)
        except PortalError as error:
            if error.code != "parts_missing" or last:
                raise
        file = portal.file(contribution_id, file["id"])  # the store lost a part: send that one again
    raise AssertionError("unreachable")


def _as_read(file: Document, hashed: FileHash) -> Document:
    """Return the record of a file that is complete, unless its checks would refuse it: the first SHA-256 stands."""
    if file["sha256"] == hashed.sha256:
        return file
    raise TransferError(
        f"{file['name']} is complete on the portal, with another SHA-256 ({file['sha256'][:16]}…) than it has here.",
        code="declared_otherwise",
        fix="Remove it from the draft, on its page, then run the same command again.",
    )


def _changed(path: Path) -> Any:
    raise TransferError(
        f"{path.name} changed while it was being sent.", code="file_changed", fix="Let its writer finish, then send it."
    )


class _Upload:
    """The parts of one file that are still to be sent, shared by the sending threads."""

    def __init__(
        self,
        portal: Portal,
        contribution_id: int,
        file: Document,
        path: Path,
        hashed: FileHash,
        on_progress: Progress | None,
    ) -> None:
        self.portal, self.contribution_id, self.file = portal, contribution_id, file
        self.path, self.hashed, self.on_progress = path, hashed, on_progress
        there = set(file["parts_uploaded"])
        numbers = range(1, len(hashed.parts) + 1)
        self.sent = {number: self._size(number) for number in numbers if number in there}  # number -> bytes
        self.pending = deque(number for number in numbers if number not in there)
        self.signed: deque[Document] = deque()
        self.signed_until = 0.0
        self.failures: dict[int, int] = {}
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def run(self, connections: int) -> None:
        """Send every pending part, so many at once."""
        self._report()
        with ThreadPoolExecutor(connections) as threads:
            try:
                sending = [threads.submit(self._work) for _ in range(min(connections, len(self.pending)))]
                done, _ = wait(sending, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            finally:
                self.stop.set()  # after an error or Ctrl-C the other threads end at their next block

    def _work(self) -> None:
        while not self.stop.is_set() and (part := self._next()) is not None:
            try:
                self._put(part)
            except Broken as error:
                self._again(part["number"], error)

    def _next(self) -> Document | None:
        """Take a signed part; sign the next ones when none is left or their addresses are about to expire."""
        with self.lock:
            if time.monotonic() > self.signed_until:
                self.pending.extendleft(part["number"] for part in reversed(self.signed))
                self.signed.clear()
            if not self.signed and self.pending:
                numbers = [self.pending.popleft() for _ in range(min(PARTS_PER_CALL, len(self.pending)))]
                parts = [{"number": number, "sha256": self.hashed.parts[number - 1]} for number in numbers]
                answer = self.portal.sign_parts(self.contribution_id, self.file["id"], parts)
                self.signed.extend(answer["urls"])
                self.signed_until = time.monotonic() + answer["expires_in_seconds"] / 2
            return self.signed.popleft() if self.signed else None

    def _put(self, part: Document) -> None:
        number, size = part["number"], self._size(part["number"])
        with self.path.open("rb", buffering=0) as file:
            file.seek((number - 1) * self.hashed.part_size_bytes)
            body = _Body(file, size, lambda count: self._count(number, count))
            headers = {**part["headers"], "Content-Length": str(size), "User-Agent": USER_AGENT}
            response = to_store("PUT", part["url"], headers=headers, body=body, timeout=BLOCK_SECONDS)
        if response.status != 200:
            refused(response)
        self._count(number, size - self.sent.get(number, 0))

    def _again(self, number: int, error: Broken) -> None:
        """Put a part back, wait a little; give up after five attempts."""
        with self.lock:
            failures = self.failures[number] = self.failures.get(number, 0) + 1
            self.sent[number] = 0
        if failures >= RETRIES:
            raise TransferError(
                f"Part {number} of {self.path.name} did not arrive: {error}.",
                fix="Run the same command again; what has arrived is kept.",
                exit_code=PLATFORM_FAULT,
            ) from None
        if not error.expired:
            self.stop.wait(max(error.after, pause_seconds(failures, self.portal.backoff_seconds)))
        with self.lock:
            self.pending.appendleft(number)

    def _size(self, number: int) -> int:
        start = (number - 1) * self.hashed.part_size_bytes
        return min(self.hashed.part_size_bytes, self.hashed.size_bytes - start)

    def _count(self, number: int, count: int) -> None:
        if self.stop.is_set():
            raise TransferError("Stopped.")
        with self.lock:
            self.sent[number] = self.sent.get(number, 0) + count
        self._report()

    def _report(self) -> None:
        if self.on_progress is not None:
            with self.lock:
                self.on_progress(sum(self.sent.values()), self.hashed.size_bytes, f"Sending {self.path.name}")


class _Body:
    """
    One part of a file as urllib3 reads a body: block by block, so that progress is seen on a slow link.

    Every block is the same memory, which urllib3 has sent before it asks for the next: a fresh one each time costs the
    kernel more than the reading (tests/benchmarks/bench_sink.py).
    """

    def __init__(self, file: IO[bytes], size: int, on_block: Callable[[int], None]) -> None:
        self.file, self.left, self.on_block = file, size, on_block
        self.buffer = memoryview(bytearray(min(size, BLOCK_BYTES)))

    def read(self, count: int) -> memoryview:
        block = self.buffer[: min(count, self.left)]
        filled: int = self.file.readinto(block)  # type: ignore[attr-defined]
        if self.left and not filled:
            _changed(Path(self.file.name))
        self.left -= filled
        self.on_block(filled)
        return block[:filled]


def to_store(method: str, url: str, **kwargs: Any) -> urllib3.BaseHTTPResponse:
    """Send to a presigned address: no token, no redirect, and no retry of urllib3, whose warnings quote the address."""
    try:
        return http(url).request(method, url, retries=False, redirect=False, **kwargs)
    except urllib3.exceptions.HTTPError as error:
        raise Broken(f"the connection to {urlsplit(url).netloc} failed ({type(error).__name__})") from None


def refused(response: urllib3.BaseHTTPResponse) -> None:
    """Say what a store's answer means: raise TransferError when no repetition can help, else Broken."""
    found = re.search(rb"<Code>(\w{1,64})</Code>", response.data[:4096])
    code = found[1].decode() if found else ""
    if response.status == 404 or code == "NoSuchUpload":
        raise TransferError(
            "The store does not know this file any more.", code="upload_lost", fix="Run the same command again."
        )
    why, is_expired = f"the store answered {response.status} {code}".strip(), response.status == 403
    raise Broken(why, expired=is_expired, after=asked_seconds(response))


def asked_seconds(response: urllib3.BaseHTTPResponse) -> float:
    """Return for how long an answer asks to be left alone, in either form of Retry-After (RFC 9110, section 10.2.3)."""
    try:
        asked = urllib3.Retry(retry_after_max=RETRY_AFTER_MAX_SECONDS).get_retry_after(response)
    except urllib3.exceptions.InvalidHeader:
        asked = None
    return min(asked or 0.0, RETRY_AFTER_MAX_SECONDS)


def pause_seconds(failures: int, first_seconds: float) -> float:
    """Return the seconds before the next attempt: doubling, with as much jitter again."""
    return min(first_seconds * 2 ** (failures - 1), SLOWEST_WAIT_SECONDS) * (1 + random.random())
