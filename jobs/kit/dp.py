"""
Differential privacy: what epsilon follows from how a run with DP-SGD was made.

Source: Abadi et al. 2016, arXiv:1607.00133 (DP-SGD); the subsampled Gaussian mechanism's Renyi differential privacy,
Mironov et al. 2019, arXiv:1908.10530, as Opacus accounts for it.
"""

import importlib
import math
import warnings
from typing import TYPE_CHECKING, Any

from .errors import KitError

if TYPE_CHECKING:
    import torch

TOLERANCE = 0.02  # relative: a declared epsilon is rounded, and accountants differ in their grid of orders
RATE_TOLERANCE = 0.01  # relative: a declared sample rate is rounded
# A single step over all photographs with this noise costs epsilon 1 / (2 * 0.01 ** 2) = 5,000 at order 1 (Mironov 2017,
# arXiv:1702.07476, corollary 3): no guarantee. Far below it the accountant's series never ends.
LEAST_NOISE = 0.01
MOST_DELTA = 0.1  # of ten photographs, the fewest that a card tells; see most_delta()


class BudgetError(KitError):
    """The declared parameters are no run of DP-SGD."""

    default_code = "dp_invalid"


def epsilon(*, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """
    Return epsilon after `steps` steps.

    Args:
        noise_multiplier: standard deviation of the noise over the clipping norm, above LEAST_NOISE.
        sample_rate: chance of a photograph to be in a step, above 0 and at most 1.
        delta: above 0 and at most MOST_DELTA.
    Raises:
        BudgetError: a parameter is outside its range, or they are so far apart that the accountant loses count.
    """
    ranges = (noise_multiplier > LEAST_NOISE, 0 < sample_rate <= 1, steps >= 1, 0 < delta <= MOST_DELTA)
    if not all(ranges) or not math.isfinite(noise_multiplier):
        raise BudgetError(
            "The parameters of differential privacy are out of range.",
            fix=f"noise_multiplier above {LEAST_NOISE:g}, sample_rate above 0 and at most 1, steps at least 1, delta "
            f"above 0 and at most {MOST_DELTA:g}.",
        )
    from opacus.accountants import RDPAccountant  # noqa: PLC0415 -- slow import

    accountant = RDPAccountant()
    accountant.history = [(float(noise_multiplier), float(sample_rate), int(steps))]
    try:
        return float(accountant.get_epsilon(delta))
    except (ArithmeticError, ValueError) as error:  # noise of 1e8, and of 1e160: what it adds up is rounding alone
        raise BudgetError(
            f"No epsilon can be computed with noise of {noise_multiplier:g} at a sample rate of {sample_rate:g}.",
            fix="A run with DP-SGD has a noise multiplier of about 1, and hardly ever one above 100.",
        ) from error


def agrees(declared: float, found: float) -> bool:
    """Test if a declared epsilon is at least the recomputed one, up to rounding: to declare more is to promise less."""
    return declared >= found * (1 - TOLERANCE)


def most_delta(images: int) -> float:
    """
    Return the largest delta that says anything of `images` photographs: 1 / images.

    Source: Dwork and Roth 2014, The Algorithmic Foundations of Differential Privacy, section 2.3: at that order, to
    publish a few whole records is private.
    """
    return min(MOST_DELTA, 1 / images)


def sample_rate(images: int, batch_size: int) -> float:
    """Return the chance of a photograph to be in a step of `batch_size` on average; see draw()."""
    return min(1.0, batch_size / images)


# Training


def require_noise(noise_multiplier: float) -> None:
    """
    Refuse what no private run can be made with.

    Raises:
        BudgetError: the noise is LEAST_NOISE or less, so no epsilon will follow from the run.
        ModuleNotFoundError: opacus is not installed.
    """
    if noise_multiplier <= LEAST_NOISE:
        raise BudgetError(
            f"A noise multiplier of {noise_multiplier:g} guarantees nothing.",
            fix=f"Give one above {LEAST_NOISE:g}, about 1 as a rule, or train without differential privacy.",
        )
    importlib.import_module("opacus")


def draw(count: int, batch_size: int, rng: "torch.Generator") -> "torch.Tensor":
    """
    Return the indices of one step's photographs, `batch_size` on average, perhaps none.

    Each is taken by chance on its own, as the accounting assumes: Poisson sampling, Mironov et al. 2019, section 2.
    """
    import torch  # noqa: PLC0415 -- slow import

    return torch.nonzero(torch.rand(count, generator=rng) < sample_rate(count, batch_size)).flatten()


def optimizer(
    model: "torch.nn.Module",
    plain: "torch.optim.Optimizer",
    *,
    noise_multiplier: float,
    clip_norm: float,
    batch_size: int,
) -> Any:
    """
    Return the optimiser of DP-SGD around a plain one: each photograph's gradient is clipped, noise is put on their sum.

    The noise is seeded by the operating system, whatever seed the run has: who knew the seed could subtract it.

    Raises:
        BudgetError: see require_noise().
    Source: Abadi et al. 2016, algorithm 1.
    """
    require_noise(noise_multiplier)
    import torch  # noqa: PLC0415 -- slow import
    from opacus import GradSampleModule  # noqa: PLC0415 -- slow import
    from opacus.optimizers import DPOptimizer  # noqa: PLC0415 -- slow import

    # The hooks fire on the first layer too, whose input needs no gradient: that is as it should be.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    for layer in (layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)):
        # Opacus 1.6 reads a convolution's input as if it were contiguous; after attention it is not, and gives zeros.
        layer.register_forward_pre_hook(lambda _, given: tuple(value.contiguous() for value in given))
    GradSampleModule(model)  # its hooks stay on the layers of `model` and keep the single gradients
    randomness = torch.Generator(next(model.parameters()).device)
    randomness.seed()
    return DPOptimizer(
        plain,
        noise_multiplier=noise_multiplier,
        max_grad_norm=clip_norm,
        expected_batch_size=batch_size,
        generator=randomness,
    )


def without_photographs(model: "torch.nn.Module") -> None:
    """Prepare a step that drew no photograph: it is noise alone."""
    for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
        parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
