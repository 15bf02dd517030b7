"""Check 4 of synthetic images: an image of another class than it claims is found, where the generator is held."""

import numpy as np
import pytest

from jobs.kit import generator, scan, synthetic
from jobs.kit.checks.provenance import check_provenance
from jobs.kit.checks.shard import check_shards
from tests import synthesising
from tests.synthesising import BASE

MODERATE, PROLIFERATIVE = 2, 4
SEEDS = range(6)


@pytest.mark.slow
def test_images_of_another_class_than_they_claim_are_found_out(tmp_path):
    """With some seeds two classes differ by less than another machine may: there the nearer class decides."""
    weights = tmp_path / "weights.safetensors"
    model = generator.load(BASE)
    model.load_state_dict({name: value * 1.001 for name, value in model.state_dict().items()})
    generator.save_weights(model, weights)
    shared = {"generator_sha256": scan.sha256_of(weights)}
    held = generator.load(BASE, weights)
    drawn = {
        label: [synthetic.redrawn(held, BASE, [label], seed)[0] for seed in SEEDS]
        for label in (MODERATE, PROLIFERATIVE)
    }
    apart = [np.abs(a.astype(int) - b).mean() for a, b in zip(*drawn.values(), strict=True)]
    near = [seed for seed in SEEDS if apart[seed] < BASE.thresholds["max_redrawn_difference"]]
    assert len(near) >= 2

    def verdict(label: int, pictures: list[np.ndarray]) -> tuple[str, str]:
        facts = {"class": label, **shared}
        rows = [synthesising.row(place, seed=seed, **facts) for place, seed in enumerate(near)]
        path = synthesising.shard(tmp_path, pictures, rows=rows, **shared)
        _, seen = check_shards([path], BASE)
        result = check_provenance(seen, BASE, {shared["generator_sha256"]: weights})
        return result.verdict, result.evidence.get("code", "")

    assert verdict(MODERATE, [drawn[MODERATE][seed] for seed in near]) == ("pass", "")
    assert verdict(PROLIFERATIVE, [drawn[MODERATE][seed] for seed in near]) == ("fail", "other_class")
