"""Encryption at rest of what makes second-factor codes: a copy of the database alone makes none."""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

__all__ = ["InvalidToken", "decrypt", "encrypt"]
PURPOSE = b"portal.accounts second factor, version 1"


@lru_cache(maxsize=8)
def _fernet(secret: str) -> Fernet:
    """Return the cipher of one SECRET_KEY: its own key, derived by HKDF (RFC 5869)."""
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))


def _cipher() -> MultiFernet:
    return MultiFernet([_fernet(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def encrypt(text: str) -> str:
    """Return the text under the key of today."""
    return _cipher().encrypt(text.encode()).decode("ascii")


def decrypt(token: str) -> str:
    """Return the text; raises cryptography's InvalidToken where no key that we know made it."""
    return _cipher().decrypt(token.encode("ascii")).decode()
