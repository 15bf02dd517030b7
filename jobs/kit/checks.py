"""
The checks of a weights file that need only the file and the base generator: numbers 1, 4, 5 and 7 of the list.

1 container, 4 schema, 5 numerics, 7 generation; from cheap to dear, and the first that fails stops. The same functions
run at a site (`consortium check`) and inside the centre's sandbox (child.py). Thresholds are the base generator's own
(`checks` in its config.json).
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import likeness
from .container import Container, Limits, read_container
from .errors import ContainerError
from .generator import Base
from .scan import Difference, Scan, differences, scan

Verdict = Literal["pass", "warn", "fail"]
Event = dict[str, Any]
OnEvent = Callable[[Event], None]
Progress = Callable[[int, int, str], None]

SHEET = "samples.png"


@dataclass(frozen=True)
class CheckResult:
    """
    What one check found.

    sentence: for a data manager of a hospital. fix: what to do, given with every fail.
    evidence: JSON values only; `code` names the reason of a fail for machines.
    """

    number: int
    name: str
    verdict: Verdict
    sentence: str
    fix: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    duration_seconds: float = 0.0


def run_checks(
    path: Path | str, base: Base, out_dir: Path | str, on_event: OnEvent | None = None, *, name: str = ""
) -> list[CheckResult]:
    """
    Run the checks in order until one fails.

    Args:
        out_dir: receives samples.png (8 x 8 images) when check 7 is reached.
        on_event: gets each event as a dictionary of JSON values: progress, log, check, file, end.
        name: the name the file had at the site, when `path` is another.
    Returns:
        The results in order; the last is the failed one, if any failed.
    """
    emit = on_event or (lambda event: None)
    results = list(_each_check(Path(path), base, Path(out_dir), emit, name))
    emit({"type": "end", "verdict": verdict_of(results)})
    return results


def verdict_of(results: list[CheckResult]) -> Verdict:
    """Return the worst verdict."""
    found = {result.verdict for result in results}
    return "fail" if "fail" in found else "warn" if "warn" in found else "pass"


def _each_check(path: Path, base: Base, out_dir: Path, emit: OnEvent, name: str) -> Iterator[CheckResult]:
    def progress(done: int, total: int, text: str) -> None:
        emit({"type": "progress", "done": done, "total": total, "text": text})

    def finish(result: CheckResult, started: float) -> CheckResult:
        result = replace(result, duration_seconds=round(time.monotonic() - started, 3))
        emit({"type": "check", **asdict(result)})
        return result

    started = time.monotonic()
    result, container = check_container(path, base, name=name)
    yield finish(result, started)
    if container is None:
        return
    started = time.monotonic()
    result = check_schema(container, base)
    yield finish(result, started)
    if result.verdict == "fail":
        return
    started = time.monotonic()
    emit({"type": "log", "text": f"Reading {container.size:,} bytes, {container.parameters:,} numbers"})
    result = check_numerics(container, base, progress)
    yield finish(result, started)
    if result.verdict == "fail" or not base.asks_for(7):
        return
    started = time.monotonic()
    emit({"type": "log", "text": f"Generating {int(base.thresholds['samples'])} images from fixed seeds"})
    result = check_generation(path, base, out_dir, progress)
    if (out_dir / SHEET).exists():
        emit({"type": "file", "name": SHEET})
    yield finish(result, started)


def check_container(path: Path, base: Base, *, name: str = "") -> tuple[CheckResult, Container | None]:
    """Check 1: the file is a well-formed safetensors file within our limits; see container.py."""
    limits = Limits(
        max_header_bytes=int(base.thresholds["max_header_bytes"]), max_tensors=int(base.thresholds["max_tensors"])
    )
    try:
        container = read_container(path, limits, name=name)
    except ContainerError as error:
        return CheckResult(1, "container", "fail", error.sentence, error.fix, {"code": error.code}), None
    evidence: dict[str, Any] = {
        "size_bytes": container.size,
        "header_bytes": container.data_start - 8,
        "tensors": len(container.tensors),
        "parameters": container.parameters,
        "dtypes": dict(Counter(tensor.dtype for tensor in container.tensors)),
        "metadata": container.metadata,
    }
    sentence = (
        f"A well-formed safetensors file: {len(container.tensors)} tensors, {container.parameters:,} numbers, "
        "nothing hidden between or behind them."
    )
    return CheckResult(1, "container", "pass", sentence, evidence=evidence), container


def check_schema(container: Container, base: Base) -> CheckResult:
    """Check 4: exactly the base's tensor names, each of the base's shape and number format."""
    found = {tensor.name: (tensor.dtype, tensor.shape) for tensor in container.tensors}
    wanted = base.schema
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    shapes = [key for key in wanted if key in found and found[key][1] != wanted[key][1]]
    dtypes = [key for key in wanted if key in found and found[key][0] != wanted[key][0]]
    counts = {"missing": len(missing), "unexpected": len(unexpected), "shape": len(shapes), "dtype": len(dtypes)}
    evidence: dict[str, Any] = {"base": base.slug, "tensors": len(wanted), **counts}
    if not any(counts.values()):
        sentence = f"All {len(wanted)} tensors have the names, shapes and number format of {base.slug}."
        return CheckResult(4, "schema", "pass", sentence, evidence=evidence)
    evidence["examples"] = {
        "missing": missing[:3],
        "unexpected": unexpected[:3],
        "shape": [{"name": k, "found": found[k][1], "wanted": wanted[k][1]} for k in shapes[:3]],
        "dtype": [{"name": k, "found": found[k][0], "wanted": wanted[k][0]} for k in dtypes[:3]],
    }
    code, sentence = _schema_reason(base.slug, evidence)
    fix = f"Fine-tune {base.slug} with `consortium fit` and send the weights.safetensors it writes."
    return CheckResult(4, "schema", "fail", sentence, fix, {"code": code, **evidence})


def _schema_reason(slug: str, evidence: dict[str, Any]) -> tuple[str, str]:
    """Return (code, sentence) of the most telling difference."""
    examples, total = evidence["examples"], evidence["tensors"]
    if evidence["missing"] == total:
        first = examples["unexpected"][0]
        lora = "lora_" in first
        what = "This is a LoRA adapter, which is not accepted yet" if lora else "These weights are of another model"
        return "other_architecture", f"{what}: none of the {total} tensors of {slug} is in the file; it has {first}."
    if evidence["missing"]:
        first = examples["missing"][0]
        return (
            "missing_tensors",
            f"{evidence['missing']} of the {total} tensors of {slug} are missing, the first is {first}.",
        )
    if evidence["unexpected"]:
        first = examples["unexpected"][0]
        return (
            "unexpected_tensors",
            f"The file has {evidence['unexpected']} tensors unknown to {slug}, the first is {first}.",
        )
    kind, word = ("shape", "shape") if evidence["shape"] else ("dtype", "number format")
    first = examples[kind][0]
    found, wanted = (_shape(first[key]) if kind == "shape" else first[key] for key in ("found", "wanted"))
    sentence = (
        f"{evidence[kind]} tensors have another {word} than in {slug}, the first is {first['name']}: "
        f"{found} instead of {wanted}."
    )
    return f"wrong_{kind}", sentence


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def check_numerics(container: Container, base: Base, on_progress: Progress | None = None) -> CheckResult:
    """
    Check 5: every number is finite, the weights are not all zero, and they are not the base itself.

    Evidence: `layers`, the distance from the base relative to the base's norm, |w - base| / |base|, for each group of
    layers. It is reported, not judged: its distribution over accepted contributions is not known yet.
    """
    found = scan(container, on_progress)
    evidence: dict[str, Any] = {"sha256": found.sha256, "tensors": len(found.tensors)}
    problem = _bad_numbers(found)
    if problem is not None:
        code, sentence, fix, more = problem
        return CheckResult(5, "numerics", "fail", sentence, fix, {"code": code, **evidence, **more})
    changes = differences(container, read_container(base.weights))
    layers = layer_distances(changes)
    changed = sum(change.delta_squares > 0 for change in changes)
    evidence |= {"layers": layers, "changed_tensors": changed, "largest": _largest(changes)}
    if changed == 0:
        sentence = f"These are the weights of {base.slug} itself, unchanged: nothing was learnt from your images."
        fix = "Run `consortium fit` on your images and send the weights.safetensors it writes."
        return CheckResult(5, "numerics", "fail", sentence, fix, {"code": "is_the_base", **evidence})
    total = layers["all"]
    sentence = (
        f"All numbers are finite; {changed} of {len(changes)} tensors differ from the base, by {total:.2%} overall."
    )
    return CheckResult(5, "numerics", "pass", sentence, evidence=evidence)


def _bad_numbers(found: Scan) -> tuple[str, str, str, dict[str, Any]] | None:
    """Return (code, sentence, fix, evidence) when a number is not finite or all are zero."""
    bad = [tensor for tensor in found.tensors if not tensor.finite]
    if bad:
        nans, infinite = sum(t.nan_count for t in bad), sum(t.infinite_count for t in bad)
        first = bad[0]
        sentence = (
            f"{len(bad)} tensors hold numbers that are not finite ({nans:,} NaN, {infinite:,} infinite); the first is "
            f"{first.name} with {first.nan_count + first.infinite_count:,} of {first.count:,}."
        )
        fix = "The training diverged, or the file was damaged: train again with a lower learning rate, then send that."
        evidence = {"nan": nans, "infinite": infinite, "tensors_affected": [t.name for t in bad[:10]]}
        return "not_finite", sentence, fix, evidence
    if all(tensor.all_zero for tensor in found.tensors):
        fix = "Send the weights.safetensors that `consortium fit` wrote."
        return "all_zero", "Every number in the file is zero, so it holds no model.", fix, {}
    return None


def layer_distances(changes: list[Difference]) -> dict[str, float]:
    """Return |w - base| / |base| for each group of layers (down_blocks.0, mid_block, ...) and for "all"."""
    sums: dict[str, list[float]] = {}
    for change in changes:
        parts = change.name.split(".")
        group = ".".join(parts[:2]) if len(parts) > 2 and parts[1].isdigit() else parts[0]
        for key in (group, "all"):
            both = sums.setdefault(key, [0.0, 0.0])
            both[0] += change.delta_squares
            both[1] += change.base_squares
    return {key: _finite(math.sqrt(delta / base)) if base else 0.0 for key, (delta, base) in sums.items()}


def _largest(changes: list[Difference]) -> dict[str, Any]:
    change = max(changes, key=lambda c: c.relative if math.isfinite(c.relative) else -1.0)
    return {"name": change.name, "relative": _finite(change.relative)}


def _finite(value: float) -> float:
    """Round for JSON, which knows no infinity."""
    return float(f"{value:.4g}") if math.isfinite(value) else 1e300


def check_generation(path: Path, base: Base, out_dir: Path, on_progress: Progress | None = None) -> CheckResult:
    """
    Check 7: draw images from fixed seeds and look whether they are varied fundus photographs.

    An image is fundus-like when all of these hold (likeness.py defines the numbers; thresholds are in config.json under
    `checks`, and its card.md says what real photographs and the base measure):
        min_contrast: not blank, not constant.
        min_brightness: something is lit in the middle.
        max_corner_ratio: dark corners around a round field.
        min_warmth: red above blue, as haemoglobin and pigment make every retina, in any ethnicity or camera.
        min_smoothness: neighbouring pixels agree, as in a photograph and not in noise.
    Below min_fundus_like (a share of the images; damaged weights give 0) it fails, below warn_fundus_like it warns.
    Diversity: above max_near_duplicates (share of all pairs closer than duplicate_distance) it fails, because the
    generator collapsed to few pictures; above warn_near_duplicates it warns.
    """
    from . import generator  # noqa: PLC0415 -- keeps torch out of the cheap checks

    limits = base.thresholds
    count = int(limits["samples"])
    model = generator.load_weights(generator.build(base.config["architecture"]), path)
    images = generator.sample(
        model,
        base.config["scheduler"],
        [index % len(base.config["classes"]) for index in range(count)],
        seed=int(limits["seed"]),
        steps=int(base.config["sampling_steps"]),
        on_progress=on_progress,
    )
    pixels = generator.to_uint8(images)
    out_dir.mkdir(parents=True, exist_ok=True)
    likeness.save_sheet(pixels, out_dir / SHEET)
    return judge_samples(images, pixels, base)


def judge_samples(images: np.ndarray, pixels: np.ndarray, base: Base) -> CheckResult:
    """Judge raw images (N, S, S, 3) and their uint8 pixels by the thresholds of check_generation()."""
    limits = base.thresholds
    finite = int(np.isfinite(images).all(axis=(1, 2, 3)).sum())
    unit = pixels / 255.0
    measured = [likeness.measure(image) for image in unit]
    like = [_fundus_like(m, limits) for m in measured]
    pairs = likeness.near_duplicates(unit, limits["duplicate_distance"])
    possible = len(pixels) * (len(pixels) - 1) // 2
    median = {k: round(float(np.median([getattr(m, k) for m in measured])), 4) for k in asdict(measured[0])}
    evidence: dict[str, Any] = {
        "samples": len(pixels),
        "seed": int(limits["seed"]),
        "finite": finite,
        "fundus_like": sum(like),
        "near_duplicate_pairs": len(pairs),
        "pairs": possible,
        "median": median,
        "sheet": SHEET,
    }
    return _generation_result(evidence, limits)


def _fundus_like(m: likeness.Likeness, limits: dict[str, float]) -> bool:
    return (
        m.contrast >= limits["min_contrast"]
        and m.brightness >= limits["min_brightness"]
        and m.corner_ratio <= limits["max_corner_ratio"]
        and m.warmth >= limits["min_warmth"]
        and m.smoothness >= limits["min_smoothness"]
    )


def _generation_result(evidence: dict[str, Any], limits: dict[str, float]) -> CheckResult:
    count, like, pairs = evidence["samples"], evidence["fundus_like"], evidence["near_duplicate_pairs"]
    again = (
        "Train again from the base, with a lower learning rate or fewer steps, and look at the samples before sending."
    )

    def result(verdict: Verdict, sentence: str, code: str = "") -> CheckResult:
        more = {"code": code} if code else {}
        return CheckResult(7, "generation", verdict, sentence, again if code else "", more | evidence)

    if evidence["finite"] < count:
        return result("fail", f"{count - evidence['finite']} of {count} generated images hold NaN.", "not_finite")
    if evidence["median"]["contrast"] < limits["min_contrast"]:
        return result("fail", "The generated images are blank or of one colour.", "blank")
    if like < limits["min_fundus_like"] * count:
        sentence = f"Only {like} of {count} generated images look like fundus photographs (round, warm, smooth)."
        return result("fail", sentence, "not_fundus_like")
    if pairs > limits["max_near_duplicates"] * evidence["pairs"]:
        sentence = f"{pairs} of {evidence['pairs']} pairs of generated images are nearly the same picture."
        return result("fail", sentence, "not_diverse")
    sentence = f"{like} of {count} generated images look like fundus photographs; {pairs} pairs are nearly the same."
    if like < limits["warn_fundus_like"] * count or pairs > limits["warn_near_duplicates"] * evidence["pairs"]:
        return result("warn", sentence, "borderline")
    return result("pass", sentence)
