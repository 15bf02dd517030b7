"""
The latent family of generators: a latent diffusion model that stays as it is, and a low-rank adapter that is trained.

Sources: Rombach et al. 2022, arXiv:2112.10752 (latent diffusion); Hu et al. 2021, arXiv:2106.09685 (LoRA). The text
encoder is not needed where photographs are: the base holds one text embedding a class (`prompts`), computed once.
Imported when needed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from safetensors import safe_open
from safetensors.torch import load_file

from .errors import SchemaError
from .generator import Base
from .scan import Difference

ADAPTER_SEED = 0  # of the random half of a fresh adapter; the other half is zero, so it changes nothing


class LatentNetwork(torch.nn.Module):
    """A frozen UNet and autoencoder; only the adapter in the UNet's attention learns."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        architecture = base.config["architecture"]
        held = load_file(base.weights)
        self.unet = _filled(UNet2DConditionModel(**architecture["unet"]), held, "unet.", base)
        self.vae = _filled(AutoencoderKL(**architecture["vae"]), held, "vae.", base)
        self.register_buffer("prompts", held["prompts"].float())
        self.requires_grad_(False)
        self.adapter = dict(architecture["lora"])
        with torch.random.fork_rng():
            torch.manual_seed(ADAPTER_SEED)
            inject_adapter_in_model(_lora(self.adapter), self.unet)

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        channels, side = self.unet.config.in_channels, self.unet.config.sample_size
        return channels, side, side

    @property
    def any_class(self) -> int:
        """The class that stands for every class: the last prompt."""
        return len(self.prompts) - 1

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the latents of images in [-1, 1], the middle of what the encoder allows: the same each time."""
        with torch.no_grad():
            return self.vae.encode(images).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, denoised: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(denoised / self.vae.config.scaling_factor).sample

    def predict(self, noisy: torch.Tensor, steps: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Return what the scheduler's prediction_type asks for, in the shape of the latents."""
        return self.unet(noisy, steps, encoder_hidden_states=self.prompts[classes]).sample

    def facts(self) -> dict[str, Any]:
        """Return what a training card says of the family."""
        return {"adapter": {"rank": self.adapter["rank"], "alpha": self.adapter["alpha"]}}


def _lora(settings: dict[str, Any]) -> LoraConfig:
    return LoraConfig(r=settings["rank"], lora_alpha=settings["alpha"], target_modules=settings["targets"])


def _filled(network: Any, held: dict[str, torch.Tensor], prefix: str, base: Base) -> Any:
    own = {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(own, strict=True)
    except RuntimeError as error:
        raise SchemaError(f"{base.weights} does not fit its config.json: {error}", code="base_invalid") from error
    return network.float()


def adapter_changes(path: Path, base: Base) -> list[Difference]:
    """
    Return how far an adapter moves each layer that it changes, |alpha / r B A| against |W|, both Frobenius norms.

    |B A|^2 is the trace of (B'B)(A A'), so nothing larger than the rank is multiplied out (Hu et al. 2021, section
    4.1, for B, A and the scale).

    Args:
        path: an adapter that passed check 4, its numbers finite.
    """
    settings = base.config["architecture"]["lora"]
    scale = settings["alpha"] / settings["rank"]
    found = []
    with safe_open(path, framework="np") as adapter, safe_open(base.weights, framework="np") as held:
        for name in sorted(key for key in adapter.keys() if key.endswith(".lora_A.weight")):
            layer = name.removesuffix(".lora_A.weight")
            a, b = (adapter.get_tensor(f"{layer}.lora_{half}.weight").astype(np.float64) for half in "AB")
            squares = float(np.trace((b.T @ b) @ (a @ a.T))) * scale**2
            weight = held.get_tensor(f"{layer}.weight").astype(np.float64)
            found.append(Difference(layer.removeprefix("unet."), max(squares, 0.0), float((weight**2).sum())))
    return found
