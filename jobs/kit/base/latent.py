"""
Make a base generator of the latent family from a Stable Diffusion checkpoint in the layout of diffusers.

    python -m consortium_kit.base.latent --checkpoint DIR --classes classes.json --slug sd-lora --licence SPDX --out DIR

DIR holds unet/, vae/, text_encoder/, tokenizer/ and scheduler/ as `save_pretrained` writes them. classes.json is
a list of {"name": …, "prompt": …}, the last one for an image that was not graded. Nothing is fetched, and the text
encoder runs once, here.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from .. import generator
from .train import CHECKS

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # the attention's projections, as Hu et al. 2021 section 5 chose
RANK = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--classes", type=Path, required=True)
    parser.add_argument("--slug", required=True)
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--licence", required=True, help="SPDX identifier of the checkpoint's licence")
    parser.add_argument("--rank", type=int, default=RANK)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    classes = json.loads(options.classes.read_text(encoding="utf-8"))
    unet, vae, scheduler = load_checkpoint(options.checkpoint)
    prompts = embed([row["prompt"] for row in classes], options.checkpoint)
    facts = {
        "slug": options.slug,
        "version": options.version,
        "title": f"{options.slug}, a latent diffusion model with adapters of rank {options.rank}",
        "licence": options.licence,
        "classes": [row["name"] for row in classes],
        "scheduler": scheduler,
    }
    write_base(options.out, unet, vae, prompts, rank=options.rank, **facts)


def load_checkpoint(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Return the UNet, the autoencoder, and what of the scheduler's settings training and sampling need."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: PLC0415 -- slow import

    local = {"local_files_only": True}
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **local)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", **local)
    settings = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", **local).config
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "steps_offset")
    return unet, vae, {name: settings[name] for name in names} | {"clip_sample": False}


def embed(prompts: list[str], folder: Path) -> Any:
    """Return the text encoder's last hidden states, (C, L, D), as Stable Diffusion conditions on them."""
    import torch  # noqa: PLC0415 -- slow import
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: PLC0415 -- slow import

    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True)
    encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", local_files_only=True).eval()
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return encoder(tokens.input_ids).last_hidden_state


def write_base(out: Path, unet: Any, vae: Any, prompts: Any, *, rank: int, **facts: Any) -> None:
    """Write model.safetensors, config.json and card.md of a base; `facts` are entries of config.json."""
    import torch  # noqa: PLC0415 -- slow import

    out.mkdir(parents=True, exist_ok=True)
    tensors = {f"unet.{name}": value for name, value in unet.state_dict().items()}
    tensors |= {f"vae.{name}": value for name, value in vae.state_dict().items()}
    generator.save_tensors({**tensors, "prompts": prompts}, out / "model.safetensors")
    raw_size, digest = (out / "model.safetensors").stat().st_size, _sha256(out / "model.safetensors")
    side = unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    config = {
        "family": "latent-lora",
        **facts,
        "sha256": digest,
        "size_bytes": raw_size,
        "dtype": "F16",
        "image_size": side,
        "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3, "range": [-1, 1], "crop": "field, square"},
        "architecture": {
            "unet": _settings(unet),
            "vae": _settings(vae),
            "lora": {"rank": rank, "alpha": rank, "targets": TARGETS},
        },
        "sampling_steps": generator.SAMPLING_STEPS,
        "checks": {**CHECKS, **generator.OF_ADAPTERS},
        "schema": {},
    }
    network = generator.load(generator.Base(out, config))
    with torch.no_grad():
        config["schema"] = generator.schema_of(network)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (out / "card.md").write_text(_card(config), encoding="utf-8")


def _settings(model: Any) -> dict[str, Any]:
    """Return a model's constructor arguments as JSON values."""
    kept = {name: value for name, value in dict(model.config).items() if not name.startswith("_")}
    return json.loads(json.dumps(kept))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card(config: dict[str, Any]) -> str:
    lora = config["architecture"]["lora"]
    return (
        f"# {config['slug']}, version {config['version']}\n\nA latent diffusion model that stays as it is; sites train "
        f"an adapter of rank {lora['rank']} in {', '.join(lora['targets'])} (Hu et al. 2021). Images of "
        f"{config['image_size']} x {config['image_size']} pixels. Licence of the checkpoint: {config['licence']}.\n"
    )


if __name__ == "__main__":
    main()
