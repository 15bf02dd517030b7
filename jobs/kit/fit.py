"""Fine-tune the base generator on a folder of photographs. No image leaves the machine; the weights may."""

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dp, fit_card, generator, images, likeness, locks, terminal
from .errors import ImagesError, TrainingError

if TYPE_CHECKING:
    import torch

    from .generator import Network

Progress = Callable[[int, int, str], None]
# Ctrl-C, the end of a batch system's time, a terminal that is closed: as they stand while nobody has them
STOPS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}


@dataclass(frozen=True)
class FitConfig:
    """
    How to train. Two runs with equal fields, images and kind of device give equal weights.

    With differential privacy they do not: who knows the seed could subtract the noise, so batches and noise then come
    from the machine's own randomness.
    """

    steps: int = 100  # optimiser steps
    batch_size: int = 8  # images per step
    learning_rate: float = 1e-4  # AdamW, after the warm-up
    warmup_steps: int = 10  # linear from zero
    final_learning_rate: float = 0.1  # share of learning_rate left at the end of the cosine
    ema_decay: float = 0.999  # of the weights that are saved; shorter in the first steps
    seed: int = 0
    flip: bool = True  # mirror left and right eyes
    rotation_degrees: float = 8.0  # uniform in +-
    zoom: float = 0.05  # uniform in 1 +-
    checkpoint_every: int = 50  # steps between resumable states, each with a sheet of samples
    noise_multiplier: float = 0.0  # of DP-SGD: standard deviation of the noise over clip_norm; 0 trains without
    clip_norm: float = 1.0  # largest gradient of one photograph, Euclidean norm; DP-SGD only
    delta: float = 1e-5  # at which epsilon is stated, or one over the photographs where that is less
    device: str = "auto"  # "cpu", "cuda", or the better of the two


@dataclass
class TrainingState:
    """All that a run needs to go on: one file, safetensors, never a pickle."""

    model: "Network"
    average: dict[str, "torch.Tensor"]  # exponential moving average of the weights, float32
    optimizer: "torch.optim.AdamW"
    rng: "torch.Generator"
    step: int = 0
    loss: float = math.nan  # moving average over about 50 steps; NaN until a step had photographs


def fit(
    folder: Path | str,
    base_dir: Path | str,
    out_dir: Path | str,
    config: FitConfig | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """
    Fine-tune the base generator on a folder of photographs.

    Args:
        folder: see images.read_folder(); what images.sides() holds out is left out.
        out_dir: receives weights.safetensors (names, shapes and dtype of the base), training_card.json and, at each
            checkpoint, samples-STEP.png; state.safetensors lies there while the run lasts, and a run that was stopped
            goes on from it.
        on_progress: gets (done, total, text).
    Returns:
        The training card.
    Raises:
        ImagesError: the folder holds too few photographs, or a patient is on both sides.
        TrainingError: the loss is not finite, or a stopped run had other settings.
        KitError: code folder_in_use, where another run writes to `out_dir`.
    """
    config, base, out_dir = config or FitConfig(), generator.load_base(base_dir), Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    with locks.only_one(out_dir):
        start = time.monotonic()
        listed, held_out = images.sides(images.read_folder(folder))
        images.require_apart(listed, held_out)
        photographs = images.without_duplicates(listed, on_progress)
        if len(photographs) < 2:
            raise ImagesError("Fine-tuning needs at least 2 different photographs.", code="too_few_images")
        classes = images.classes_of(photographs, base.config["classes"])
        squares = images.squares_on_disk(photographs, base.image_size, out_dir, on_progress)
        model = generator.load(base)
        state = train(
            model,
            base.config["scheduler"],
            squares,
            classes,
            config,
            base_sha256=base.sha256,
            state_path=out_dir / "state.safetensors",
            on_progress=on_progress,
            on_checkpoint=lambda state: save_samples(state, base, out_dir / f"samples-{state.step:06d}.png"),
        )
        save_average(state, out_dir / "weights.safetensors")
        card = fit_card.training_card(photographs, listed, folder, config, base, state, began=start)
        terminal.write_json(out_dir / "training_card.json", card)
        (out_dir / "state.safetensors").unlink(missing_ok=True)
        return card


def train(
    model: "Network",
    scheduler_settings: dict[str, Any],
    squares: np.ndarray,
    classes: np.ndarray,
    config: FitConfig,
    *,
    base_sha256: str = "",
    state_path: Path,
    on_progress: Progress | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
) -> TrainingState:
    """
    Train `model` on images (N, S, S, 3) uint8 of classes (N,), from `state_path` when a stopped run left one.

    Raises:
        TrainingError: code loss_not_finite or state_differs.
    """
    import torch  # noqa: PLC0415 -- slow import

    device = choose_device(config.device)
    scheduler = generator.make_scheduler(scheduler_settings)
    labels = torch.from_numpy(classes)
    run = _run_identity(config, squares, classes, base_sha256)
    state = _restore(_fresh_state(model.to(device), config), state_path, run)
    state.model.train()
    with _stops_between_steps() as is_stopped:
        while state.step < config.steps:
            chosen = _draw(len(squares), config, state.rng)
            loss = _loss(state, scheduler, squares[chosen.numpy()], labels[chosen], config) if len(chosen) else None
            _update(state, loss, config)
            if on_progress is not None:
                on_progress(state.step, config.steps, f"Training, loss {state.loss:.4f}")
            stopped, is_due = is_stopped(), state.step % config.checkpoint_every == 0
            if (stopped or is_due) and state.step < config.steps:
                _save_state(state, state_path, run)
                if stopped:
                    raise KeyboardInterrupt
                if on_checkpoint is not None:
                    on_checkpoint(state)
    return state


@contextmanager
def _stops_between_steps() -> Iterator[Callable[[], bool]]:
    """Let what stops a run wait for the end of the step, when the state is whole; a second time it does not wait."""
    asked = False

    def note(*_: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    is_main = threading.current_thread() is threading.main_thread()  # no other thread is told of signals
    ours = [number for number, usual in STOPS.items() if is_main and signal.getsignal(number) is usual]
    before = {number: signal.signal(number, note) for number in ours}
    try:
        yield lambda: asked
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def _loss(
    state: TrainingState, scheduler: Any, squares: np.ndarray, labels: "torch.Tensor", config: FitConfig
) -> "torch.Tensor":
    """Return the loss of one batch (N, S, S, 3), N at least 1."""
    import torch  # noqa: PLC0415 -- slow import

    device = next(state.model.parameters()).device
    batch = augment(torch.from_numpy(generator.to_unit(squares)), config, state.rng).to(device)
    mixed = _fast_bfloat16(device.type) and not config.noise_multiplier  # single gradients are taken in float32
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
        loss = generator.denoising_loss(state.model, scheduler, batch, labels.to(device), state.rng)
    _require_finite(loss.item(), state.step)
    return loss


def choose_device(wanted: str) -> str:
    """
    Return "cuda" or "cpu"; "auto" takes the graphics card when there is one.

    Raises:
        TrainingError: cuda was asked for and is not there.
    """
    import torch  # noqa: PLC0415 -- slow import

    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingError("This machine has no CUDA device.", code="no_cuda", fix="Use --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def augment(batch: "torch.Tensor", config: FitConfig, rng: "torch.Generator") -> "torch.Tensor":
    """Mirror, rotate and zoom each image of (N, 3, S, S) in [-1, 1] at random; what comes into view is black."""
    import torch  # noqa: PLC0415 -- slow import
    from torch.nn.functional import affine_grid, grid_sample  # noqa: PLC0415 -- slow import

    count = len(batch)
    angle = (torch.rand(count, generator=rng) * 2 - 1) * math.radians(config.rotation_degrees)
    scale = 1 + (torch.rand(count, generator=rng) * 2 - 1) * config.zoom
    mirror = torch.where(torch.rand(count, generator=rng) < (0.5 if config.flip else 0.0), -1.0, 1.0)
    cos, sin, zero = torch.cos(angle) * scale, torch.sin(angle) * scale, torch.zeros(count)
    matrix = torch.stack([cos * mirror, -sin, zero, sin * mirror, cos, zero], dim=1).view(count, 2, 3)
    grid = affine_grid(matrix, list(batch.shape), align_corners=False)
    return grid_sample(batch + 1, grid, align_corners=False) - 1


def learning_rate_at(step: int, config: FitConfig) -> float:
    """Linear warm-up, then a half cosine down to final_learning_rate (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    floor = config.final_learning_rate
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def save_average(state: TrainingState, path: Path) -> None:
    """Write the averaged weights, or the averaged adapter, as they travel."""
    generator.save_tensors(state.average, path)


@contextmanager
def averaged(state: TrainingState) -> "Iterator[Network]":
    """Lend the network with the averaged weights; afterwards it holds its own again."""
    import torch  # noqa: PLC0415 -- slow import

    own = {name: value.detach().clone() for name, value in generator.learnt(state.model).items()}

    def hold(values: "dict[str, torch.Tensor]") -> None:
        with torch.no_grad():
            for name, parameter in generator.learnt(state.model).items():
                parameter.copy_(values[name])

    hold(state.average)
    try:
        yield state.model
    finally:
        hold(own)
        state.model.train()


def save_samples(state: TrainingState, base: generator.Base, path: Path) -> None:
    """Draw one image of each class from the averaged weights, so that a run can be looked at while it lasts."""
    classes, steps = range(len(base.config["classes"])), int(base.config["sampling_steps"])
    with averaged(state) as model:
        seed = int(base.thresholds["seed"])
        drawn = generator.sample(model, base.config["scheduler"], classes, seed=seed, steps=steps)
    likeness.save_sheet(generator.to_uint8(drawn), path)


def _draw(count: int, config: FitConfig, rng: "torch.Generator") -> "torch.Tensor":
    """Return the indices of one step's photographs; with differential privacy there may be none."""
    import torch  # noqa: PLC0415 -- slow import

    if config.noise_multiplier:
        return dp.draw(count, config.batch_size, rng)
    return torch.randint(count, (config.batch_size,), generator=rng)


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss became {loss} at step {step}.",
            code="loss_not_finite",
            fix="Lower the learning rate; nothing was saved since the last checkpoint.",
        )


def _update(state: TrainingState, loss: "torch.Tensor | None", config: FitConfig) -> None:
    """
    Take one AdamW step and move the average: decay min(ema_decay, (1 + t) / (10 + t)) as in TensorFlow's EMA.

    Without a loss (a private step that drew no photograph) the step is noise alone.
    """
    import torch  # noqa: PLC0415 -- slow import

    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(state.step, config)
    state.optimizer.zero_grad(set_to_none=True)
    if loss is None:
        dp.without_photographs(state.model)
    else:
        loss.backward()
    if not config.noise_multiplier:  # else every photograph's own gradient is clipped
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    decay = min(config.ema_decay, (1 + state.step) / (10 + state.step))
    for name, value in generator.learnt(state.model).items():
        state.average[name].lerp_(value.detach().float(), 1 - decay)
    if loss is not None:
        smooth = min(0.98, (state.step - 1) / state.step) if math.isfinite(state.loss) else 0.0
        state.loss = smooth * state.loss + (1 - smooth) * loss.item() if smooth else loss.item()


def _fast_bfloat16(device: str) -> bool:
    """Return whether bfloat16 pays: on every GPU we meet, and on CPUs that have its instructions."""
    import torch  # noqa: PLC0415 -- slow import

    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not public; absent in some versions
    return device == "cuda" or bool(supported())


def _run_identity(config: FitConfig, squares: np.ndarray, classes: np.ndarray, base_sha256: str) -> dict[str, Any]:
    """Name what must be equal for a stopped run to go on: settings, base, images and classes."""
    digest = hashlib.sha256()
    for square in squares:
        digest.update(square.tobytes())
    digest.update(classes.tobytes())
    return asdict(config) | {"base_sha256": base_sha256, "images_sha256": digest.hexdigest()}


def _fresh_state(model: "Network", config: FitConfig) -> TrainingState:
    import torch  # noqa: PLC0415 -- slow import

    average = {name: value.detach().clone().float() for name, value in generator.learnt(model).items()}
    optimizer = torch.optim.AdamW(generator.learnt(model).values(), lr=config.learning_rate, weight_decay=0.01)
    rng = torch.Generator().manual_seed(config.seed)
    if config.noise_multiplier:
        optimizer = dp.optimizer(
            model,
            optimizer,
            noise_multiplier=config.noise_multiplier,
            clip_norm=config.clip_norm,
            batch_size=config.batch_size,
        )
        rng.seed()
    return TrainingState(model, average, optimizer, rng)


def _save_state(state: TrainingState, path: Path, run: dict[str, Any]) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415 -- slow import

    tensors = {f"average.{name}": value for name, value in state.average.items()}
    for name, parameter in generator.learnt(state.model).items():
        moments = state.optimizer.state[parameter]
        tensors[f"model.{name}"] = parameter.detach()
        tensors[f"exp_avg.{name}"] = moments["exp_avg"]
        tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
    tensors["rng"] = state.rng.get_state()
    facts = {"step": str(state.step), "loss": str(state.loss), "run": json.dumps(run, sort_keys=True)}
    partial = path.with_suffix(".partial")
    save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, partial, metadata=facts)
    partial.replace(path)


def _restore(state: TrainingState, path: Path, run: dict[str, Any]) -> TrainingState:
    """Continue from a stopped run's state file, when there is one."""
    import torch  # noqa: PLC0415 -- slow import
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 -- slow import

    if not path.exists():
        return state
    fix = "Remove it to start again"
    try:
        opened = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise TrainingError(f"{path} is damaged ({error}).", code="state_damaged", fix=f"{fix}.") from None
    with opened as saved:
        facts = saved.metadata()
        # Kit 0.2.0 did not note the base.
        if {"base_sha256": run["base_sha256"], **json.loads(facts.get("run", "{}"))} != run:
            raise TrainingError(
                f"{path} belongs to a run with other settings, photographs, grades or base.",
                code="state_differs",
                fix=f"{fix}, or use the settings of that run.",
            )
        state.step, state.loss = int(facts["step"]), float(facts["loss"])
        state.rng.set_state(saved.get_tensor("rng"))
        state.average = {name: saved.get_tensor(f"average.{name}").to(v.device) for name, v in state.average.items()}
        with torch.no_grad():
            for name, parameter in generator.learnt(state.model).items():
                parameter.copy_(saved.get_tensor(f"model.{name}"))
                state.optimizer.state[parameter] = {
                    "step": torch.tensor(float(state.step)),
                    "exp_avg": saved.get_tensor(f"exp_avg.{name}").to(parameter.device),
                    "exp_avg_sq": saved.get_tensor(f"exp_avg_sq.{name}").to(parameter.device),
                }
    return state
