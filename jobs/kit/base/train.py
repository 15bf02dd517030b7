"""
Train a base generator of the pixel family from nothing, on the photographs of one folder: fundus-64, or another.

    python -m jobs.kit.base.train IMAGES --out jobs/kit/base/fundus-64 --steps 4000
    python -m jobs.kit.base.train IMAGES --out derm-32 --slug derm-32 --side 32 --classes naevus melanoma "not graded"

IMAGES is a folder with images/ and labels.csv; only rows of the split "train" are used, so that no photograph of the
benchmark is seen. Thresholds under `checks` are those of fundus photographs: measure what yours are, and write them
into config.json, where they stay when it is trained again, as does `probe`. Every checkpoint rewrites
model.safetensors and config.json, so the run can be stopped at any time.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from .. import fit, generator, images

# Why these numbers: see the docstrings in checks.py.
CHECKS = {
    "max_header_bytes": 16 * 1024 * 1024,
    "max_tensors": 4096,
    "samples": 64,
    "seed": 20260,
    "min_contrast": 0.04,
    "min_brightness": 0.12,
    "max_corner_ratio": 0.4,
    "min_warmth": 0.2,
    "min_smoothness": 0.6,
    "min_fundus_like": 0.5,
    "warn_fundus_like": 0.8,
    "duplicate_distance": 0.03,
    "max_near_duplicates": 0.2,
    "warn_near_duplicates": 0.02,
    **generator.THRESHOLDS,
}
CLASSES = ["no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "PDR", "not graded"]


def export(state: fit.TrainingState, out: Path, training: dict[str, float], about: dict[str, Any]) -> None:
    """Write the averaged weights and the config that describes them."""
    weights = out / "model.safetensors"
    fit.save_average(state, weights)
    raw = weights.read_bytes()
    config = {
        **about,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "size_bytes": len(raw),
        "dtype": "F16",
        "patch": generator.PATCH,
        "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "range": [-1, 1], "crop": "field, square"},
        "scheduler": generator.SCHEDULER,
        "sampling_steps": generator.SAMPLING_STEPS,
        "checks": CHECKS,
        **_by_hand(out),
        "training": training | {"steps": state.step, "final_loss": round(state.loss, 5)},
        "schema": generator.schema_of(state.model),
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _by_hand(out: Path) -> dict[str, Any]:
    """Keep what was written by hand into an earlier config.json."""
    path = out / "config.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: held[name] for name in ("checks", "probe") if name in held}


def _about(options: argparse.Namespace) -> dict[str, Any]:
    """Return what config.json says of the base beside its weights and its training."""
    shape = {"sample_size": options.side // generator.PATCH, "num_class_embeds": len(options.classes)}
    return {
        "slug": options.slug,
        "version": options.version,
        "title": options.title,
        "licence": options.licence,
        "image_size": options.side,
        "classes": list(options.classes),
        "architecture": generator.ARCHITECTURE | shape,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--slug", default="fundus-64")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--title", default="Colour fundus photographs, 64 x 64 pixels")
    parser.add_argument("--licence", default="CC-BY-NC-4.0", help="SPDX identifier")
    parser.add_argument("--classes", nargs="+", default=CLASSES, help="the last for what nobody graded")
    parser.add_argument("--side", type=int, default=64, help="pixels, a multiple of 16")
    options = parser.parse_args()

    import torch  # noqa: PLC0415 -- slow import

    config = fit.FitConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=100,
        final_learning_rate=0.05,
        seed=options.seed,
        checkpoint_every=200,
        device=options.device,
    )
    photographs = images.without_duplicates(images.read_folder(options.images, split="train"))
    classes = images.classes_of(photographs, options.classes)
    squares = images.load_squares(photographs, options.side)
    about = _about(options)
    training = {
        "images": len(photographs),
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
    }
    torch.manual_seed(config.seed)  # the fresh weights
    model = generator.build(about["architecture"])
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def report(done: int, total: int, text: str) -> None:
        if done % 50 == 0:
            print(f"{time.monotonic() - started:7.0f} s  {done}/{total}  {text}", file=sys.stderr, flush=True)

    state = fit.train(
        model,
        generator.SCHEDULER,
        squares,
        classes,
        config,
        state_path=options.out / "state.safetensors",
        on_progress=report,
        on_checkpoint=lambda state: export(state, options.out, training, about),
    )
    export(state, options.out, training, about)
    (options.out / "state.safetensors").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
