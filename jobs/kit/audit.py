"""
Verify the consortium's audit log offline: an export of it, an event's place in it, and that it only ever grew.

Everything hangs on checkpoints: notes in which the portal signed how many events its log had, and the root of the tree
over them (RFC 6962). Whoever keeps one finds every later change of what it covers. Nothing here opens a connection.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import merkle
from .findings import FAILS, HOLDS, UNKNOWN, Finding
from .notes import Checkpoint, NoteError, open_checkpoint

INCLUSION, CONSISTENCY = "consortium-inclusion/1", "consortium-consistency/1"
BLOCK_BYTES = 2**20
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Given:
    """What there is to verify: files, and the content of notes and proofs."""

    export: Path | None = None
    hashes: Path | None = None
    checkpoint: bytes | None = None
    earlier: Collection[bytes] = ()
    inclusion: bytes | None = None
    consistency: bytes | None = None


@dataclass
class Walk:
    """What one pass over an export found: how many lines, the roots at the sizes asked for, and single leaves."""

    size: int = 0
    roots: dict[int, bytes] = field(default_factory=dict)
    leaves: dict[int, bytes] = field(default_factory=dict)
    empty: int | None = None  # the first line without an event
    is_cut: bool = False  # the last line does not end


def verify(given: Given, *, keys: Collection[str]) -> list[Finding]:
    """Look at everything that is given; `keys` are the portal's public keys (base64)."""
    findings: list[Finding] = []
    latest = _opened(given.checkpoint, keys, "checkpoint", findings) if given.checkpoint is not None else None
    older = [found for note in given.earlier if (found := _opened(note, keys, "earlier checkpoint", findings))]
    if given.checkpoint is None and given.inclusion is None:
        sentence = "No checkpoint was given, so nothing says what the log should be now. Give one with --checkpoint."
        findings.append(Finding("checkpoint", UNKNOWN, sentence))
    proof = _read(given.inclusion, INCLUSION, findings) if given.inclusion is not None else None
    known = sorted({*older, *([latest] if latest else [])}, key=lambda found: found.size)
    walk = _walk(given.export, known, proof) if given.export else None
    findings += _agree(latest, older)
    if walk is not None and given.export is not None:
        findings += _export(walk, known, latest, given)
    if proof is not None:
        findings.append(_careful("inclusion", lambda: _inclusion(proof, latest, walk, keys)))
    if latest is not None and older and (walk is None or given.consistency is not None):
        findings += _consistency(given.consistency, older, latest, findings)
    return findings


def _opened(note: bytes, keys: Collection[str], name: str, findings: list[Finding]) -> Checkpoint | None:
    """Return the checkpoint in a note, once its signature is verified, and say so."""
    try:
        found = open_checkpoint(note, keys)
    except NoteError as error:
        findings.append(Finding(name, FAILS, str(error)))
        return None
    sentence = f"Signed by the portal's key: the log {found.origin} with {found.size} events."
    findings.append(Finding(name, HOLDS, sentence))
    return found


def _agree(latest: Checkpoint | None, older: list[Checkpoint]) -> Iterator[Finding]:
    """Compare what can be compared without the events: one log, growing, one root at each size."""
    roots = {(latest.origin, latest.size): latest.root} if latest else {}
    for found in older:
        if latest and found.origin != latest.origin:
            yield Finding("earlier checkpoint", FAILS, f"It is of another log: {found.origin}, not {latest.origin}.")
        elif latest and found.size > latest.size:
            sentence = (
                f"The log had {found.size} events and has {latest.size}: {found.size - latest.size} were cut off."
            )
            yield Finding("earlier checkpoint", FAILS, sentence)
        if roots.setdefault((found.origin, found.size), found.root) != found.root:
            sentence = f"Two different logs of {found.size} events were signed: the log was rewritten."
            yield Finding("earlier checkpoint", FAILS, sentence)


def _lines(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a file, some together, without their newlines; what follows the last newline comes alone."""
    rest = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            yield lines
    if rest:
        yield [rest, b"\n"]  # a line cannot hold a newline: the mark of one that did not end


def _walk(path: Path, known: list[Checkpoint], proof: dict[str, Any] | None) -> Walk:
    """Read an export once and note the root at the size of each checkpoint."""
    walk, tree, sha256 = Walk(), merkle.Tree(), hashlib.sha256
    stops = sorted({found.size for found in known})
    index = proof.get("index") if proof else None
    for lines in _lines(path):
        if lines[-1:] == [b"\n"]:
            walk.is_cut = bool(lines.pop())
        if walk.empty is None and b"" in lines:
            walk.empty = tree.size + lines.index(b"")
        hashes = [sha256(b"\0" + line).digest() for line in lines]
        if isinstance(index, int) and tree.size <= index < tree.size + len(hashes):
            walk.leaves[index] = hashes[index - tree.size]
        done = 0
        while stops and stops[0] <= tree.size + len(hashes) - done:
            step = stops.pop(0) - tree.size
            tree.add(hashes[done : done + step])
            done += step
            walk.roots[tree.size] = tree.root()
        tree.add(hashes[done:])
    walk.size = tree.size
    walk.roots.setdefault(tree.size, tree.root())
    return walk


def _export(walk: Walk, known: list[Checkpoint], latest: Checkpoint | None, given: Given) -> Iterator[Finding]:
    """Compare an export with every checkpoint, the smallest first, and say which lines differ."""
    good = 0
    for found in known:
        if found.size > walk.size:
            missing = found.size - walk.size
            sentence = f"It ends after line {walk.size}; {found.size} events were signed: {missing} are missing."
            yield Finding("export", FAILS, sentence)
            return
        if walk.roots[found.size] != found.root:
            yield Finding("export", FAILS, _where(walk, good, found, given))
            return
        good = found.size
    if walk.is_cut:
        yield Finding("export", FAILS, f"Line {walk.size} does not end: the file was cut or added to.")
    elif latest is not None and walk.size > latest.size:
        sentence = f"Lines {latest.size + 1} to {walk.size} are more than the {latest.size} events that were signed."
        yield Finding("export", FAILS, sentence)
    elif latest is not None:
        yield Finding("export", HOLDS, f"All {walk.size} lines are the events that were signed, in their order.")
    elif good:
        yield Finding("export", HOLDS, f"Lines 1 to {good} are as signed; of the rest nothing can be told.")


def _where(walk: Walk, good: int, found: Checkpoint, given: Given) -> str:
    """Say as exactly as possible which line is not what was signed."""
    start = f"Lines 1 to {good} are as signed, but" if good else "At least"
    if walk.empty is not None and good <= walk.empty < found.size:
        return f"{start} line {walk.empty + 1} is empty: its event is gone."
    if given.hashes and given.export and (index := _first_difference(given.export, given.hashes, found)) is not None:
        return f"{start} line {index + 1} is not the event that was signed: its hash differs."
    among = f"among lines {good + 1} to {found.size} one is not what was signed: changed, added, removed or moved."
    return f"{start} {among}"


def _first_difference(export: Path, hashes: Path, found: Checkpoint) -> int | None:
    """Return the first leaf that differs, if the list of leaf hashes is what the checkpoint signed."""
    try:
        signed = [_hash(line) for line in hashes.read_text("ascii").split()[: found.size]]
    except ValueError:  # no list of hashes, so not the one that was signed
        return None
    tree = merkle.Tree()
    tree.add(signed)
    if (tree.size, tree.root()) != (found.size, found.root):
        return None
    index = 0
    for lines in _lines(export):
        for line in lines:
            if index < found.size and merkle.leaf_hash(line) != signed[index]:
                return index
            index += 1
    return None


def _inclusion(proof: dict[str, Any], latest: Checkpoint | None, walk: Walk | None, keys: Collection[str]) -> Finding:
    """Test an inclusion proof against the signed tree of its size, and against the export."""
    note: list[Finding] = []
    signed = _opened(proof["checkpoint"].encode(), keys, "inclusion", note)
    if signed is None:
        return note[0]
    index, size, leaf = proof["index"], proof["size"], _hash(proof["leaf_hash"])
    if size != signed.size or latest and (latest.origin != signed.origin):
        return Finding("inclusion", FAILS, "The checkpoint in the proof is of another log or size than the proof.")
    if latest and latest.size == signed.size and latest.root != signed.root:
        return Finding("inclusion", FAILS, f"The proof is about another log of {size} events than the checkpoint.")
    if not merkle.includes(signed.root, size, index, leaf, [_hash(text) for text in proof["path"]]):
        return Finding("inclusion", FAILS, f"The path does not lead from leaf {index} to the root that was signed.")
    if walk is not None and walk.leaves.get(index) != leaf:
        return Finding("inclusion", FAILS, f"Line {index + 1} of the export is not the event that the proof is about.")
    return Finding("inclusion", HOLDS, f"Leaf {index}, {leaf.hex()}, is in the signed log of {size} events.")


def _consistency(
    content: bytes | None, older: list[Checkpoint], latest: Checkpoint, findings: list[Finding]
) -> Iterator[Finding]:
    """Test by a proof, where there is no export to compute it from, that the log only grew between two checkpoints."""
    proof = _read(content, CONSISTENCY, findings) if content is not None else None
    for found in older:
        if found.size < latest.size and proof is None:
            sentence = f"From {found.size} to {latest.size} events only an export or a proof (--consistency) tells."
            yield Finding("consistency", FAILS if content is not None else UNKNOWN, sentence)
        elif found.size < latest.size and proof is not None:
            yield _careful("consistency", lambda found=found: _grew(proof, found, latest))


def _grew(proof: dict[str, Any], found: Checkpoint, latest: Checkpoint) -> Finding:
    if (proof["earlier"], proof["later"]) != (found.size, latest.size):
        sentence = (
            f"The proof is from {proof['earlier']} to {proof['later']} events, not {found.size} to {latest.size}."
        )
        return Finding("consistency", UNKNOWN, sentence)
    steps = [_hash(text) for text in proof["proof"]]
    if not merkle.is_consistent((found.size, found.root), (latest.size, latest.root), steps):
        sentence = f"The log of {latest.size} events is not shown to begin with the {found.size} signed before."
        return Finding("consistency", FAILS, sentence)
    return Finding("consistency", HOLDS, f"The first {found.size} of {latest.size} events are those signed before.")


def _careful(name: str, check: Any) -> Finding:
    """Return what a check finds; where a field is missing or of another kind, the proof does not hold."""
    try:
        return check()
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        return Finding(name, FAILS, f"A field is missing or of the wrong kind ({type(error).__name__}: {error}).")


def _hash(text: str) -> bytes:
    if not _HASH.fullmatch(text):
        raise ValueError(f"{text!r} is not a SHA-256 in 64 hexadecimal digits")
    return bytes.fromhex(text)


def _read(content: bytes, schema: str, findings: list[Finding]) -> dict[str, Any] | None:
    """Return a proof; one that cannot be read does not hold."""
    try:
        proof = json.loads(content)
    except (ValueError, RecursionError):
        proof = None
    if isinstance(proof, dict) and proof.get("schema") == schema:
        return proof
    findings.append(Finding(schema.partition("/")[0][11:], FAILS, f"The file is not a proof of the form {schema}."))
    return None
