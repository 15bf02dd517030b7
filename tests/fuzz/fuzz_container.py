"""
Fuzz the header check: what it accepts, the safetensors library accepts and reads alike; only its own error escapes.

    python -m tests.fuzz.fuzz_container [--seconds 60] [--seed 0]

Half of the inputs are raw bytes as libFuzzer mutates them, half are headers built from them, so that many come close to
what is accepted. Prints the counts; exit status 1, with the input saved, when the property breaks.
"""

import argparse
import json
import mmap
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["jobs.kit.container"]):
    from jobs.kit.container import ITEM_BYTES, Container, read_container
    from jobs.kit.errors import ContainerError

import safetensors

NAMES = ["a", "b", "conv_in.weight", "a.b-c:d", "../a", "", "a b", "x" * 300, "\u202e", "a.", "__metadata__"]
DTYPES = ["F32", "F16", "BF16", "F64", "I64", "f32", "", None]
NUMBERS = [0, 1, 2, 3, 2**31, 2**63, -1, True, 1.5, None, "1"]
METADATA = [{"format": "pt"}, {"format": "ptx"}, {"created": "2026-11"}, {"note": "a@b.org"}, {"a": 1}, [], "x"]


class Counts:
    """What happened so far, shared with the parent, and the file that every input is written to."""

    inputs = accepted = 0
    path = Path()
    shared: mmap.mmap

    @classmethod
    def tell(cls) -> None:
        cls.shared[:] = struct.pack("<QQ", cls.inputs, cls.accepted)


def built(data: atheris.FuzzedDataProvider) -> bytes:
    """Return a file whose header is mostly right: each rule is broken once in a while."""
    header, content, start = {}, b"", 0
    if data.ConsumeIntInRange(0, 3) == 0:
        header["__metadata__"] = METADATA[data.ConsumeIntInRange(0, len(METADATA) - 1)]
    for _ in range(data.ConsumeIntInRange(0, 4)):
        name = NAMES[data.ConsumeIntInRange(0, len(NAMES) - 1 if flawed(data) else 3)]
        dtype = DTYPES[data.ConsumeIntInRange(0, len(DTYPES) - 1 if flawed(data) else 2)]
        shape = [data.ConsumeIntInRange(0, 3) for _ in range(data.ConsumeIntInRange(0, 3))]
        size = ITEM_BYTES.get(str(dtype), 8)
        for side in shape:
            size *= side
        if flawed(data):
            shape.append(NUMBERS[data.ConsumeIntInRange(0, len(NUMBERS) - 1)])
        offsets = [start, start + size + (data.ConsumeIntInRange(-2, 2) if flawed(data) else 0)]
        entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        if flawed(data):
            entry["more"] = 1
        header[name] = entry
        start += size
        content += bytes(size)
    raw = json.dumps(header).encode() + b" " * data.ConsumeIntInRange(0, 9)
    if flawed(data):
        raw = raw.replace(b'"a"', b'"b"', 1)  # a name twice
    length = len(raw) + (data.ConsumeIntInRange(-3, 3) if flawed(data) else 0)
    tail = data.ConsumeBytes(3) if flawed(data) else b""
    return struct.pack("<Q", max(0, length)) + raw + content + tail


def flawed(data: atheris.FuzzedDataProvider) -> bool:
    return data.ConsumeIntInRange(0, 11) == 0


def one_input(raw: bytes) -> None:
    """Hold one input against the property."""
    data = atheris.FuzzedDataProvider(raw)
    content = built(data) if data.ConsumeIntInRange(0, 1) else data.ConsumeBytes(len(raw))
    Counts.inputs += 1
    Counts.tell()
    Counts.path.write_bytes(content)
    found = _verdict()
    if isinstance(found, ContainerError):
        assert found.code, "a refusal without a code"
        assert found.sentence, "a refusal without a sentence"
        return
    Counts.accepted += 1
    Counts.tell()
    _require_alike(found, content)


def _verdict() -> Container | ContainerError:
    try:
        return read_container(Counts.path)
    except ContainerError as error:
        return error


def _require_alike(found: Container, content: bytes) -> None:
    theirs = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in safetensors.deserialize(content)}
    ours = {tensor.name: (tensor.dtype, tensor.shape) for tensor in found.tensors}
    assert ours == theirs, f"read otherwise: {ours} and {theirs}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0 takes another each time")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the child
    options = parser.parse_args()
    if options.folder:
        return fuzz(options)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        command = [sys.executable, "-m", "tests.fuzz.fuzz_container", "--folder", folder]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        inputs, accepted = struct.unpack("<QQ", (Path(folder) / "counts").read_bytes())
    print(f"{inputs} inputs, {accepted} accepted")
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return done.returncode


def fuzz(options: argparse.Namespace) -> int:
    """Run in a process of its own: libFuzzer ends it without a word, so the counts lie in a shared file."""
    Counts.path = options.folder / "weights.safetensors"
    (options.folder / "counts").write_bytes(bytes(16))
    with (options.folder / "counts").open("r+b") as file:
        Counts.shared = mmap.mmap(file.fileno(), 16)
    limits = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-max_len=4096", "-len_control=0"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={Path.cwd() / 'fuzz-'}"], one_input)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
