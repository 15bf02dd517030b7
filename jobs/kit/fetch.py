"""
Files of a release, from the portal's object store: resumable, verified by SHA-256 before they get their name.

The portal answers each request with a short-lived address of the store; the token is for the portal only.
"""

import hashlib
import os
import re
import shutil
import time
from pathlib import Path

import urllib3

from . import terminal
from .client import PLATFORM_FAULT, RETRIES, USER_AGENT, Document, Portal
from .transfer import BLOCK_BYTES, Broken, Progress, TransferError, hash_file, pause_seconds, refused, to_store

CHECKSUMS = "SHA256SUMS"


def download(
    portal: Portal,
    path: str,
    target: Path | str,
    *,
    size_bytes: int,
    sha256: str,
    on_progress: Progress | None = None,
) -> None:
    """
    Fetch one file to `target`, which exists only once all its bytes are there and right.

    Args:
        path: at the portal, /dl/<slug>/<name>; each attempt asks it for a fresh address.
        target: until the end the bytes are in `<target>.part`, and a later call goes on from there.
        sha256: hexadecimal.
    Raises:
        TransferError: five attempts in a row brought nothing, the disk is full, or the bytes are not those promised.
    """
    target = Path(target)
    with _Partial(target.with_name(f"{target.name}.part"), size_bytes) as partial:
        failures = 0
        while partial.done < size_bytes:
            before = partial.done
            try:
                _receive(portal, path, partial, on_progress, f"Fetching {target.name}")
            except Broken as error:
                failures = 1 if partial.done > before else failures + 1
                if failures >= RETRIES:
                    raise TransferError(
                        f"{target.name} could not be fetched: {error}.",
                        fix="Run the same command again; what has arrived is kept.",
                        exit_code=PLATFORM_FAULT,
                    ) from None
                if not error.expired:
                    time.sleep(max(error.after, pause_seconds(failures, portal.backoff_seconds)))
        found = partial.digest.hexdigest()
    if found != sha256:
        partial.path.unlink()
        raise TransferError(
            f"{target.name} arrived damaged: its SHA-256 is {found} instead of {sha256}. It was removed.",
            code="checksum_mismatch",
            fix="Run the same command again; tell the consortium if it repeats.",
            exit_code=PLATFORM_FAULT,
        )
    partial.path.replace(target)


class _Partial:
    """The bytes of a file that have arrived, and their running SHA-256."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path, self.size_bytes = path, size_bytes

    def __enter__(self) -> "_Partial":
        self.file = self.path.open("a+b")
        self.digest, self.done = hashlib.sha256(), 0
        if self.path.stat().st_size > self.size_bytes:
            self.restart()
        self.file.seek(0)
        while block := self.file.read(BLOCK_BYTES):
            self.digest.update(block)
            self.done += len(block)
        missing, free = self.size_bytes - self.done, shutil.disk_usage(self.path.parent).free
        if missing > free:
            self.file.close()
            raise TransferError(
                f"{missing:,} bytes are missing and {self.path.parent} has room for {free:,}.",
                code="disk_full",
                fix="Make room, or choose another folder.",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def write(self, block: bytes) -> None:
        self.file.write(block)  # opened for appending: always at the end
        self.digest.update(block)
        self.done += len(block)

    def restart(self) -> None:
        self.file.truncate(0)
        self.digest, self.done = hashlib.sha256(), 0


def _receive(portal: Portal, path: str, partial: _Partial, on_progress: Progress | None, text: str) -> None:
    """Fetch from where the partial file ends until the connection does."""
    answer = portal.request("GET", path)
    if answer.status not in {302, 303, 307}:
        raise portal.problem(answer)
    url = portal.absolute(answer.headers["Location"])
    headers = {"Range": f"bytes={partial.done}-", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    response = to_store("GET", url, headers=headers, preload_content=False)
    try:
        if response.status not in {200, 206}:
            refused(response)
        if not _is_of_the_file(response, partial):
            raise Broken("something else came in its place, as a proxy's page does")
        if response.status == 200 and partial.done:
            partial.restart()  # the store does not know ranges
        while block := response.read1(BLOCK_BYTES):
            partial.write(block)
            if partial.done > partial.size_bytes:
                partial.restart()
                raise Broken("the store sent more bytes than the file has")
            if on_progress is not None:
                on_progress(partial.done, partial.size_bytes, text)
    except urllib3.exceptions.HTTPError as error:
        raise Broken(f"the connection broke off ({type(error).__name__})") from None
    finally:
        response.close()
    if partial.done < partial.size_bytes:
        raise Broken("the connection ended early")


def _is_of_the_file(response: urllib3.BaseHTTPResponse, partial: _Partial) -> bool:
    """Test by length and type if an answer is the rest of the file, or all of it; else what has arrived is spoilt."""
    wanted = str(partial.size_bytes - (partial.done if response.status == 206 else 0))
    is_page = response.headers.get("Content-Type", "").startswith("text/html")
    return response.headers.get("Content-Length", wanted) == wanted and not is_page


def download_release(
    portal: Portal, release: Document, out_dir: Path | str, *, on_progress: Progress | None = None
) -> list[Path]:
    """
    Fetch all files of a release (one of Portal.models()) and verify each by the release's SHA256SUMS.

    Files that are there already and right are not fetched again.

    Raises:
        TransferError: see download(); also when the list of files and SHA256SUMS disagree.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    files = {_plain_name(file["name"]): file for file in release["files"]}
    if CHECKSUMS not in files:
        raise TransferError(f"{release['slug']} has no {CHECKSUMS}.", code="checksums_missing")
    _fetch(portal, files.pop(CHECKSUMS), out_dir, on_progress)
    sums = read_checksums((out_dir / CHECKSUMS).read_text(encoding="utf-8"))
    for name, file in files.items():
        if sums.get(name) != file["sha256"]:
            raise TransferError(
                f"{CHECKSUMS} and the portal's list of files disagree about {name}.",
                code="checksums_disagree",
                fix="Do not use the files; tell the consortium.",
            )
        _fetch(portal, file, out_dir, on_progress)
    return [out_dir / name for name in [*files, CHECKSUMS]]


def download_base(portal: Portal, row: Document, out_dir: Path, *, on_progress: Progress | None = None) -> None:
    """
    Fetch a base generator (one of Portal.base_models()) as a folder: config.json and model.safetensors.

    Raises:
        TransferError: see download(); also when the folder holds another one.
    """
    target, config = out_dir / "model.safetensors", out_dir / "config.json"
    is_another = target.exists() and hash_file(target).sha256 != row["sha256"]
    if is_another or (config.exists() and not target.exists()):
        raise TransferError(
            f"{out_dir} holds another base generator.", code="out_not_empty", fix="Choose another --out."
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    file = {"name": target.name, "url": row["download_url"], "size_bytes": row["size_bytes"], "sha256": row["sha256"]}
    _fetch(portal, file, out_dir, on_progress)
    terminal.write_json(config, row["config"])


def read_checksums(text: str) -> dict[str, str]:
    """Return name -> SHA-256 of a list that `sha256sum` wrote."""
    rows = re.findall(r"^([0-9a-f]{64}) [ *](.+)$", text, re.MULTILINE)
    return {name: digest for digest, name in rows}


def _fetch(portal: Portal, file: Document, out_dir: Path, on_progress: Progress | None) -> None:
    target = out_dir / file["name"]
    if target.is_file() and target.stat().st_size == file["size_bytes"] and hash_file(target).sha256 == file["sha256"]:
        return
    download(
        portal,
        file["url"],
        target,
        size_bytes=file["size_bytes"],
        sha256=file["sha256"],
        on_progress=on_progress,
    )


def _plain_name(name: str) -> str:
    """Refuse a name that would leave the folder it is written to."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}", name):
        raise TransferError(f"The portal names a file {name!r}, which is no plain name.", code="name_unsafe")
    return name
