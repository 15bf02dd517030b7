"""
The kit's upload against boto3's default `upload_file`, both into a server on loopback that throws everything away (P6).

What is compared is the client: the server reads into one buffer and answers what each expects. The kit hashes the file
before it sends a part, as the portal needs it; both figures are told, the sending alone and with the hashing.
"""

import argparse
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.kit import transfer
from tests.benchmarks.bench_uploads import write_file
from tests.benchmarks.bench_web import report

RATE_GOAL = 4.0  # times boto3's rate, BENCHMARKS.md P6
CPU_GOAL = 0.25  # of boto3's CPU seconds
BLOCK = 1 << 20


# The sink


def serve() -> None:
    """Accept connections for ever, each in a process of its own; print the port first."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _discard(connection)
            os._exit(0)
        connection.close()


def _discard(connection: socket.socket) -> None:
    """Read requests from one connection, throw their bodies away and answer, until the other side closes it."""
    held, buffer = b"", memoryview(bytearray(BLOCK))
    while True:
        while b"\r\n\r\n" not in held:
            block = connection.recv(65536)
            if not block:
                return
            held += block
        head, _, rest = held.partition(b"\r\n\r\n")
        if b"expect: 100-continue" in head.lower():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head)
        left = int(found[1] if found else 0) - len(rest)
        while left > 0:
            left -= connection.recv_into(buffer, min(left, BLOCK))
        held = rest[len(rest) + left :] if left < 0 else b""
        connection.sendall(_answer(head.split(b"\r\n")[0]))


def _answer(line: bytes) -> bytes:
    body = b""
    if line.startswith(b"POST") and b"uploads" in line:
        body = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    elif line.startswith(b"POST"):
        body = b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
    return b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body)


# The clients, each in a process of its own: what it costs is what that process used


class SinkPortal:
    """A portal that signs every part with an address of the sink."""

    backoff_seconds = 0.1

    def __init__(self, port: int, hashed: transfer.FileHash) -> None:
        self.port, self.hashed = port, hashed

    def add_file(self, contribution_id: int, **announced: Any) -> dict[str, Any]:
        size = self.hashed.part_size_bytes
        return {"id": 1, "state": "uploading", "part_size_bytes": size, "parts_uploaded": []}

    def sign_parts(self, contribution_id: int, file_id: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/quarantine/key?partNumber="
        signed = [
            {"number": part["number"], "url": f"{url}{part['number']}",
             "headers": {"x-amz-checksum-sha256": part["sha256"]}}
            for part in parts
        ]  # fmt: skip
        return {"urls": signed, "expires_in_seconds": 900}

    def complete_file(self, contribution_id: int, file_id: int, *, sha256: str) -> dict[str, Any]:
        return {"id": 1, "state": "uploaded", "sha256": sha256}


def kit(port: int, path: Path) -> None:
    began = time.perf_counter()
    hashed = transfer.hash_file(path)
    ready, used = time.perf_counter(), _cpu()
    transfer.upload(SinkPortal(port, hashed), 1, path, hashed=hashed)  # type: ignore[arg-type]
    _tell(time.perf_counter() - ready, _cpu() - used, time.perf_counter() - began)


def boto3(port: int, path: Path) -> None:
    import boto3 as library

    client = library.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", aws_access_key_id="a",
        aws_secret_access_key="b",
    )  # fmt: skip
    ready, used = time.perf_counter(), _cpu()
    client.upload_file(str(path), "quarantine", "key")
    seconds = time.perf_counter() - ready
    _tell(seconds, _cpu() - used, seconds)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _tell(*figures: float) -> None:
    print(*(f"{figure:.4f}" for figure in figures))


CLIENTS: dict[str, Callable[[int, Path], None]] = {"kit": kit, "boto3": boto3}


# Around them


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-sink-") as folder:
        path = Path(folder) / "weights.safetensors"
        write_file(path, options.size_mib, seed=1)
        found = measure(path, options.rounds)
    return told(found, options.size_mib * BLOCK / 1e6)


def measure(path: Path, rounds: int) -> dict[str, list[float]]:
    """Return the medians of (seconds of sending, CPU seconds of it, seconds with hashing) of each client."""
    rows: dict[str, list[list[float]]] = {name: [] for name in CLIENTS}
    with _process("serve()") as sink:
        assert sink.stdout
        port = int(sink.stdout.readline())
        try:
            for _ in range(rounds):
                for name in CLIENTS:
                    with _process(f"CLIENTS[{name!r}]({port}, Path({str(path)!r}))") as client:
                        assert client.stdout
                        rows[name].append([float(figure) for figure in client.stdout.read().split()])
        finally:
            sink.kill()
    return {name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in rows.items()}


def _process(call: str) -> subprocess.Popen[str]:
    code = f"from pathlib import Path; from tests.benchmarks.bench_sink import *; {call}"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def told(found: dict[str, list[float]], megabytes: float) -> int:
    """Print the figures; return 1 when a goal is missed."""
    for name, (sending, cpu, whole) in found.items():
        rates = f"{megabytes / sending:7.0f} MB/s sending, {megabytes / whole:7.0f} MB/s with hashing"
        print(f"P6  {name:6}{rates}, {cpu:.2f} CPU s")
    rate = found["boto3"][0] / found["kit"][0]
    cpu = found["kit"][1] / found["boto3"][1]
    codes = (
        report("P6 kit over boto3's default, rate of sending", rate, RATE_GOAL, higher=True, detail=""),
        report("P6 kit over boto3's default, CPU of sending", cpu, CPU_GOAL, higher=False, detail=""),
    )
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
