"""Objects from the vault, kept on the worker's disk under their hash until nobody has used them for a while."""

import functools
import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from jobs.engine import PlatformFault
from portal import storage
from portal.programmes.models import BaseModel


def fetch(key: str, sha256: str) -> Path:
    """
    Return a local copy of a vault object whose SHA-256 is `sha256`.

    A copy that lay here before is hashed again, once in each worker's life: disks forget, and people edit.

    Raises:
        PlatformFault: the store gave other bytes.
    """
    path = settings.DATA_DIR / "cache" / sha256
    with suppress(FileNotFoundError):  # disk.tidy() may be at work
        os.utime(path, (time.time(), path.stat().st_mtime))  # its access time says when it was used
        if not _is_sound(path, path.stat().st_mtime_ns):
            path.unlink()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # a name of its own for each process
            partial = Path(folder) / "part"
            if download(storage.VAULT, key, partial) != sha256:
                raise PlatformFault(f"The vault's object {key} is not the one that was registered.")
            partial.rename(path)
    return path


@functools.cache
def _is_sound(path: Path, written_at: int) -> bool:
    """Test if a file has the SHA-256 that it is named by; `written_at` makes a changed file another question."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name


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
    folder.mkdir(parents=True, exist_ok=True)
    link(folder / "model.safetensors", fetch(base.storage_key, base.sha256))
    if base.reference_key:
        link(folder / "reference.safetensors", fetch(base.reference_key, base.reference_sha256))
    write(folder / "config.json", config)
    return folder


def link(path: Path, source: Path) -> None:
    """Give a cached file a second name; one of an earlier copy goes over to this one."""
    if not (path.exists() and path.samefile(source)):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            (Path(folder) / "link").hardlink_to(source)
            (Path(folder) / "link").replace(path)


def write(path: Path, text: str) -> None:
    """Write a small file whole, unless it says so already: who is killed meanwhile leaves no piece of it."""
    if not (path.exists() and path.read_text(encoding="utf-8", errors="replace") == text):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            (Path(folder) / "part").write_text(text, encoding="utf-8")
            (Path(folder) / "part").replace(path)
