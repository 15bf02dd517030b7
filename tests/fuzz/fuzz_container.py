"""
Fuzz the header check: what it accepts, the safetensors library accepts and reads alike; only its own error escapes.

    python -m tests.fuzz.fuzz_container [--seconds 60] [--seed 0]

An input is a whole file, so what is saved when the property breaks can be given to either reader. Three in four inputs
are headers rebuilt from their parts with offsets that fit again, because random bytes never pass the first rule.
Prints the counts; exit status 1, with the input saved, when the property breaks.
"""

import argparse
import json
import math
import mmap
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["jobs.kit.container"]):
    from jobs.kit.container import ITEM_BYTES, Container, read_container
    from jobs.kit.errors import ContainerError

import safetensors

MOST_DATA = 2048
NAMES = [
    "a",
    "b",
    "c",
    "conv_in.weight",
    "a.b-c:d",
    "../a",
    "",
    "a b",
    "x" * 300,
    "\u202e",
    "a.",
    "__metadata__",
    "\ud800",
]
DTYPES = ["F32", "F16", "BF16", "F64", "I64", "f32", "", None, ["F32"]]
# Spellings, not values: two readers of JSON differ in how they read -0, and in where their integers end.
NUMBERS = ["0", "1", "2", "3", "-0", "-1", "00", "1e0", "1.0", "true", "null", '"1"', "NaN", "[1]"]
NUMBERS += [str(2**power + more) for power in (31, 32, 62, 63, 64) for more in (-1, 0)] + ["9" * 19, "9" * 20]
METADATA = [
    {},
    {"format": "pt"},
    {"format": "ptx"},
    {"created": "2026-11"},
    {"note": "a@b.org"},
    {"a": 1},
    [],
    "x",
    None,
]
SPACES = ["", "", "", " ", "\n", "\t", "\r", "\v", "\xa0"]


class Spelling(str):
    """A number as the header spells it."""


class Counts:
    """What happened so far, shared with the parent, and the file that every input is written to."""

    inputs = accepted = 0
    path = Path()
    shared: mmap.mmap

    @classmethod
    def tell(cls) -> None:
        cls.shared[:] = struct.pack("<QQ", cls.inputs, cls.accepted)


Part = dict[str, Any]  # name, dtype, shape (spellings), offsets (spellings, or None where they are to fit)


def mutated(raw: bytes, max_size: int, seed: int) -> bytes:
    """Return another file: libFuzzer's own mutation of the bytes, or the parts changed and put together again."""
    rng = random.Random(seed)
    if rng.random() < 0.25:
        return bytes(atheris.Mutate(raw, max_size))
    parts, metadata = _parts(raw)
    if not parts or rng.random() < 0.1:
        parts = [_sound_part(rng) for _ in range(rng.randint(1, 4))]
    for _ in range(rng.randint(1, 3)):
        rng.choice(CHANGES)(parts, rng)
    if rng.random() < 0.15:
        metadata = rng.choice([None, *map(json.dumps, METADATA)])
    return _file(parts[:8], metadata, rng)[:max_size]


def _parts(raw: bytes) -> tuple[list[Part], str | None]:
    """Take a file apart; without parts where its header is not one of ours."""
    length = int.from_bytes(raw[:8], "little")
    try:
        pairs = json.loads(raw[8 : 8 + min(length, len(raw))], parse_int=Spelling, object_pairs_hook=list)
        entries = [(name, dict(entry)) for name, entry in pairs if name != "__metadata__"]
        parts = [
            {"name": name, "dtype": e["dtype"], "shape": list(map(_spelt, e["shape"])), "offsets": None}
            for name, e in entries
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return [], None
    metadata = [value for name, value in pairs if name == "__metadata__" and isinstance(value, list)]
    return parts, _object(metadata[0]) if metadata else None


def _object(pairs: list[Any]) -> str | None:
    try:
        return json.dumps(dict(pairs))
    except (ValueError, TypeError):
        return None


def _spelt(value: Any) -> str:
    return str(value) if isinstance(value, Spelling) else json.dumps(value)


def _sound_part(rng: random.Random) -> Part:
    shape = [str(rng.randint(0, 3)) for _ in range(rng.randint(0, 3))]
    return {"name": f"t{rng.randrange(10**6)}", "dtype": rng.choice(DTYPES[:3]), "shape": shape, "offsets": None}


def _change_number(parts: list[Part], rng: random.Random) -> None:
    shape = rng.choice(parts)["shape"] if parts else []
    if shape:
        shape[rng.randrange(len(shape))] = rng.choice(NUMBERS)


def _change_rank(parts: list[Part], rng: random.Random) -> None:
    shape = rng.choice(parts)["shape"] if parts else []
    if shape and rng.random() < 0.4:
        shape.pop(rng.randrange(len(shape)))
    else:
        shape.insert(rng.randint(0, len(shape)), rng.choice(NUMBERS))


def _change_name(parts: list[Part], rng: random.Random) -> None:
    if parts:
        rng.choice(parts)["name"] = rng.choice([*NAMES, rng.choice(parts)["name"]])


def _change_dtype(parts: list[Part], rng: random.Random) -> None:
    if parts:
        rng.choice(parts)["dtype"] = rng.choice(DTYPES)


def _change_offsets(parts: list[Part], rng: random.Random) -> None:
    if parts:
        rng.choice(parts)["offsets"] = [rng.choice(NUMBERS) for _ in range(rng.choice([1, 2, 2, 2, 2, 3]))]


def _add(parts: list[Part], rng: random.Random) -> None:
    parts.insert(rng.randint(0, len(parts)), _sound_part(rng))


def _remove(parts: list[Part], rng: random.Random) -> None:
    if parts:
        parts.pop(rng.randrange(len(parts)))


def _reorder(parts: list[Part], rng: random.Random) -> None:
    rng.shuffle(parts)


Change = Callable[[list[Part], random.Random], None]
CHANGES: list[Change] = [_change_number, _change_number, _change_rank, _change_name, _change_dtype, _change_offsets]
CHANGES += [_add, _remove, _reorder]


def _file(parts: list[Part], metadata: str | None, rng: random.Random) -> bytes:
    """Put a file together; offsets follow from the shapes, and each habit of a writer is broken once in a while."""
    members, start = [], 0
    for part in parts:
        stop = start + _size(part)
        offsets = part["offsets"] or [_respelt(start, rng), _respelt(stop, rng)]
        fields = [f'"dtype":{json.dumps(part["dtype"])}', f'"shape":[{",".join(part["shape"])}]']
        fields += [f'"data_offsets":[{",".join(offsets)}]'] + ['"more":1'] * _seldom(rng)
        rng.shuffle(fields)
        members.append(f"{_quoted(part['name'], rng)}:{rng.choice(SPACES)}{{{','.join(fields)}}}")
        start = stop
    if metadata is not None:
        members.insert(rng.randint(0, len(members)), f'"__metadata__":{metadata}')
    text = "{" + rng.choice(SPACES) + f",{rng.choice(SPACES)}".join(members) + rng.choice(SPACES) + "}"
    raw = text.encode(errors="surrogatepass") + b" " * rng.randint(0, 9)
    length = len(raw) + (rng.randint(-3, 3) if _seldom(rng) else 0)
    return struct.pack("<Q", max(0, length)) + raw + bytes(min(start, MOST_DATA)) + b"PK" * _seldom(rng)


def _size(part: Part) -> int:
    """Return the bytes of a shape as its spelling reads, 0 where it is none."""
    try:
        return max(0, math.prod(int(side) for side in part["shape"])) * ITEM_BYTES.get(str(part["dtype"]), 8)
    except ValueError:
        return 0


def _respelt(number: int, rng: random.Random) -> str:
    return "-0" if number == 0 and _seldom(rng) else str(number + (rng.randint(-2, 2) if _seldom(rng) else 0))


def _quoted(name: str, rng: random.Random) -> str:
    """Return the name as a JSON string, now and then with its first character as an escape."""
    if name and _seldom(rng):
        return f'"\\u{ord(name[0]):04x}{json.dumps(name[1:])[1:]}'
    return json.dumps(name, ensure_ascii=rng.random() < 0.5)


def _seldom(rng: random.Random) -> bool:
    return rng.random() < 0.04


def one_input(raw: bytes) -> None:
    """Hold one file against the property."""
    Counts.inputs += 1
    Counts.tell()
    Counts.path.write_bytes(raw)
    found = _verdict()
    if isinstance(found, ContainerError):
        assert found.code, "a refusal without a code"
        assert found.sentence, "a refusal without a sentence"
        return
    Counts.accepted += 1
    Counts.tell()
    _require_alike(found, raw)


def _verdict() -> Container | ContainerError:
    try:
        return read_container(Counts.path)
    except ContainerError as error:
        return error


def _require_alike(found: Container, raw: bytes) -> None:
    """Require that both doors of the library, for bytes and for files, see the tensors that we see."""
    ours = {tensor.name: (tensor.dtype, tensor.shape, tensor.stop - tensor.start) for tensor in found.tensors}
    theirs = {
        name: (entry["dtype"], tuple(entry["shape"]), len(entry["data"]))
        for name, entry in safetensors.deserialize(raw)
    }
    assert ours == theirs, f"read otherwise: {ours} and {theirs}"
    with safetensors.safe_open(Counts.path, "numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        opened = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
        assert (file.metadata() or {}) == found.metadata
    assert opened == {name: layout[:2] for name, layout in ours.items()}, f"opened otherwise: {opened}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0 takes another each time")
    parser.add_argument("--runs", type=int, default=-1, help="as many inputs, however long they take")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the child
    options = parser.parse_args()
    if options.folder:
        return fuzz(options)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        command = [sys.executable, "-m", "tests.fuzz.fuzz_container", "--folder", folder]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        command += ["--runs", str(options.runs)]
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
    limits = [
        f"-max_total_time={options.seconds}",
        f"-seed={options.seed}",
        f"-runs={options.runs}",
        "-max_len=4096",
        "-len_control=0",
    ]
    prefix = f"-artifact_prefix={Path.cwd() / 'fuzz-'}"
    atheris.Setup([sys.argv[0], *limits, prefix], one_input, custom_mutator=mutated)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
