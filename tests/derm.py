"""A base generator of dermatoscopy for tests: three classes, 32 pixels, random but for its shape."""

import hashlib
import json
from pathlib import Path

import torch

from jobs.kit import generator
from jobs.kit.base import train as base_train

NAMES = ["naevus", "melanoma", "not graded"]
SIDE = 32
ARCHITECTURE = generator.ARCHITECTURE | {
    "sample_size": SIDE // generator.PATCH, "block_out_channels": [16, 32], "attention_head_dim": 16,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "num_class_embeds": len(NAMES),
}  # fmt: skip
CHECKS = base_train.CHECKS | {"max_corner_ratio": 9.0, "min_warmth": -1.0, "min_smoothness": -1.0}


def write_base(folder: Path, **changed) -> generator.Base:
    """Write its folder; `changed` are other entries of config.json."""
    folder.mkdir(exist_ok=True)
    (folder / "card.md").write_text("# derm-32\n")
    torch.manual_seed(0)
    model = generator.build(ARCHITECTURE)
    generator.save_weights(model, folder / "model.safetensors")
    raw = (folder / "model.safetensors").read_bytes()
    config = {
        "slug": "derm-32", "version": "1.0.0", "licence": "CC0-1.0", "sha256": hashlib.sha256(raw).hexdigest(),
        "size_bytes": len(raw), "image_size": SIDE, "classes": NAMES, "architecture": ARCHITECTURE,
        "scheduler": generator.SCHEDULER, "sampling_steps": 3, "checks": CHECKS,
        "schema": generator.schema_of(model), "probe": {"label": "melanoma", "classes": ["Melanoma"]},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changed))
    return generator.load_base(folder)
