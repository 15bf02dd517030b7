"""Evaluate an encoder on a labelled image set: overall and for each subgroup. Same hashes in, same numbers out."""

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import disclosure, metrics, probe
from .dataset import ImageSet, Record, load_pixels, manifest_sha256
from .encoder import Encoder, features
from .errors import KitError

NOT_STATED = "not stated"
DONE = "done"
NO_LABELLED_DATA = "no_labelled_data"
TOO_FEW_LABELLED = "too_few_labelled"

INTERVAL = "percentile bootstrap over patients; where all resamples agree, Newcombe 2006, method 5"
OnProgress = Callable[[int, int, str], None]


class EvaluationError(KitError):
    """A task that does not fit its image set."""

    default_code = "evaluation_invalid"


@dataclass(frozen=True)
class TaskConfig:
    """
    One row of the benchmark.

    label: a column with the values 0 and 1, empty where not graded; a set without it has no labelled data.
    protocol: probe.GROUPED or probe.FIXED.
    subgroups: columns of the set; `region` may instead be derived from the country (see evaluate).
    """

    slug: str
    title: str
    label: str
    protocol: str = probe.GROUPED
    subgroups: tuple[str, ...] = ("region", "country", "source", "camera")


def evaluate(
    encoder: Encoder,
    image_set: ImageSet,
    task: TaskConfig,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    probe_config: probe.ProbeConfig | None = None,
    region_of: Mapping[str, str] | None = None,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Return the result of one task: see evaluate_all, which takes the same arguments."""
    return evaluate_all(
        encoder,
        image_set,
        [task],
        n_resamples=n_resamples,
        seed=seed,
        probe_config=probe_config,
        region_of=region_of,
        device=device,
        on_progress=on_progress,
    )[0]


def evaluate_all(
    encoder: Encoder,
    image_set: ImageSet,
    tasks: Sequence[TaskConfig],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    probe_config: probe.ProbeConfig | None = None,
    region_of: Mapping[str, str] | None = None,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """
    Compute the features once and return one JSON-serialisable result for each task.

    All figures but `seconds` follow from the weights, the images, the labels and the protocol that the result names.

    Args:
        n_resamples: bootstrap resamples of patients. seed: of the bootstrap; the folds' is in probe_config.
        region_of: country -> region, for the subgroup `region`; without it the column `region` is read.
        device: "cpu" or "cuda", of the features; named among the versions, for figures may differ in their last digits.
        on_progress: called with (done, total, text), one total for the whole call.
    Raises:
        EvaluationError: an unknown protocol, a label column with other values than 0, 1 or empty, or a fixed split
            that has a patient on both sides.
    """
    config = probe_config or probe.ProbeConfig()
    for task in tasks:
        _check_task(image_set, task)
    n_images = len(image_set.records)
    total = 2 * n_images + len(tasks)
    report = on_progress or (lambda done, total, text: None)

    started = time.monotonic()
    pixels = load_pixels(image_set, encoder.image_size, lambda done, _, text: report(done, total, text))
    found = features(encoder, pixels, device, on_progress=lambda done, _, text: report(n_images + done, total, text))
    feature_seconds = time.monotonic() - started

    shared = {
        "encoder": _describe(encoder),
        "inputs": {
            "manifest_sha256": manifest_sha256(image_set.records),
            "labels_sha256": image_set.labels_sha256,
            "n_images": n_images,
        },
        "versions": {**library_versions(), "device": device},
    }
    bootstrap = {"n_resamples": n_resamples, "seed": seed, "alpha": 0.05}
    results = []
    for number, task in enumerate(tasks, start=1):
        started = time.monotonic()
        outcome = _run_task(found, image_set.records, task, config, bootstrap, region_of)
        seconds = {"features": round(feature_seconds, 3), "task": round(time.monotonic() - started, 3)}
        results.append({**_heading(task, config, bootstrap), **shared, **outcome, "seconds": seconds})
        report(2 * n_images + number, total, f"Probe for {task.title}")
    return results


def library_versions() -> dict[str, str]:
    """Return the versions of all that takes part in a figure."""
    names = ("torch", "transformers", "scikit-learn", "numpy", "pillow", "efficientnet-lite-pytorch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _check_task(image_set: ImageSet, task: TaskConfig) -> None:
    if task.protocol not in (probe.GROUPED, probe.FIXED):
        raise EvaluationError(f"The task {task.slug} asks for an unknown protocol {task.protocol!r}.")
    strange = sorted({record.column(task.label) for record in image_set.records} - {"", "0", "1"})
    if strange:
        raise EvaluationError(f"The column {task.label} holds {strange[0]!r}; a label is 0, 1 or empty.")
    if task.protocol == probe.FIXED:
        _require_apart(image_set.records)


def _require_apart(records: Sequence[Record]) -> None:
    """Raise EvaluationError where a patient is scored who was fitted on; of the same split encoders learn, too."""
    fitted, scored = (
        {record.patient_group for record in records if record.split in splits} for splits in (probe.FITTED, {"test"})
    )
    if both := fitted & scored:
        raise EvaluationError(
            f"{len(both)} patients have images in the split test and in train or val.",
            code="patient_on_both_sides",
            fix="Split by patient, or use the protocol of cross-validation by patient.",
        )


def _describe(encoder: Encoder) -> dict[str, Any]:
    return {
        "name": encoder.name,
        "sha256": encoder.sha256,
        "dimension": encoder.dimension,
        "transform": encoder.transform,
    }


def _heading(task: TaskConfig, config: probe.ProbeConfig, bootstrap: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": {"slug": task.slug, "title": task.title, "label": task.label, "subgroups": list(task.subgroups)},
        "protocol": {
            **config.describe(task.protocol),
            "interval": {"method": INTERVAL, **bootstrap},
            "suppressed_below": metrics.MINIMUM_CELL,
            "suppressed_below_patients": metrics.MINIMUM_PATIENTS,
        },
    }


def _run_task(
    found: NDArray[np.float32],
    records: Sequence[Record],
    task: TaskConfig,
    config: probe.ProbeConfig,
    bootstrap: Mapping[str, Any],
    region_of: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Fit, score and measure; a task without enough labels is an answer, not an error."""
    rows = np.array([i for i, record in enumerate(records) if record.column(task.label)], dtype=np.intp)
    if not len(rows):
        return _unanswered(NO_LABELLED_DATA, f"No image of the set is labelled for {task.title}.")
    try:
        rows, scores, chosen_c = _scored(found, records, rows, task, config)
    except probe.ProbeError as error:
        if error.code != TOO_FEW_LABELLED:
            raise
        return _unanswered(TOO_FEW_LABELLED, str(error))
    chosen = [records[row] for row in rows]
    y = np.array([int(record.column(task.label)) for record in chosen])
    patients = np.array([record.patient_group for record in chosen])
    overall = metrics.bootstrap_auroc(y, scores, patients, **bootstrap)
    subgroups = _subgroup_cells(task.subgroups, chosen, y, scores, patients, bootstrap, region_of)
    return {
        "status": DONE,
        "sentence": "",
        "chosen_c": chosen_c,
        "overall": _cell(overall),
        "subgroups": subgroups,
        "worst_group": _worst(subgroups),
        "gap": _gap(subgroups),
        "roc": [] if overall.suppressed else [list(point) for point in metrics.roc_points(y, scores)],
    }


def _scored(
    found: NDArray[np.float32],
    records: Sequence[Record],
    rows: NDArray[np.intp],
    task: TaskConfig,
    config: probe.ProbeConfig,
) -> tuple[NDArray[np.intp], NDArray[np.float64], list[float]]:
    """Return the rows that the protocol scores, their scores, and the C of each fitted probe."""
    y = np.array([int(records[row].column(task.label)) for row in rows])
    patients = np.array([records[row].patient_group for row in rows])
    if task.protocol == probe.GROUPED:
        return rows, *probe.cross_validated_scores(found[rows], y, patients, config)
    splits = np.array([records[row].split for row in rows])
    held_out, scores, c = probe.fixed_split_scores(found[rows], y, patients, splits, config)
    return rows[held_out], scores, [c]


def _unanswered(status: str, sentence: str) -> dict[str, Any]:
    return {
        "status": status,
        "sentence": sentence,
        "chosen_c": [],
        "overall": None,
        "subgroups": [],
        "worst_group": None,
        "gap": None,
        "roc": [],
    }


def _subgroup_cells(
    attributes: Sequence[str],
    chosen: Sequence[Record],
    y: NDArray[np.int_],
    scores: NDArray[np.float64],
    patients: NDArray[Any],
    bootstrap: Mapping[str, Any],
    region_of: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """Return one cell for each value of each attribute, in the order of the values."""
    cells, members, sides = [], [], []
    for attribute in attributes:
        values = np.array([_value(record, attribute, region_of) for record in chosen])
        groups = [(str(value), values == value) for value in np.unique(values)]
        of_each = [metrics.sides(y[group], patients[group]) for _, group in groups]
        measured = [
            {
                "attribute": attribute,
                "value": value,
                **_cell(metrics.bootstrap_auroc(y[group], scores[group], patients[group], **bootstrap)),
            }
            for value, group in groups
        ]
        cells += disclosure.within(measured, of_each)
        members += [group for _, group in groups]
        sides += of_each
    return disclosure.across(cells, np.array(members), sides) if cells else []


def _value(record: Record, attribute: str, region_of: Mapping[str, str] | None) -> str:
    if attribute == "region" and region_of is not None:
        return region_of.get(record.country, "") or NOT_STATED
    return record.column(attribute) or NOT_STATED


def _cell(measured: metrics.AurocInterval) -> dict[str, Any]:
    """Return a cell of the report; a suppressed one shows its n and nothing else."""
    return {
        "n": measured.n,
        "n_positive": measured.n_positive,
        "n_patients": measured.n_patients,
        "suppressed": measured.suppressed,
        "auroc": measured.estimate,
        "low": measured.low,
        "high": measured.high,
        "n_excluded": measured.n_excluded,
    }


def _shown(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the cells with figures, less "not stated": that is a lack of data, not a group of people."""
    return [cell for cell in cells if not cell["suppressed"] and cell["value"] != NOT_STATED]


def _worst(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the named group with the lowest AUROC, whatever its attribute; None where no cell is shown."""
    shown = _shown(cells)
    if not shown:
        return None
    worst = min(shown, key=lambda cell: cell["auroc"])
    return {key: worst[key] for key in ("attribute", "value", "n", "auroc", "low", "high")}


def _gap(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the widest distance between the best and the worst cell of one attribute; None where no two are shown."""
    widest: dict[str, Any] | None = None
    for attribute in dict.fromkeys(cell["attribute"] for cell in cells):
        of_attribute = [cell for cell in _shown(cells) if cell["attribute"] == attribute]
        shown = sorted(of_attribute, key=lambda cell: cell["auroc"])
        if len(shown) < 2:
            continue
        difference = shown[-1]["auroc"] - shown[0]["auroc"]
        if widest is None or difference > widest["difference"]:
            low, high = _interval_of_difference(shown[-1], shown[0])
            widest = {
                "attribute": attribute,
                "best": shown[-1]["value"],
                "worst": shown[0]["value"],
                "difference": difference,
                "low": low,
                "high": high,
                "n_groups": len(shown),
            }
    return widest


def _interval_of_difference(better: Mapping[str, Any], worse: Mapping[str, Any]) -> tuple[float, float]:
    """
    Return the interval of the difference of two areas that share no patient, from the interval of each.

    It knows nothing of how the two were chosen: the farthest apart of many differ by more than two named beforehand.

    Source: Zou and Donner 2008, doi 10.1002/sim.3095 (square and add), after Newcombe 1998, method 10.
    """
    difference = better["auroc"] - worse["auroc"]
    below = math.hypot(better["auroc"] - better["low"], worse["high"] - worse["auroc"])
    above = math.hypot(better["high"] - better["auroc"], worse["auroc"] - worse["low"])
    return difference - below, difference + above
