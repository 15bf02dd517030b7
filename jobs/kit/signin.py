"""Signing in to a portal by device code, and where the token is kept."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import keys
from .client import PLATFORM_FAULT, Document, Portal, PortalError, Unreachable, site_of
from .errors import KitError


@dataclass(frozen=True)
class Credentials:
    """Where somebody is signed in."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Credentials({self.url!r})"


def sign_in(portal: Portal, client_name: str, on_code: Callable[[Document], None]) -> str:
    """
    Sign in by device code and return the token: a person approves the code in a browser, on any machine.

    Args:
        client_name: shown to that person, and in the list of tokens.
        on_code: gets user_code and verification_url, to be shown.
    Raises:
        PortalError: code denied, or expired when nobody approved in time.
    Source: RFC 8628, sections 3.2 to 3.5.
    """
    login = portal.begin_device_login(client_name)
    on_code({**login, "verification_url": portal.absolute(login["verification_url"])})
    interval = float(login["interval_seconds"])
    deadline = time.monotonic() + float(login["expires_in_seconds"])
    while True:
        time.sleep(interval)
        try:
            return portal.redeem_device_login(login["device_code"])
        except (Unreachable, PortalError) as error:
            is_pause = error.exit_code == PLATFORM_FAULT  # a network or a portal that pauses: the person is still there
            if error.code == "slow_down":
                interval += 5
            elif not (error.code == "authorization_pending" or (is_pause and time.monotonic() < deadline)):
                raise


def credentials_path() -> Path:
    """Return the file of the saved token, in the user's configuration folder."""
    return keys.config_folder() / "credentials.json"


def require_place() -> None:
    """Make the folder of the token and try writing there: before a person approves the code, not after it."""
    folder = credentials_path().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def save_credentials(credentials: Credentials) -> Path:
    """Save the token for this user alone (mode 0600) and return the file's path."""
    path = credentials_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({"url": credentials.url, "token": credentials.token}, file)
    fresh.replace(path)
    return path


def saved_credentials() -> Credentials | None:
    """Return what save_credentials() saved, or None."""
    try:
        saved = json.loads(credentials_path().read_text(encoding="utf-8"))
        return Credentials(str(saved["url"]), str(saved["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise KitError(
            f"{credentials_path()} cannot be read.", code="credentials_unreadable", fix="Remove it and log in again."
        ) from None


def signed_in(*, required: bool = True) -> Portal:
    """
    Return the portal where this user is signed in; CONSORTIUM_URL and CONSORTIUM_TOKEN go before the saved ones.

    A saved token is only ever sent to the portal that gave it.

    Raises:
        KitError: nobody is signed in; with `required` false only when no portal is known either.
    """
    saved = saved_credentials()
    url = site_of(os.environ.get("CONSORTIUM_URL") or (saved.url if saved else "") or _not_signed_in())
    token = os.environ.get("CONSORTIUM_TOKEN", "").strip() or (saved.token if saved and saved.url == url else "")
    if required and not token:
        _not_signed_in()
    return Portal(url, token)


def _not_signed_in() -> str:
    raise KitError(
        "You are not signed in to a portal.",
        code="not_signed_in",
        fix="Run `consortium login --url https://…`, or set CONSORTIUM_URL and CONSORTIUM_TOKEN.",
    )
