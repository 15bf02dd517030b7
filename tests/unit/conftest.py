"""What the tests of the command `consortium` stand on: a portal on this machine, sound weights, nobody signed in."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jobs.kit import cli_portal, transfer
from tests import hostile, loopback

CHECK = {"number": 1, "name": "container", "verdict": "pass", "sentence": "Well formed.", "fix": ""}


@pytest.fixture
def site(nobody_signed_in, monkeypatch):
    with loopback.serve(part_size_bytes=transfer.PART_SIZE_BYTES) as site:
        site.checks = [CHECK]
        monkeypatch.setenv("CONSORTIUM_URL", site.portal_url)
        monkeypatch.setenv("CONSORTIUM_TOKEN", loopback.TOKEN)
        monkeypatch.setattr(cli_portal, "POLL_SECONDS", 0.0)
        yield site


@pytest.fixture
def nobody_signed_in(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("URL", "TOKEN", "DEBUG", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"CONSORTIUM_{name}", raising=False)


@pytest.fixture
def weights(tmp_path):
    """The base, a little changed: sound weights without training."""
    path = tmp_path / "weights.safetensors"
    changed = {name: (value * np.float16(1.01)).astype(value.dtype) for name, value in load_file(hostile.BASE).items()}
    save_file(changed, path, {"format": "pt"})
    return path
