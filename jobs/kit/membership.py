"""
Membership inference: can somebody who holds the weights tell a training photograph from one that was held out?

The attack asks for the denoising loss of a photograph at fixed noise: training photographs have a lower one. The
stronger form subtracts the loss under the base generator, which takes away how hard a photograph is by itself.
Sources: Matsumoto et al. 2023, arXiv:2302.03262 (loss-based attack on diffusion models); Watson et al. 2022,
arXiv:2111.08440 (difficulty calibration); Carlini et al. 2022, arXiv:2112.03570 (true positives at few false alarms).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import generator, metrics

if TYPE_CHECKING:
    from .generator import Network

STEPS = (200, 300, 400, 500, 600)  # noise steps of 0..999; the middle gives away the most (measured, see the tests)
DRAWS = 3  # noise images a step, the same for every photograph
BATCH = 16
FALSE_ALARMS = 0.01
SEED = 0

Progress = Callable[[int, int, str], None]
Losses = NDArray[np.float64]


def losses(
    model: "Network",
    scheduler_settings: dict[str, Any],
    squares: NDArray[np.uint8],
    classes: NDArray[np.int64],
    on_progress: Progress | None = None,
) -> Losses:
    """Return the mean squared error of the prediction for each image (N, S, S, 3) at fixed noise: (N,)."""
    import torch  # noqa: PLC0415 -- slow import

    device, scheduler = next(model.parameters()).device, generator.make_scheduler(scheduler_settings)
    rng = torch.Generator().manual_seed(SEED)
    noise = torch.randn((len(STEPS) * DRAWS, *model.noise_shape), generator=rng).to(device)
    found = np.empty(len(squares))
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(squares), BATCH):
            rows = slice(start, start + BATCH)
            batch = model.encode(torch.from_numpy(generator.to_unit(squares[rows])).to(device))
            labels = torch.from_numpy(classes[rows]).to(device)
            found[rows] = _mean_error(model, scheduler, batch, labels, noise)
            if on_progress is not None:
                on_progress(min(start + BATCH, len(squares)), len(squares), "Asking for losses")
    return found


def _mean_error(model: Any, scheduler: Any, batch: Any, labels: Any, noise: Any) -> Losses:
    """Return the error of each image of one batch, the mean over every step and draw: (N,)."""
    total = np.zeros(len(batch))
    for number, one in enumerate(noise):
        steps = labels.new_full((len(batch),), STEPS[number // DRAWS])
        added = one.expand_as(batch)
        predicted = model.predict(scheduler.add_noise(batch, added, steps), steps, labels)
        wanted = generator.target_of(scheduler, batch, added, steps)
        total += (predicted.float() - wanted).square().mean(dim=(1, 2, 3)).cpu().numpy()
    return total / len(noise)


def attack(members: Losses, others: Losses, groups: NDArray[Any]) -> dict[str, Any]:
    """
    Return how well low losses tell members from others: JSON values, statistics alone.

    Args:
        members: (n,). others: (m,). groups: (n + m,), the patient of each photograph, members first.
    Returns:
        auc with its 95 % interval over resampled patients, 0 to 1 where a side has a single patient and there is none
        to resample; and the share of members found while at most FALSE_ALARMS of the others are taken for members.
    """
    scores = -np.concatenate([members, others])
    labels = np.repeat([1, 0], [len(members), len(others)])
    low, high = _interval(labels, scores, groups)
    allowed = int(round(FALSE_ALARMS * len(others), 9))  # 1 of 100, none of 99
    limit = np.sort(scores[labels == 0])[-1 - allowed]
    return {
        "auc": round(metrics.auroc(labels, scores), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "tpr_at_1_percent_fpr": round(float((scores[labels == 1] > limit).mean()), 4),
    }


def _interval(labels: NDArray[np.int_], scores: Losses, groups: NDArray[Any]) -> tuple[float, float]:
    if min(len(np.unique(groups[labels == side])) for side in (0, 1)) < 2:
        return 0.0, 1.0
    found = metrics.bootstrap_auroc(labels, scores, groups, minimum=1, minimum_patients=1)
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high
