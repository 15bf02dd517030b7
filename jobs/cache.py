"""Objects of our own from the vault, kept on the worker's disk under their hash."""

import hashlib
import json
import tempfile
from pathlib import Path

from django.conf import settings

from jobs.engine import PlatformFault
from portal import storage
from portal.programmes.models import BaseModel


def fetch(key: str, sha256: str) -> Path:
    """
    Return a local copy of a vault object whose SHA-256 is `sha256`.

    Raises:
        PlatformFault: the store gave other bytes.
    """
    path = settings.DATA_DIR / "cache" / sha256
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # a name of its own for each process
            partial = Path(folder) / "part"
            if download(storage.VAULT, key, partial) != sha256:
                raise PlatformFault(f"The vault's object {key} is not the one that was registered.")
            partial.rename(path)
    return path


def download(bucket: str, key: str, path: Path) -> str:
    """Write an object to a file in one pass and return its SHA-256 (hex)."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for block in storage.stream(bucket, key):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def base_folder(base: BaseModel) -> Path:
    """Return a folder with a base generator's config.json, weights and public reference, as the kit reads it."""
    config = json.dumps(base.effective_config(), sort_keys=True)
    digest = hashlib.sha256(config.encode()).hexdigest()
    folder = settings.DATA_DIR / "cache" / f"base-{base.sha256}-{digest[:16]}"  # a programme may change its thresholds
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        model = folder / "model.safetensors"
        if not model.exists():
            model.hardlink_to(fetch(base.storage_key, base.sha256))
        reference = folder / "reference.safetensors"
        if base.reference_key and not reference.exists():
            reference.hardlink_to(fetch(base.reference_key, base.reference_sha256))
        (folder / "config.json").write_text(config, encoding="utf-8")
    return folder
