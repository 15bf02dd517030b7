"""The pixel family of generators: a small UNet on patches of the image itself, trained whole. Imported when needed."""

from typing import Any

import torch
from diffusers import UNet2DModel
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from .generator import PATCH


class PixelNetwork(UNet2DModel):
    """A UNet that sees patches of PATCH x PATCH pixels as channels; what it denoises is the image."""

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        side = self.config.sample_size * PATCH
        return 3, side, side

    @property
    def any_class(self) -> int:
        """The class that stands for every class: the last one."""
        return int(self.config.num_class_embeds) - 1

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, denoised: torch.Tensor) -> torch.Tensor:
        return denoised

    def predict(self, noisy: torch.Tensor, steps: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Return what the scheduler's prediction_type asks for, (N, 3, S, S)."""
        return pixel_shuffle(self(pixel_unshuffle(noisy, PATCH), steps, class_labels=classes).sample, PATCH)

    def facts(self) -> dict[str, Any]:
        """Return what a training card says of the family."""
        return {}
