"""
Steps per second of `fit` against a plain diffusers training loop on the same network, batches and number format.

    python -m tests.benchmarks.bench_fit [--steps 15] [--rounds 5]

The plain loop is that of diffusers' example of unconditional training: noise, network, mean squared error, clipping,
AdamW; no augmentation and no averaged weights. Both run alternately in one process. Exit status 1 when the goal is
missed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import mse_loss

from jobs.kit import fit, generator
from jobs.kit.checks.drawn import load_reference

GOAL = 0.95
BATCH = 8
BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")


def fresh() -> "torch.nn.Module":
    return generator.load(BASE)


def plain(squares: np.ndarray, classes: np.ndarray, steps: int) -> float:
    """Train by the plain loop; return the seconds that the steps took."""
    model, scheduler = fresh(), generator.make_scheduler(BASE.config["scheduler"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    images, labels = torch.from_numpy(generator.to_unit(squares)), torch.from_numpy(classes)
    model.train()
    began = time.perf_counter()
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,))
        clean, noise = images[chosen], torch.randn(BATCH, *images.shape[1:])
        times = torch.randint(scheduler.config.num_train_timesteps, (BATCH,))
        noisy, target = scheduler.add_noise(clean, noise, times), scheduler.get_velocity(clean, noise, times)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fit._fast_bfloat16("cpu")):
            loss = mse_loss(model.predict(noisy, times, labels[chosen]).float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - began


def ours(squares: np.ndarray, classes: np.ndarray, steps: int) -> float:
    """Train by `fit`; return the seconds that the steps took."""
    config = fit.FitConfig(steps=steps, batch_size=BATCH, device="cpu", checkpoint_every=10**6)
    model = fresh()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        fit.train(model, BASE.config["scheduler"], squares, classes, config, state_path=Path(folder) / "state")
        return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    reference = load_reference(BASE.folder / "reference.safetensors")
    assert reference is not None
    given = reference.pixels, reference.classes
    plain(*given, 3)
    ours(*given, 3)
    ratios = [plain(*given, options.steps) / ours(*given, options.steps) for _ in range(options.rounds)]
    ratio = statistics.median(ratios)
    passed = ratio >= GOAL
    print(
        f"fit steps per second={ratio:.2f}x of a plain diffusers loop goal={GOAL} n={options.rounds}"
        f" spread={max(ratios) - min(ratios):.2f} {'PASS' if passed else 'FAIL'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
