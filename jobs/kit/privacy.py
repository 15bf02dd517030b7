"""
The privacy report: what the weights give away of the photographs they were made from, measured where those lie.

It is the evidence that EDPB Opinion 28/2024 (paragraphs 29 to 58) asks for before a model is said to be unlikely to
give away personal data. It holds statistics only: no image, no name, no path, no figure of a single photograph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__, copies, generator, images, membership, scan
from .encoder import LITE0_SHA256
from .errors import KitError
from .fit_card import DP_FACTS

SAMPLES, FEWEST_SAMPLES = 64, 16  # fewer only where fewer images are sent
MINIMUM_IMAGES = 20  # on either side: fewer tell nothing, and a cell this small could point at people
# On either side, drawn by seed, for the attack and the threshold: more narrow the interval little, and cost minutes on
# a CPU. Copies are looked for among all that were trained on: of half of them, half of the copies would be found.
MOST_IMAGES = 500
DP_NUMBERS = ("epsilon", "noise_multiplier", "sample_rate", "delta", "clip_norm")
ATTACKS = {"loss": "the loss alone", "loss_less_base": "the loss less the base generator's"}

Progress = Callable[[int, int, str], None]


class PrivacyError(KitError):
    """The report cannot be made."""

    default_code = "privacy_not_measured"


@dataclass(frozen=True)
class Side:
    """
    Photographs of one side, training or held out, that are asked for: squares (N, S, S, 3), classes and patients (N,).

    features (M, D), bits (M, 64): of all that an image is compared with; of the training side, of every photograph.
    """

    squares: NDArray[np.uint8]
    classes: NDArray[np.int64]
    patients: NDArray[Any]
    features: NDArray[np.float32]
    bits: NDArray[np.bool_]


def report(
    folder: Path | str,
    weights: Path | str,
    base_dir: Path | str,
    *,
    dp: dict[str, Any] | None = None,
    device: str = "cpu",
    seed: int = 0,
    most: int = MOST_IMAGES,
    samples: int = SAMPLES,
    sent: NDArray[np.uint8] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """
    Measure weights against the photographs of `folder`: rows of the split "train" trained them, all others did not.

    Args:
        dp: the training card's entry; see declared().
        most: photographs of either side that the attack asks for, drawn by seed.
        samples: images drawn from the weights.
        sent: the images (N, S, S, 3) that are to be sent, instead of drawing some.
    Returns:
        The predicate of the signed statement (statements.PRIVACY), JSON values only.
    Raises:
        PrivacyError: fewer than MINIMUM_IMAGES on a side, or a patient on both.
    """
    base = generator.load_base(base_dir)
    train, held_out = sides(folder, base, seed=seed, most=most, device=device, on_progress=on_progress)
    model = generator.load(base, weights).to(device)
    first = generator.load(base).to(device)
    drawn = _drawn_from(model, base, samples, on_progress) if sent is None else sent
    return {
        "base": {"slug": base.slug, "sha256": base.sha256},
        "weights_sha256": scan.sha256_of(weights),
        "images": {"train": len(train.bits), "held_out": len(held_out.squares), "generated": len(drawn)},
        "copies": _copies(drawn, train, held_out, seed=seed, device=device),
        "membership": _membership(model, first, base.config["scheduler"], train, held_out, on_progress),
        "dp": declared(dp),
        "method": _method(base, seed=seed, most=most, device=device),
    }


def declared(dp: object) -> dict[str, Any]:
    """Return of a training card's entry what a report holds: numbers and the kit's texts, none of the site's words."""
    if not isinstance(dp, dict) or not dp.get("used"):
        return {"used": False}
    numbers = {name: dp[name] for name in DP_NUMBERS if type(dp.get(name)) in {int, float}}
    return {"used": True, **numbers, **{name: text for name, text in DP_FACTS.items() if dp.get(name) == text}}


def _drawn_from(model: Any, base: generator.Base, samples: int, on_progress: Progress | None) -> NDArray[np.uint8]:
    drawn = generator.sample(
        model,
        base.config["scheduler"],
        [index % len(base.config["classes"]) for index in range(samples)],
        seed=int(base.thresholds["seed"]),
        steps=int(base.config["sampling_steps"]),
        on_progress=on_progress,
    )
    return generator.to_uint8(drawn)


def sides(
    folder: Path | str,
    base: generator.Base,
    *,
    seed: int = 0,
    most: int = MOST_IMAGES,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> tuple[Side, Side]:
    """Read the training and the held-out photographs of a folder; at most `most` of each are asked for."""
    train, held_out = images.sides(images.read_folder(folder))
    # As `fit` does; what is on both sides was trained on.
    kept = {row.path for row in images.without_duplicates([*train, *held_out], on_progress)}
    train, held_out = ([row for row in side if row.path in kept] for side in (train, held_out))
    _require_apart(train, held_out)
    others = _drawn(held_out, most, seed)
    return (
        _side(train, _drawn(train, most, seed), base, device, on_progress),
        _side(others, others, base, device, on_progress),
    )


def _require_apart(train: list[images.Photograph], held_out: list[images.Photograph]) -> None:
    """Raise PrivacyError unless there are enough photographs on either side, and no patient on both."""
    both = {row.patient for row in train if row.patient} & {row.patient for row in held_out}
    if both:
        raise PrivacyError(
            f"{len(both)} patients have photographs on both sides, training and held out.",
            code="patient_on_both_sides",
            fix="Split by patient: `consortium prepare` does.",
        )
    for side, name in ((train, "training"), (held_out, "held-out")):
        if len(side) < MINIMUM_IMAGES:
            raise PrivacyError(
                f"There are {len(side)} {name} photographs; the report needs at least {MINIMUM_IMAGES} on either side.",
                code="too_few_images",
                fix="Hold some patients' photographs out of training: `consortium prepare` splits a folder.",
            )


def _drawn(rows: list[images.Photograph], most: int, seed: int) -> list[images.Photograph]:
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), most, replace=False)
    return [rows[index] for index in np.sort(chosen)]


def _side(
    rows: list[images.Photograph],
    asked: list[images.Photograph],
    base: generator.Base,
    device: str,
    on_progress: Progress | None,
) -> Side:
    """Read `rows`, few of them in memory, and keep the pixels of those among them that are asked for."""
    wanted, kept, features, bits = {row.path for row in asked}, [], [], []
    for start in range(0, len(rows), images.AT_ONCE):
        some = rows[start : start + images.AT_ONCE]
        squares = images.load_squares(some, base.image_size)
        features.append(copies.features(squares, device))
        bits.append(copies.perceptual_hash(squares))
        kept.append(squares[[row.path in wanted for row in some]])
        if on_progress is not None:
            on_progress(start + len(some), len(rows), "Reading photographs")
    # A photograph without a pseudonym is a patient of its own.
    patients = np.array([row.patient or f"\0{index}" for index, row in enumerate(asked)])
    classes = images.classes_of(asked, base.config["classes"])
    return Side(np.concatenate(kept), classes, patients, np.concatenate(features), np.concatenate(bits))


def _copies(drawn: NDArray[np.uint8], train: Side, held_out: Side, *, seed: int, device: str) -> dict[str, Any]:
    ours, centre = copies.features(drawn, device), train.features.mean(axis=0)
    by_features = copies.nearest(
        lambda theirs: copies.by_features(ours, theirs, centre),
        lambda theirs: copies.by_features(held_out.features, theirs, centre),
        train.features,
        held_out.features,
        seed=seed,
    )
    by_hash = copies.nearest(
        lambda theirs: copies.by_hash(drawn, theirs),
        lambda theirs: copies.by_hash(held_out.squares, theirs),
        train.bits,
        held_out.bits,
        seed=seed,
    )
    return {"features": by_features.facts(), "perceptual_hash": by_hash.facts()}


def _membership(
    model: Any, base: Any, settings: dict[str, Any], train: Side, held_out: Side, on_progress: Progress | None
) -> dict[str, Any]:
    def of(network: Any, side: Side) -> NDArray[np.float64]:
        return membership.losses(network, settings, side.squares, side.classes, on_progress)

    ours, first = [of(model, side) for side in (train, held_out)], [of(base, side) for side in (train, held_out)]
    groups = np.concatenate([train.patients, np.char.add("held out ", held_out.patients.astype(str))])
    return {
        "loss": membership.attack(ours[0], ours[1], groups),
        "loss_less_base": membership.attack(ours[0] - first[0], ours[1] - first[1], groups),
    }


def _method(base: generator.Base, *, seed: int, most: int, device: str) -> dict[str, Any]:
    return {
        "kit_version": __version__,
        "seed": seed,
        "most": most,
        "sampling_seed": int(base.thresholds["seed"]),
        "sampling_steps": int(base.config["sampling_steps"]),
        "features": {"encoder": "efficientnet-lite0-imagenet", "sha256": LITE0_SHA256},
        "perceptual_hash": "pHash, 64 bits, mirrored or not",
        "loss": {"noise_steps": list(membership.STEPS), "draws": membership.DRAWS, "seed": membership.SEED},
        "device": device,
    }
