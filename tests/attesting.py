"""Signed evidence for tests: a key of the institution, a signature, a privacy report with figures of one's choice."""

import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.kit import keys, statements


def key_of(name: str) -> Ed25519PrivateKey:
    """Return the key that belongs to a name, always the same."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def signature(content: bytes, key: Ed25519PrivateKey, *, sha256: str = "") -> dict[str, Any]:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return statements.sign(statements.WEIGHTS, "weights.safetensors", digest, {"size_bytes": len(content)}, key)


def report(*, copy_share: float = 0.05, auc: float = 0.52, calibrated: float = 0.55) -> dict[str, Any]:
    """Return the figures of a report as the kit's privacy.report() writes them."""
    shares = {"copy_share": copy_share, "copies": round(64 * copy_share), "threshold": 0.7}
    attack = {"low": 0.4, "high": 0.6, "tpr_at_1_percent_fpr": 0.01}
    return {
        "copies": {"features": shares, "perceptual_hash": shares},
        "membership": {"loss": {"auc": auc, **attack}, "loss_less_base": {"auc": calibrated, **attack}},
        "images": {"train": 200, "held_out": 50, "generated": 64},
        "dp": {"used": False},
    }


def privacy(content: bytes, key: Ed25519PrivateKey, *, sha256: str = "", **figures: float) -> dict[str, Any]:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return statements.sign(statements.PRIVACY, "weights.safetensors", digest, report(**figures), key)


def known(*signers: Ed25519PrivateKey) -> dict[str, bytes]:
    """Return keys as the checks take them: fingerprint to 32 bytes."""
    raw = [statements.public_bytes(key) for key in signers]
    return {statements.fingerprint(key): key for key in raw}


def public_text(name: str) -> str:
    return keys.public_text(key_of(name))
