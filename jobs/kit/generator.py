"""
Generators: class-conditional diffusion models that a site fine-tunes.

Two families share everything here: `pixels` (pixels.py), trained whole, and `latent-lora` (latent.py), a frozen latent
diffusion model with an adapter. A network of either has noise_shape, any_class, encode(), decode(), predict(), facts().
"""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import SchemaError
from .scan import sha256_of

if TYPE_CHECKING:
    import torch
    from diffusers import DDIMScheduler

    from .latent import LatentNetwork
    from .pixels import PixelNetwork

    Network: TypeAlias = PixelNetwork | LatentNetwork

PATCH = 2  # pixels, see ARCHITECTURE

# The network sees patches of 2 x 2 pixels as 12 channels at 32 x 32, a third of the cost of 64 x 64 on a CPU (space to
# depth, as in Hoogeboom et al. 2023, arXiv:2301.11093). Attention only at 8 x 8: at 64 x 64 it would cost six times the
# rest.
ARCHITECTURE: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 12,
    "out_channels": 12,
    "layers_per_block": 1,
    "block_out_channels": [48, 80, 112],
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "attention_head_dim": 28,
    "norm_num_groups": 16,
    "num_class_embeds": 6,
}

# v-prediction (Salimans & Ho 2022, arXiv:2202.00512, section 4) on the cosine schedule (Nichol & Dhariwal 2021,
# arXiv:2102.09672, equation 17), rescaled to a terminal SNR of zero with trailing steps (Lin et al. 2023,
# arXiv:2305.08891, algorithm 1 and section 3.3): the darkest and brightest cameras can be reached from pure noise.
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": True,
}
SAMPLING_STEPS = 20

# Thresholds that a base generator's config.json may leave out, because it was registered before the check existed.
# Privacy: DESIGN.md section 5 (AUC 0.60 and 0.70); the others: what base/fundus-64/card.md reports.
THRESHOLDS: dict[str, float] = {
    "min_change": 1e-5,  # |w - base| / |base|: a number's lowest bit is 6e-6 of fundus-64, 1 % of its least layer 2e-5
    "warn_robust_z": 6.0,
    "warn_kid": 0.5,
    "warn_copy_share": 0.15,
    "max_copy_share": 0.3,
    "warn_membership_auc": 0.6,
    "max_membership_auc": 0.7,
    "warn_calibrated_auc": 0.7,
    "max_calibrated_auc": 0.85,
    "min_patch_variation": 0.1,
    "redrawn_images": 64.0,
    "max_redrawn_difference": 4.0,
    "warn_repeated": 0.2,
    "max_repeated": 0.5,
    "warn_site_effect": 0.05,
    "compared_images": 4.0,
    # Of the values in [-1, 1] of an image. The base with its channels in another order, or drawn in other batches, is
    # 5e-7 from itself; two private steps on 12 photographs make 2e-3, one step without noise 5e-2.
    "min_drawn_change": 1e-4,
    # Of what the images differ by from the base's. Measured on fundus-64 with fits of 100 steps: the same photographs
    # from another seed, and other patients of one clinic, 0.5; the same weights with noise of 0.3 % 0.03, of 1 % 0.26.
    "min_others_ratio": 0.05,
    "warn_others_ratio": 0.25,
}
OF_ADAPTERS: dict[str, float] = {
    "redrawn_images": 8.0,
    "compared_images": 1.0,
}  # an image of 512 pixels takes a minute on a CPU
# What config.json of every base holds; the rest is read by one family, or has a default.
ENTRIES = ("slug", "sha256", "image_size", "classes", "architecture", "scheduler", "sampling_steps", "schema", "checks")


@dataclass(frozen=True)
class Base:
    """A registered base generator: the folder with config.json and model.safetensors."""

    folder: Path
    config: dict[str, Any]

    @property
    def slug(self) -> str:
        return str(self.config["slug"])

    @property
    def sha256(self) -> str:
        return str(self.config["sha256"])

    @property
    def is_adapter(self) -> bool:
        """Whether a contribution is an adapter of the base, and not the whole network again."""
        return bool(self.config.get("family", "pixels") == "latent-lora")

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def image_size(self) -> int:
        return int(self.config["image_size"])

    @property
    def thresholds(self) -> dict[str, float]:
        return {**THRESHOLDS, **(OF_ADAPTERS if self.is_adapter else {}), **self.config["checks"]}

    @property
    def any_class(self) -> int:
        """The class that stands for every class, and for what nobody graded: the last one."""
        return len(self.config["classes"]) - 1

    def asks_for(self, check: int) -> bool:
        """Test if the programme wants this check; without a word on it (`checks_run`), every check runs."""
        return check in self.config.get("checks_run", [check])

    @property
    def schema(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return tensor name -> (dtype, shape)."""
        return {name: (dtype, tuple(shape)) for name, (dtype, shape) in self.config["schema"].items()}


def load_base(folder: Path | str) -> Base:
    """
    Read a base generator's config.json.

    Raises:
        SchemaError: the folder is not one of a base generator, or its config.json lacks an entry.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(f"{folder} is not the folder of a base generator ({error}).", code="base_missing") from error
    lacking = [name for name in ENTRIES if not isinstance(config, dict) or name not in config]
    if lacking:
        raise _damaged(f"{folder / 'config.json'} is not that of a base generator: it lacks {lacking[0]}.")
    if problem := _contradiction(config):
        raise _damaged(f"{folder / 'config.json'} is not that of a base generator: {problem}.")
    return Base(folder, config)


def _contradiction(config: dict[str, Any]) -> str:
    """Return in what the entries about classes do not fit each other, or an empty text."""
    if not isinstance(config["classes"], list) or not isinstance(config["architecture"], dict):
        return "classes is no list of names, or architecture no table"
    names = [str(name).casefold() for name in config["classes"]]
    embedded = config["architecture"].get("num_class_embeds", len(names))
    if not names or embedded != len(names) or len(set(names)) < len(names):
        return f"it names {len(set(names))} classes, and its network has {embedded}"
    return _odd_probe(config["probe"], names[:-1]) if config.get("probe") else ""


def _odd_probe(probe: Any, names: list[str]) -> str:
    """Return what is wrong with the entry `probe`, or an empty text; it tells some of the classes from the others."""
    if not isinstance(probe, dict) or not isinstance(probe.get("classes"), list) or not probe.get("label"):
        return "its probe is no table of a label and a list of classes"
    asked = {str(name).casefold() for name in probe["classes"]}
    if asked - set(names):
        return "its probe asks for a class that is not there"
    return "" if asked and set(names) - asked else "its probe tells nothing apart"


def _damaged(sentence: str) -> SchemaError:
    return SchemaError(
        sentence, code="base_damaged", fix="Fetch it again with `consortium base`, or install the kit again."
    )


def build(architecture: dict[str, Any]) -> "PixelNetwork":
    """Build a network of the pixel family with fresh weights."""
    from .pixels import PixelNetwork  # noqa: PLC0415 -- slow import

    return PixelNetwork(**architecture)


def make_scheduler(settings: dict[str, Any]) -> "DDIMScheduler":
    from diffusers import DDIMScheduler  # noqa: PLC0415 -- slow import

    return DDIMScheduler(**settings)


def target_of(
    scheduler: "DDIMScheduler", clean: "torch.Tensor", noise: "torch.Tensor", steps: "torch.Tensor"
) -> "torch.Tensor":
    """
    Return what the network is to predict: the noise, or the velocity alpha * noise - sigma * clean.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 14; Salimans & Ho 2022, arXiv:2202.00512, section 4.
    """
    is_noise = scheduler.config.prediction_type == "epsilon"
    return noise if is_noise else scheduler.get_velocity(clean, noise, steps)


def denoising_loss(
    model: "Network",
    scheduler: "DDIMScheduler",
    images: "torch.Tensor",
    classes: "torch.Tensor",
    rng: "torch.Generator",
    *,
    class_dropout: float = 0.15,
) -> "torch.Tensor":
    """
    Return the mean squared error of the prediction at random noise levels, a scalar.

    Args:
        images: (N, 3, S, S) float32 in [-1, 1].
        classes: (N,) int64.
        rng: CPU generator of steps, noise and dropped classes, so that a run repeats on any device.
        class_dropout: share of classes replaced by any_class (Ho & Salimans 2022, arXiv:2207.12598, algorithm 1).
    """
    import torch  # noqa: PLC0415 -- slow import
    from torch.nn.functional import mse_loss  # noqa: PLC0415 -- slow import

    clean, device = model.encode(images), images.device
    noise = torch.randn(clean.shape, generator=rng).to(device)
    steps = torch.randint(scheduler.config.num_train_timesteps, (len(clean),), generator=rng).to(device)
    dropped = (torch.rand(len(clean), generator=rng) < class_dropout).to(device)
    noisy = scheduler.add_noise(clean, noise, steps)
    predicted = model.predict(noisy, steps, classes.masked_fill(dropped, model.any_class))
    return mse_loss(predicted.float(), target_of(scheduler, clean, noise, steps))


def sample(
    model: "Network",
    settings: dict[str, Any],
    classes: Sequence[int],
    *,
    seed: int,
    steps: int = SAMPLING_STEPS,
    guidance: float = 1.0,
    batch_size: int = 16,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> np.ndarray:
    """
    Draw one image for every class in `classes`, the same ones for the same seed on the same kind of device.

    Args:
        settings: arguments of the scheduler (`scheduler` in config.json).
        classes: image i depends only on seed + i and its class, not on the batch.
        steps: network evaluations per image.
        guidance: 1 samples the class as learnt; larger exaggerates it (Ho & Salimans 2022, equation 6: w + 1).
    Returns:
        (N, S, S, 3) float32, in [-1, 1] when the model is sound; NaN is passed on, never hidden.
    Source: DDIM with eta = 0, Song et al. 2021, arXiv:2010.02502, equation 12.
    """
    import torch  # noqa: PLC0415 -- slow import

    model.eval()
    device = next(model.parameters()).device
    done: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(classes), batch_size):
            batch = torch.tensor(classes[start : start + batch_size], device=device)
            seeds = range(seed + start, seed + start + len(batch))
            noise = [torch.randn(model.noise_shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
            denoised = _denoise(model, settings, torch.stack(noise).to(device), batch, steps, guidance)
            done.append(model.decode(denoised).permute(0, 2, 3, 1).float().cpu().numpy())
            if on_progress is not None:
                on_progress(start + len(batch), len(classes), "Generating sample images")
    return np.concatenate(done)


def _denoise(
    model: "Network",
    settings: dict[str, Any],
    noisy: "torch.Tensor",
    classes: "torch.Tensor",
    steps: int,
    guidance: float,
) -> "torch.Tensor":
    scheduler = make_scheduler(settings)
    scheduler.set_timesteps(steps)
    any_class = classes.new_full(classes.shape, model.any_class)
    for step in scheduler.timesteps:
        predicted = model.predict(noisy, step, classes)
        if guidance != 1.0:
            unguided = model.predict(noisy, step, any_class)
            predicted = unguided + guidance * (predicted - unguided)
        noisy = scheduler.step(predicted, step, noisy).prev_sample
    return noisy


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Turn images in [-1, 1] into uint8 of the same shape; not-a-number becomes black."""
    return np.clip(np.nan_to_num(images, nan=-1.0) * 127.5 + 127.5, 0, 255).round().astype(np.uint8)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 pixels (N, S, S, 3) into float32 (N, 3, S, S) in [-1, 1]."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 127.5 - 1.0


def learnt(model: "Network") -> "dict[str, torch.nn.Parameter]":
    """Return what is trained and travels, by the name that it has in the file; an adapter's as diffusers names them."""
    rows = model.named_parameters()
    return {name.replace(".default.", "."): parameter for name, parameter in rows if parameter.requires_grad}


def save_weights(model: "Network", path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """Write what is learnt as float16 safetensors; see save_tensors()."""
    save_tensors(dict(learnt(model)), path, metadata)


def save_tensors(tensors: "dict[str, torch.Tensor]", path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """Write float16 safetensors, through a temporary name so that a killed run leaves no half file."""
    import torch  # noqa: PLC0415 -- slow import
    from safetensors.torch import save_file  # noqa: PLC0415 -- slow import

    path = Path(path)
    halved = {name: value.detach().cpu().to(torch.float16).contiguous() for name, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(halved, partial, metadata={"format": "pt", **(metadata or {})})
    partial.replace(path)


def load(base: Base, path: Path | str | None = None) -> "Network":
    """
    Return the network of a base generator with the weights in `path`, or as the base is; see load_weights().

    Raises:
        SchemaError: keys or shapes differ, or model.safetensors is not the file that config.json names.
    """
    if base.is_adapter or path is None:
        require_whole(base)
    if base.is_adapter:
        from .latent import LatentNetwork  # noqa: PLC0415 -- slow import

        network: Network = LatentNetwork(base)
        return load_weights(network, path) if path else network
    return load_weights(build(base.config["architecture"]), path or base.weights)


def require_whole(base: Base) -> None:
    """
    Hash model.safetensors once in this process, as long as it is not written again: gigabytes, where a base is latent.

    Raises:
        SchemaError: it cannot be read, or is not the file that config.json names.
    """
    try:
        found = base.weights.stat()
        sha256 = _sha256(base.weights, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise _damaged(f"{base.weights}, the base generator, cannot be read ({error.strerror}).") from error
    if sha256 != base.sha256:
        raise _damaged(
            f"{base.weights} is not the base generator that config.json beside it names: its SHA-256 differs."
        )


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    """Return the SHA-256 of the file that was written then and is as large."""
    return sha256_of(path)


def load_weights(model: "Network", path: Path | str) -> "Network":
    """
    Fill what is learnt from a safetensors file that passed checks 1 and 4; computation stays float32.

    Raises:
        SchemaError: keys or shapes differ.
    """
    import torch  # noqa: PLC0415 -- slow import
    from safetensors.torch import load_file  # noqa: PLC0415 -- slow import

    found, wanted = load_file(path), learnt(model)
    differing = sorted(found.keys() ^ wanted.keys()) or [n for n in wanted if found[n].shape != wanted[n].shape]
    if differing:
        raise SchemaError(f"{Path(path).name} does not fit the base generator: {differing[0]} differs.")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])
    return model.float()


def schema_of(model: "Network") -> dict[str, list[Any]]:
    """Return tensor name -> [dtype, shape] as save_weights() writes them."""
    return {name: ["F16", list(value.shape)] for name, value in learnt(model).items()}
