"""Masked auto-encoder pre-training: one loop, resumable from its checkpoints."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .encoder import EncoderConfig, build_mae, save_encoder
from .errors import KitError

if TYPE_CHECKING:
    import torch

CARD_NAME = "pretraining.json"
_EPOCH_STREAM, _STEP_STREAM = 1, 2  # keep the random streams of shuffling and of augmentation apart

OnProgress = Callable[[int, int, str, float], None]


class PretrainError(KitError):
    """Pre-training that cannot start, resume or go on."""

    default_code = "pretraining_failed"


@dataclass(frozen=True)
class PretrainConfig:
    """
    One pre-training run.

    peak_learning_rate: reached after warmup_steps, then a half cosine down to 0.
    smallest_crop: least area of the random square crop, as a fraction of the image's.
    keep_checkpoints: older ones are deleted.
    Source of the defaults: He et al. 2022, arXiv:2111.06377, appendix A.1 (betas, decay); the batch, the learning rate
    and the crop are ours, for hundreds of steps instead of hundreds of thousands.
    """

    encoder: EncoderConfig
    steps: int
    batch: int = 32
    peak_learning_rate: float = 1.5e-3
    warmup_steps: int = 40
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    mask_ratio: float = 0.75
    smallest_crop: float = 0.3
    seed: int = 0
    checkpoint_every: int = 100
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class PretrainResult:
    """
    folder: holds model.safetensors, config.json and pretraining.json once finished.
    losses: (step, mean squared error on the normalised pixels of masked patches), one a step, steps from 1.
    sha256: of model.safetensors, hex; empty when stopped before the end. seconds: of this call alone.
    """

    folder: Path
    losses: list[tuple[int, float]]
    finished: bool
    sha256: str
    seconds: float


def pretrain(
    images: NDArray[np.uint8],
    out_dir: Path | str,
    config: PretrainConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
) -> PretrainResult:
    """
    Pre-train a masked auto-encoder, from the newest checkpoint in out_dir when there is one.

    All that is random at a step comes from (seed, step), so a run resumed on the same machine ends with the same
    weights as one that was never interrupted. float32 on the CPU, bfloat16 autocast on CUDA.

    Where torch.distributed is initialised (see ranks.py), each process computes an equal part of every batch and the
    gradients are averaged; the first alone writes, and the result's sha256 is empty in the others.

    Args:
        images: (N, H, W, 3), RGB, square, at least as large as the encoder's input.
        on_progress: called after each step with (steps done, steps in all, text, loss).
        should_stop: asked at each step; when true, a checkpoint is written after it and the run returns unfinished.
    Raises:
        PretrainError: no images, a checkpoint of another configuration or of other images, a loss that is not finite,
            a batch that cannot be shared out evenly.
    """
    import torch  # noqa: PLC0415 -- slow import

    started = time.monotonic()
    out_dir, place = Path(out_dir), _place()
    images_sha256 = _check_images(images)
    require_equal_shares(config, place.of)
    model = build_mae(config.encoder, seed=config.seed, mask_ratio=config.mask_ratio).to(device).train()
    optimizer = _optimizer(model, config)
    losses = _resume(out_dir, model, optimizer, config, images_sha256)
    # After the checkpoint is read: no process begins, and may replace it, before all have read it.
    trained = torch.nn.parallel.DistributedDataParallel(model) if place.of > 1 else model
    source = torch.from_numpy(images).to(device)
    for step in range(len(losses), config.steps):
        asked = should_stop is not None and should_stop()
        value, stopping = _step(trained, optimizer, _batch(source, config, step, place), config, step, place, asked)
        losses.append((step + 1, value))
        if place.index == 0 and (stopping or (step + 1) % config.checkpoint_every == 0):
            _write_checkpoint(out_dir, model, optimizer, config, images_sha256, losses)
        if stopping and step + 1 < config.steps:
            return PretrainResult(out_dir, losses, False, "", time.monotonic() - started)
        if on_progress is not None:
            on_progress(step + 1, config.steps, f"Step {step + 1} of {config.steps}, loss {value:.4f}", value)
    if place.index > 0:
        return PretrainResult(out_dir, losses, True, "", time.monotonic() - started)
    sha256 = save_encoder(config.encoder, model.vit, out_dir)
    seconds = time.monotonic() - started
    _write_card(out_dir, config, len(images), images_sha256, losses, sha256, seconds)
    return PretrainResult(out_dir, losses, True, sha256, seconds)


@dataclass(frozen=True)
class _Place:
    """Which of the processes this is, from 0, and of how many."""

    index: int = 0
    of: int = 1

    def share(self, batch: int) -> slice:
        """Return this process's part of a batch. All parts are equal: the mean of their means is the batch's."""
        return slice(self.index * batch // self.of, (self.index + 1) * batch // self.of)


def _place() -> _Place:
    from torch import distributed  # noqa: PLC0415 -- slow import

    if not (distributed.is_available() and distributed.is_initialized()):
        return _Place()
    return _Place(distributed.get_rank(), distributed.get_world_size())


def require_equal_shares(config: PretrainConfig, processes: int) -> None:
    """Raise PretrainError where a batch cannot be shared out evenly among so many processes."""
    if config.batch % processes:
        raise PretrainError(
            f"A batch of {config.batch} images cannot be shared out evenly among {processes} processes.",
            code="batch_not_shared",
            fix="Choose a number of processes that divides the batch.",
        )


def _step(
    trained: "torch.nn.Module",
    optimizer: "torch.optim.AdamW",
    batch: tuple["torch.Tensor", "torch.Tensor"],
    config: PretrainConfig,
    step: int,
    place: _Place,
    asked: bool,
) -> tuple[float, bool]:
    """Take one step; return its loss over the whole batch, and if the run must stop after it."""
    pixels, noise = batch
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    with _autocast(pixels.device.type):
        loss = trained(pixels, noise=noise).loss
    value, stopping = _agreed(loss, asked, place)
    _require_finite(value, step, config)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return value, stopping


def _agreed(loss: "torch.Tensor", stop: bool, place: _Place) -> tuple[float, bool]:
    """Return the loss over the whole batch, and if any process was asked to stop: all must stop at the same step."""
    import torch  # noqa: PLC0415 -- slow import

    if place.of == 1:
        return loss.item(), stop
    both = torch.stack([loss.detach().double(), loss.new_tensor(stop, dtype=torch.float64)])
    torch.distributed.all_reduce(both)
    return both[0].item() / place.of, both[1].item() > 0


def _require_finite(loss: float, step: int, config: PretrainConfig) -> None:
    if not math.isfinite(loss):
        raise PretrainError(
            f"The loss became {loss} at step {step + 1} of {config.steps}.",
            code="loss_not_finite",
            fix="Start again with a smaller peak learning rate.",
        )


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Return the rate of a step (from 0): linear warm-up, then a half cosine to 0 (Loshchilov and Hutter 2017)."""
    if step < config.warmup_steps:
        return config.peak_learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def batch_indices(n_images: int, batch: int, step: int, seed: int) -> NDArray[np.int64]:
    """
    Return the images of a step, (batch,): every image once an epoch, each epoch in an order of its own.

    An epoch that ends inside a batch is followed by the next one in the same batch.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // n_images
    chosen = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(epochs):
        order = np.random.default_rng((seed, _EPOCH_STREAM, int(epoch))).permutation(n_images)
        chosen[epochs == epoch] = order[positions[epochs == epoch] % n_images]
    return chosen


def _batch(
    source: "torch.Tensor", config: PretrainConfig, step: int, place: _Place
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return augmented, normalised pixels (B, 3, S, S) and the masking noise (B, patches) of a share of a step."""
    import torch  # noqa: PLC0415 -- slow import

    rng = np.random.default_rng((config.seed, _STEP_STREAM, step))
    drawn = (  # for the whole batch: nothing depends on how many share it
        batch_indices(len(source), config.batch, step, config.seed),
        _crops(config.batch, config.smallest_crop, rng),
        rng.random((config.batch, config.encoder.n_patches), dtype=np.float32),
    )
    share = place.share(config.batch)
    index, theta, noise = (torch.from_numpy(array[share]).to(source.device) for array in drawn)
    photographs = source[index].permute(0, 3, 1, 2).float() / 255
    size = (len(index), 3, config.encoder.image_size, config.encoder.image_size)
    grid = torch.nn.functional.affine_grid(theta, list(size), align_corners=False)
    crops = torch.nn.functional.grid_sample(photographs, grid, mode="bilinear", align_corners=False)
    mean, std = crops.new_tensor(config.encoder.mean), crops.new_tensor(config.encoder.std)
    return (crops - mean[:, None, None]) / std[:, None, None], noise


def _crops(batch: int, smallest: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return affine maps (B, 2, 3) from a square of side 2 around 0: random square crops, half of them mirrored."""
    side = np.sqrt(rng.uniform(smallest, 1.0, batch))
    centre = (1 - side) * rng.uniform(-1.0, 1.0, (2, batch))
    mirror = rng.choice([-1.0, 1.0], batch)
    theta = np.zeros((batch, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = side * mirror
    theta[:, 1, 1] = side
    theta[:, :, 2] = centre.T
    return theta


def _optimizer(model: "torch.nn.Module", config: PretrainConfig) -> "torch.optim.AdamW":
    """Return AdamW, without decay on biases, layer norms and tokens."""
    import torch  # noqa: PLC0415 -- slow import

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim in (2, 4)]
    others = [parameter for parameter in trained if parameter.ndim not in (2, 4)]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.peak_learning_rate, betas=config.betas)


def _autocast(device: str) -> AbstractContextManager[Any]:
    import torch  # noqa: PLC0415 -- slow import

    return torch.autocast("cuda", dtype=torch.bfloat16) if device.startswith("cuda") else nullcontext()


def _check_images(images: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the pixels, after a look at their shape."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
        raise PretrainError(f"Pre-training takes uint8 images (N, S, S, 3), not {images.dtype} {images.shape}.")
    if not len(images):
        raise PretrainError("There is no image to pre-train on.", code="no_images")
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def _run_identity(config: PretrainConfig, images_sha256: str) -> dict[str, Any]:
    """Return what two runs must share for one to go on from the other's checkpoint, in JSON's types."""
    settings = asdict(config)
    for neutral in ("checkpoint_every", "keep_checkpoints"):
        del settings[neutral]
    return dict(json.loads(json.dumps({"config": settings, "images_sha256": images_sha256})))


def _write_checkpoint(
    out_dir: Path,
    model: "torch.nn.Module",
    optimizer: "torch.optim.AdamW",
    config: PretrainConfig,
    images_sha256: str,
    losses: list[tuple[int, float]],
) -> None:
    """Write a checkpoint under another name and rename it: a folder named step-* is always complete."""
    from safetensors.torch import save_file  # noqa: PLC0415 -- slow import

    folder = out_dir / "checkpoints"
    unfinished = folder / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, unfinished / "model.safetensors"
    )
    moments = {
        f"{index}.{name}": tensor.contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }
    save_file(moments, unfinished / "optimizer.safetensors")
    state = {"run": _run_identity(config, images_sha256), "losses": losses}
    (unfinished / "state.json").write_text(json.dumps(state), encoding="utf-8")
    final = folder / f"step-{len(losses):08d}"
    shutil.rmtree(final, ignore_errors=True)
    unfinished.rename(final)
    for old in _checkpoints(out_dir)[: -config.keep_checkpoints]:
        shutil.rmtree(old)


def _checkpoints(out_dir: Path) -> list[Path]:
    return sorted((out_dir / "checkpoints").glob("step-*"))


def _resume(
    out_dir: Path,
    model: "torch.nn.Module",
    optimizer: "torch.optim.AdamW",
    config: PretrainConfig,
    images_sha256: str,
) -> list[tuple[int, float]]:
    """Load the newest checkpoint into model and optimizer; return its losses, none when there is no checkpoint."""
    from safetensors.torch import load_file  # noqa: PLC0415 -- slow import

    found = _checkpoints(out_dir)
    if not found:
        return []
    newest = found[-1]
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    if state["run"] != _run_identity(config, images_sha256):
        raise PretrainError(
            f"{newest} belongs to a run with another configuration or other images.",
            code="checkpoint_of_another_run",
            fix="Choose an empty output folder.",
        )
    model.load_state_dict(load_file(newest / "model.safetensors"), strict=True)
    moments: dict[int, dict[str, Any]] = {}
    for key, tensor in load_file(newest / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return [(int(step), float(loss)) for step, loss in state["losses"]]


def _write_card(
    out_dir: Path,
    config: PretrainConfig,
    n_images: int,
    images_sha256: str,
    losses: list[tuple[int, float]],
    sha256: str,
    seconds: float,
) -> None:
    import torch  # noqa: PLC0415 -- slow import
    import transformers  # noqa: PLC0415 -- slow import

    card = {
        "config": asdict(config),
        "n_images": n_images,
        "images_sha256": images_sha256,
        "weights_sha256": sha256,
        "losses": losses,
        "seconds": round(seconds, 1),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (out_dir / CARD_NAME).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
