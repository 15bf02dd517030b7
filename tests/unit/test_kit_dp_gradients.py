"""The gradient that DP-SGD clips of each photograph is that photograph's own, in every layer."""

import numpy as np
import pytest
import torch

from jobs.kit import fit, generator
from tests import tiny_sd

pytestmark = pytest.mark.slow
FUNDUS = generator.load_base(generator.Path(generator.__file__).parent / "base" / "fundus-64")
COUNT = 3


@pytest.mark.parametrize("base", [FUNDUS, tiny_sd.base()], ids=["pixels", "latent-lora"])
def test_each_photographs_gradient_is_the_one_that_it_has_alone(base):
    config = fit.FitConfig(batch_size=COUNT, noise_multiplier=1.0, device="cpu")
    network = fit._fresh_state(generator.load(base), config).model.train()
    learnt, rng = generator.learnt(network), torch.Generator().manual_seed(0)
    with torch.no_grad():  # a fresh adapter's half is zero, and so would be the other's gradient
        for name in (name for name in learnt if "lora_B" in name):
            learnt[name].normal_(0, 0.02, generator=rng)
    side = base.image_size
    clean = network.encode(torch.rand((COUNT, 3, side, side), generator=rng) * 2 - 1)
    noise, steps = torch.randn(clean.shape, generator=rng), torch.tensor([10, 400, 900])
    classes, scheduler = torch.arange(COUNT), generator.make_scheduler(base.config["scheduler"])

    def gradients(rows: slice) -> None:
        for parameter in learnt.values():
            parameter.grad = parameter.grad_sample = None
        noisy = scheduler.add_noise(clean[rows], noise[rows], steps[rows])
        wanted = generator.target_of(scheduler, clean[rows], noise[rows], steps[rows])
        (network.predict(noisy, steps[rows], classes[rows]) - wanted).square().mean().backward()

    gradients(slice(0, COUNT))
    together = {name: parameter.grad_sample.clone() for name, parameter in learnt.items()}
    for row in range(COUNT):
        gradients(slice(row, row + 1))
        largest = max(float(parameter.grad.norm()) for parameter in learnt.values())
        for name, parameter in learnt.items():
            np.testing.assert_allclose(
                together[name][row], parameter.grad, rtol=1e-3, atol=1e-4 * largest, err_msg=name
            )
