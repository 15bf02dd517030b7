"""
Write reference.safetensors of a base generator: public photographs that it never saw, and their features.

    python -m jobs.kit.base.reference IMAGES --base jobs/kit/base/fundus-64

IMAGES is a folder with images/ and labels.csv; rows of the split "train" are left out. Checks 8 to 11 compare with it.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from .. import copies, images


def write(folder: Path, base_dir: Path) -> dict[str, object]:
    """Write the file, put its hash into config.json, and return what was put there."""
    path = base_dir / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in images.without_duplicates(images.read_folder(folder)) if row.labels.get("split") != "train"]
    pixels = images.load_squares(rows, config["image_size"])
    patients = np.unique([row.patient or row.path.name for row in rows], return_inverse=True)[1]
    tensors = {
        "pixels": pixels,
        "features": copies.features(pixels).astype(np.float16),
        "classes": images.classes_of(rows, config["classes"]).astype(np.uint8),
        "patients": patients.astype(np.int32),
    }
    target = base_dir / "reference.safetensors"
    save_file(tensors, target)
    raw = target.read_bytes()
    facts = {"sha256": hashlib.sha256(raw).hexdigest(), "size_bytes": len(raw), "photographs": len(rows)}
    config["reference"] = facts
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    options = parser.parse_args()
    print(json.dumps(write(options.images, options.base)))


if __name__ == "__main__":
    main()
