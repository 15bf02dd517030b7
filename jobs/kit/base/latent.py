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
import sys
from pathlib import Path
from typing import Any

from .. import generator
from ..errors import KitError
from .train import CHECKS

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # the attention's projections, as Hu et al. 2021 section 5 chose
RANK = 16
# What of a scheduler's settings decides how noise is put on, predicted and taken off; the rest is DDIM's default.
SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "steps_offset",
            "set_alpha_to_one", "timestep_spacing", "rescale_betas_zero_snr")  # fmt: skip
PREDICTIONS = {"epsilon", "v_prediction"}


class CheckpointError(KitError):
    """The checkpoint, or the list of classes, makes no base generator."""

    default_code = "checkpoint_unusable"


def main() -> int:
    try:
        return _make(_options())
    except KitError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--classes", type=Path, required=True)
    parser.add_argument("--slug", required=True)
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--licence", required=True, help="SPDX identifier of the checkpoint's licence")
    parser.add_argument("--rank", type=int, default=RANK)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _make(options: argparse.Namespace) -> int:
    if options.rank < 1:
        raise CheckpointError(f"A rank of {options.rank} is none.", fix=f"Give one of 1 or more, such as {RANK}.")
    if options.out.exists() and any(options.out.iterdir()):
        raise CheckpointError(
            f"{options.out} holds files already.", code="out_not_empty", fix="Choose another --out, or empty it."
        )
    classes = read_classes(options.classes)
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
    return 0


def read_classes(path: Path) -> list[dict[str, str]]:
    """
    Return the classes, each with its name and prompt.

    Raises:
        CheckpointError
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        found = [{key: row[key].strip() for key in ("name", "prompt")} for row in rows]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        fix = 'Write a list of {"name": "…", "prompt": "…"}, the last one for an image that was not graded.'
        raise CheckpointError(f"{path} is no list of classes ({type(error).__name__}: {error}).", fix=fix) from None
    names = {row["name"].casefold() for row in found if all(row.values())}
    if len(names) < len(found) or len(found) < 2:
        fix = "Give two or more, each with a name of its own and a prompt."
        raise CheckpointError(f"{path} names {len(names)} classes in {len(found)} rows.", fix=fix)
    return found


def load_checkpoint(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """
    Return the UNet, the autoencoder, and what of the scheduler's settings training and sampling need.

    Raises:
        CheckpointError
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: PLC0415 -- slow import

    unet, vae = _part(UNet2DConditionModel, folder, "unet"), _part(AutoencoderKL, folder, "vae")
    settings = _part(DDIMScheduler, folder, "scheduler").config
    if settings["trained_betas"] is not None or settings["prediction_type"] not in PREDICTIONS:
        sentence = f"{folder}/scheduler has betas of its own, or predicts {settings['prediction_type']}."
        fix = "Use a checkpoint that predicts epsilon or v_prediction, with a named beta_schedule."
        raise CheckpointError(sentence, fix=fix)
    return unet, vae, {name: settings[name] for name in SCHEDULE} | {"clip_sample": False}


def _part(kind: Any, folder: Path, name: str) -> Any:
    """Load one part of a checkpoint, whole: what lacks a tensor would get a random one."""
    has_weights = hasattr(kind, "parameters")
    try:
        found = kind.from_pretrained(
            folder, subfolder=name, local_files_only=True, **({"output_loading_info": True} if has_weights else {})
        )
    except Exception as error:  # every way in which a foreign folder can be wrong
        what = str(error).partition("\n")[0][:300]
        fix = "Give a folder with unet, vae, text_encoder, tokenizer and scheduler, as save_pretrained writes them."
        raise CheckpointError(f"{folder / name} cannot be read as a {kind.__name__} ({what}).", fix=fix) from None
    if not has_weights:
        return found
    network, told = found
    if lacking := sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]])):
        sentence = f"{folder / name} lacks {len(lacking)} tensors of a {kind.__name__}, the first is {lacking[0]}."
        raise CheckpointError(sentence, fix="Copy the checkpoint again, whole.")
    return network


def embed(prompts: list[str], folder: Path) -> Any:
    """
    Return the text encoder's last hidden states, (C, L, D), as Stable Diffusion conditions on them.

    Raises:
        CheckpointError
    """
    import torch  # noqa: PLC0415 -- slow import
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: PLC0415 -- slow import

    if not any((folder / "tokenizer" / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        fix = "Copy the folder tokenizer of the checkpoint: without it every word is the same unknown one."
        raise CheckpointError(f"{folder / 'tokenizer'} has no vocabulary.", fix=fix)
    tokenizer, encoder = _part(CLIPTokenizer, folder, "tokenizer"), _part(CLIPTextModel, folder, "text_encoder").eval()
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        found = encoder(tokens.input_ids).last_hidden_state
    if len(found.flatten(1).unique(dim=0)) < len(found):
        fix = f"Make them differ within the first {length} words and signs; see that tokenizer is the text encoder's."
        raise CheckpointError("Two prompts come out the same, so their classes would be one.", fix=fix)
    return found


def write_base(out: Path, unet: Any, vae: Any, prompts: Any, *, rank: int, **facts: Any) -> None:
    """
    Write model.safetensors, config.json and card.md of a base; `facts` are entries of config.json.

    Raises:
        CheckpointError: the parts do not fit each other.
    """
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
        try:
            _try(network, torch.zeros((1, *network.noise_shape)), torch.tensor([1]), torch.tensor([network.any_class]))
        except CheckpointError:
            (out / "model.safetensors").unlink()
            raise
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (out / "card.md").write_text(_card(config), encoding="utf-8")


def _try(network: Any, noise: Any, step: Any, label: Any) -> None:
    """Ask for one step, as every training and every image will: an inpainting or an SDXL model cannot give it."""
    try:
        predicted = network.eval().predict(noise, step, label)
        is_sound = predicted.shape == noise.shape and network.decode(predicted).isfinite().all()
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        is_sound, why = False, str(error).partition("\n")[0][:200]
    else:
        why = "what it predicts has another shape, or is not finite in 16 bits"
    if not is_sound:
        fix = "Use a text-to-image checkpoint of Stable Diffusion 1 or 2, its parts of one model."
        raise CheckpointError(f"The parts of the checkpoint do not make one step together ({why}).", fix=fix)


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
    sys.exit(main())
