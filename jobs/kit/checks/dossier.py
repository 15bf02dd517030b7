"""What came beside a file: the training card, the signature, the privacy report, and what they are held against."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..scan import sha256_of
from .numerics import Layers
from .sites import Others, load_others


@dataclass(frozen=True)
class Dossier:
    """
    Everything about a file that is not in it. None where it was not given.

    keys: fingerprint to public key, 32 bytes, of every key in force of the institution; None where nobody knows them
    (a site checks offline).
    peers: see numerics.check_numerics().
    known_sha256: of the file, where somebody trusted has hashed it already; of shards, that of their SHA256SUMS.
    elsewhere: SHA-256 of other institutions' checked weights, which are no generator of this one's; none at a site.
    others: images of other sites' accepted contributions, for checks 7 and 10; none at a site.
    salt: of what is chosen at random; the centre's is drawn for each run, so that nobody can choose by it.
    is_complete: what is missing is missing for good (the centre), and not merely not given here (a site).
    """

    card: dict[str, Any] | None = None
    signature: Any = None
    privacy: Any = None
    keys: Mapping[str, bytes] | None = None
    peers: tuple[Layers, ...] = field(default=())
    is_complete: bool = False
    known_sha256: str = ""
    salt: str = ""
    elsewhere: frozenset[str] = frozenset()
    others: Others = field(default=Others())

    def sha256(self, path: Path | str) -> str:
        """Return the file's SHA-256; the centre knows it from the transfer and reads no large file for it again."""
        return self.known_sha256 or sha256_of(path)


def load_dossier(path: Path, others: Path | None = None) -> Dossier:
    """Read what the portal wrote for its checks: one JSON file of these fields, keys in base64, and a folder."""
    given = json.loads(path.read_text(encoding="utf-8"))
    keys = {name: base64.b64decode(key) for name, key in given["keys"].items()}
    return Dossier(
        card=given["card"],
        signature=given["signature"],
        privacy=given["privacy"],
        keys=keys,
        peers=tuple(given["peers"]),
        is_complete=True,
        known_sha256=given["sha256"],
        salt=given["salt"],
        elsewhere=frozenset(given["elsewhere"]),
        others=load_others(others) if others else Others(),
    )
