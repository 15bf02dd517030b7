"""What is sent as weights, made here: files of somebody hostile, which no test opens, and an honest one."""

import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

BASE = Path(__file__).resolve().parents[1] / "jobs" / "kit" / "base" / "fundus-64" / "model.safetensors"


def honest() -> bytes:
    """Return the base with every weight moved a little, as a short fine-tuning does."""
    rng = np.random.default_rng(7)
    moved = {
        name: (values * (1 + 1e-3 * rng.standard_normal(values.shape))).astype(values.dtype)
        for name, values in load_file(BASE).items()
    }
    return save(moved)


def contents(canary: str) -> list[bytes]:
    """Return hostile contents; a pickle among them would make the file `canary` if anybody loaded it."""
    good = BASE.read_bytes()
    header = json.loads(good[8 : 8 + struct.unpack("<Q", good[:8])[0]])
    first = next(name for name in header if name != "__metadata__")
    return [
        b"\x80\x02cposix\nsystem\nX"
        + struct.pack("<I", len(f"touch {canary}"))
        + f"touch {canary}".encode()
        + b"\x85R.",
        b"PK\x03\x04" + bytes(500),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 99 * 2**20) + b"{" + b" " * 2**20,
        _with(good, first, data_offsets=[0, 2**62]),
        _with(good, first, shape=[2**40, 2**40]),
        _with(good, first, dtype="OBJECT"),
        struct.pack("<Q", 12) + b'{"a":' * 2 + b"}}" + bytes(8),
        struct.pack("<Q", 400_000) + b"[" * 400_000,
        good[:-1],
        good + b"hidden",
        b"",
        good[: -2 * 1000] + b"\x00\x7e" * 1000,
    ]


def _with(good: bytes, name: str, **changed: object) -> bytes:
    """Return a file with one entry of its header changed, and all else as it was."""
    length = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + length])
    header[name] |= changed
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + length :]
