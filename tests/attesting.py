"""Signed evidence for tests: a key of the institution, a signature, a privacy report with figures of one's choice."""

import hashlib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.kit import encoder, generator, keys, statements

BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")


def key_of(name: str) -> Ed25519PrivateKey:
    """Return the key that belongs to a name, always the same."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def signature(content: bytes, key: Ed25519PrivateKey, *, sha256: str = "") -> dict[str, Any]:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return statements.sign(statements.WEIGHTS, "weights.safetensors", digest, {"size_bytes": len(content)}, key)


def report(
    *, weights_sha256: str, copy_share: float = 0.05, auc: float = 0.52, calibrated: float = 0.55
) -> dict[str, Any]:
    """Return a report as the kit's privacy.report() writes it, with the figures that decide."""
    spread = dict.fromkeys(("q05", "q25", "q50", "q75", "q95"), 0.5)
    nearest = {
        "threshold": 0.5, "threshold_quantile": 0.95, "copies": round(100 * copy_share), "copy_share": copy_share,
        "nearer_to_train": 0.5, "generated_to_train": spread, "generated_to_held_out": spread,
        "held_out_to_train": spread,
    }  # fmt: skip
    attack = {"low": 0.4, "high": 0.6, "tpr_at_1_percent_fpr": 0.01}
    return {
        "base": {"slug": BASE.slug, "sha256": BASE.sha256},
        "weights_sha256": weights_sha256,
        "images": {"train": 520, "held_out": 50, "generated": 100},
        "copies": {"features": nearest, "perceptual_hash": nearest},
        "membership": {"loss": {"auc": auc, **attack}, "loss_less_base": {"auc": calibrated, **attack}},
        "dp": {"used": False},
        "method": {
            "kit_version": "0.2.0", "seed": 0, "most": 500, "sampling_seed": 20260, "sampling_steps": 20,
            "features": {"encoder": "efficientnet-lite0-imagenet", "sha256": encoder.LITE0_SHA256},
            "perceptual_hash": "pHash, 64 bits, mirrored or not",
            "loss": {"noise_steps": [200, 300, 400, 500, 600], "draws": 3, "seed": 0}, "device": "cpu",
        },
    }  # fmt: skip


def privacy(content: bytes, key: Ed25519PrivateKey, *, sha256: str = "", **figures: float) -> dict[str, Any]:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    facts = report(weights_sha256=digest, **figures)
    return statements.sign(statements.PRIVACY, "weights.safetensors", digest, facts, key)


def known(*signers: Ed25519PrivateKey) -> dict[str, bytes]:
    """Return keys as the checks take them: fingerprint to 32 bytes."""
    raw = [statements.public_bytes(key) for key in signers]
    return {statements.fingerprint(key): key for key in raw}


def public_text(name: str) -> str:
    return keys.public_text(key_of(name))


def registration(name: str, slug: str) -> str:
    """Return what registers the key of a name for an institution."""
    return keys.registration(key_of(name), slug)
