"""
Shards: plain tar files of synthetic images, written in exactly one way, so that nothing can hide in them.

Every header follows from a member's name and size (POSIX.1-1988 ustar: regular file, no owner, date 0), every padding
byte is zero, and the archive ends where it must. Whatever else a tar may hold is refused. The layout is the one of
WebDataset: members in order, read in one pass.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from .errors import KitError

IMAGES_A_SHARD = 1_000
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
LARGEST_MANIFEST = 1 * 2**20
LARGEST_IMAGE = 16 * 2**20
_IMAGE_NAME = re.compile(r"images/\d{6,9}\.png")
AGAIN = "Send the shards as `consortium sign FOLDER` or `consortium contribute synthetic FOLDER` writes them."


class ShardError(KitError):
    """A tar that the kit did not write."""

    default_code = "shard_invalid"


def name_of(number: int) -> str:
    """Return the file name of shard `number`, from 0."""
    return f"synthetic-{number:05d}.tar"


def write(path: Path, members: Iterable[tuple[str, bytes]]) -> str:
    """Write (name, bytes) as a shard, through a temporary name; return its SHA-256. Equal members give equal bytes."""
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            archive.addfile(_member(name, len(data)), io.BytesIO(data))
    partial.replace(path)
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def read(path: Path) -> Iterator[tuple[str, bytes]]:
    """
    Yield (name, bytes) of each member: the manifest first, then images.

    Raises:
        ShardError: anything in the file is not as write() writes it; its text names the shard and the member.
    """
    with path.open("rb") as file:
        place = 0
        while any(block := file.read(tarfile.BLOCKSIZE)):
            name, size = _header(block, path, is_first=place == 0)
            data, padding = file.read(size), file.read(-size % tarfile.BLOCKSIZE)
            if len(data) != size or len(padding) != -size % tarfile.BLOCKSIZE:
                raise ShardError(f"{path.name} ends in the middle of {name}.", code="cut_short", fix=AGAIN)
            if any(padding):
                raise ShardError(f"{path.name} hides bytes behind {name}.", code="hidden_bytes", fix=AGAIN)
            place += tarfile.BLOCKSIZE + size + len(padding)
            yield name, data
        _require_end(path, file, place)


def _header(block: bytes, path: Path, *, is_first: bool) -> tuple[str, int]:
    """Return the name and the size that a header says, once it is the very one that write() gives them."""
    if len(block) != tarfile.BLOCKSIZE:
        raise ShardError(f"{path.name} is cut short.", code="cut_short", fix=AGAIN)
    try:
        found = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        canonical = _member(found.name, found.size).tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except (tarfile.HeaderError, ValueError):
        raise ShardError(f"{path.name} is no tar file of the kit.", code="not_a_shard", fix=AGAIN) from None
    wanted = MANIFEST if is_first else "images/000000.png and so on"
    if not (found.name == MANIFEST if is_first else _IMAGE_NAME.fullmatch(found.name)):
        raise ShardError(
            f"{path.name} holds {found.name[:80]!r} where it should hold {wanted}.", code="unknown_member", fix=AGAIN
        )
    if canonical != block:
        raise ShardError(
            f"{path.name} says more of {found.name} than its name and size: an owner, a date, a link or a folder.",
            code="header_not_plain",
            fix=AGAIN,
        )
    limit = LARGEST_MANIFEST if is_first else LARGEST_IMAGE
    if found.size > limit:
        raise ShardError(
            f"{found.name} in {path.name} has {found.size:,} bytes; at most {limit:,}.", code="too_large", fix=AGAIN
        )
    return found.name, found.size


def _require_end(path: Path, file: IO[bytes], place: int) -> None:
    """Raise ShardError unless the archive ends with two empty blocks, filled up to a whole record, and nothing else."""
    end = -(-(place + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    size = path.stat().st_size
    if place == 0:
        raise ShardError(f"{path.name} is empty.", code="empty", fix=AGAIN)
    if size < end:
        raise ShardError(f"{path.name} is cut short.", code="cut_short", fix=AGAIN)
    if size > end or any(file.read()):
        raise ShardError(f"{path.name} hides bytes behind its end.", code="hidden_bytes", fix=AGAIN)


def digest_of(listed: Sequence[tuple[str, str]]) -> str:
    """Return the SHA-256 of SHA256SUMS, as the portal writes it of a contribution's files: it names all at once."""
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in sorted(listed)).encode()).hexdigest()
