"""An institution's signing key: ed25519, the private half in a file that only its owner can read."""

import base64
import os
import shlex
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from .errors import KitError
from .statements import public_bytes

REGISTRATION = "urn:consortium:signing-key:1"


class KeyFileError(KitError):
    """A key file is missing, there already, open to others, or no ed25519 key."""

    default_code = "key_unusable"


def config_folder() -> Path:
    """Return where key and token lie: consortium in XDG_CONFIG_HOME, else in ~/.config, on every system."""
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "consortium"
    except RuntimeError:  # no HOME, and a user whom the system does not know: a container's own
        fix = "Set HOME or XDG_CONFIG_HOME to a folder of your own."
        raise KitError("This user has no home folder for key and token.", code="no_home", fix=fix) from None


def default_path() -> Path:
    """Return where the key lies unless told otherwise: CONSORTIUM_KEY, or the folder of the configuration."""
    named = os.environ.get("CONSORTIUM_KEY")
    return Path(named) if named else config_folder() / "signing-key.pem"


def create(path: Path, passphrase: str = "") -> Ed25519PrivateKey:
    """
    Make a key and write it (PKCS #8 PEM, RFC 5958), readable by its owner alone; an existing file is never touched.

    Args:
        passphrase: encrypts the file; empty leaves it to the file's permissions.
    Raises:
        KeyFileError: code key_exists, or key_empty where a full disk left a file without a key.
    """
    key = Ed25519PrivateKey.generate()
    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.is_file() and not path.stat().st_size:
            raise _empty(path) from None
        fix = "Use it, or give another place with --key. A key that is lost cannot sign again."
        raise KeyFileError(f"{path} holds a key already.", code="key_exists", fix=fix) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    except BaseException:
        path.unlink()  # ours, and half a key at most: nothing was ever signed with it
        raise
    return key


def _empty(path: Path) -> KeyFileError:
    fix = f"Nothing was lost: remove it (rm {shlex.quote(str(path))}) and run `consortium keys new`."
    return KeyFileError(f"{path} is empty: it holds no key.", code="key_empty", fix=fix)


def load(path: Path, passphrase: str = "") -> Ed25519PrivateKey:
    """
    Read a key file.

    Raises:
        KeyFileError: code key_missing, key_empty, key_open_to_others, passphrase_wrong or key_unusable.
    """
    try:
        is_open = path.stat().st_mode & 0o077
        content = path.read_bytes()
    except OSError as error:
        fix = "Make one with `consortium keys new`, then let the signing official register it."
        raise KeyFileError(
            f"There is no signing key in {path} ({error.strerror}).", code="key_missing", fix=fix
        ) from None
    if not content:
        raise _empty(path)
    if is_open:
        run = f"chmod 600 {shlex.quote(str(path))}"
        fix = f"Run: {run}. If others may have read it, revoke the key at the portal and make another."
        raise KeyFileError(f"{path} can be read by other users of this machine.", code="key_open_to_others", fix=fix)
    try:
        key = load_pem_private_key(content, passphrase.encode() if passphrase else None)
    except TypeError:
        fix = "Give it in CONSORTIUM_KEY_PASSPHRASE." if not passphrase else "Unset CONSORTIUM_KEY_PASSPHRASE."
        raise KeyFileError(f"The passphrase does not fit {path}.", code="passphrase_wrong", fix=fix) from None
    except (ValueError, UnsupportedAlgorithm):
        fix = "Check CONSORTIUM_KEY_PASSPHRASE, or make another key with `consortium keys new`."
        raise KeyFileError(f"{path} cannot be read as a private key.", code="key_unusable", fix=fix) from None
    if not isinstance(key, Ed25519PrivateKey):
        fix = "Make one with `consortium keys new`."
        raise KeyFileError(f"{path} holds a key of another kind; ed25519 is needed.", code="key_unusable", fix=fix)
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """Return the public half as the portal takes it: 32 bytes in base64, 44 characters."""
    return base64.b64encode(public_bytes(key)).decode()


def registration(key: Ed25519PrivateKey, institution: str) -> str:
    """
    Return the line with which a signing official registers the key: its public half, and a proof that they hold it.

    The proof of possession (RFC 4211, section 4) is a signature of the institution's slug, so that nobody registers a
    public key that they have seen elsewhere, nor this line for another institution.
    """
    proof = key.sign(f"{REGISTRATION} {institution}".encode())
    return f"{public_text(key)}.{base64.b64encode(proof).decode()}"
