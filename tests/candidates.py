"""Candidates, evaluations and releases for tests: small real encoders, measured by the kit, moved by the services."""

import csv
import functools
import io
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from django.utils import timezone
from PIL import Image

from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus, DataSet
from contributions.models import Contribution
from governance.benchmarks import services as benchmarks
from governance.benchmarks.models import Evaluation, Task
from governance.board import services as boards
from governance.board.models import Motion
from governance.releases import cards
from governance.releases import services as releases
from governance.releases.models import Candidate, License, Release
from jobs.kit import dataset as kit_dataset
from jobs.kit import encoder, evaluate, probe
from jobs.publish import publish
from portal import storage
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.programmes.models import Programme
from tests import factories

SMALL = encoder.EncoderConfig("small", 16, 4, 16, 1, 2, decoder_width=8, decoder_depth=1, decoder_heads=2)
PROBE = probe.ProbeConfig(inverse_regularisations=(0.01, 0.1), inner_folds=2)  # the default takes seconds
REGIONS = {"IN": "Southern Asia", "GB": "Northern Europe"}
CREDITS = "Grey squares of [nobody](https://example.org), CC0-1.0."
LICENCE_TEXT = "Attribution-NonCommercial 4.0 International\n\nYou may share it, not sell it.\n"
TASKS = [
    evaluate.TaskConfig("dr", "Diabetic retinopathy", "bright", subgroups=("region", "source")),
    evaluate.TaskConfig("amd", "AMD", "amd", subgroups=("region", "source")),
]
_numbers = count(1)


class Measured(NamedTuple):
    """One small encoder: its weight file, SHA-256, transform, and the kit's report on each of TASKS."""

    weights: bytes
    sha256: str
    transform: dict[str, Any]
    reports: list[dict[str, Any]]


def write_images(folder: Path) -> Path:
    """Write 120 grey squares of 60 patients in two countries; `bright` is their brightness, `amd` nobody graded."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "patient_group", "country", "source", "split", "bright", "amd"])
        writer.writeheader()
        for i in range(120):
            bright = (i // 2) % 2
            pixels = rng.integers(0, 120, (16, 16, 3)) + 40 * bright + rng.integers(0, 60)
            buffer = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
            (folder / "images" / f"{i:03}.png").write_bytes(buffer.getvalue())
            place = {"country": "IN" if i < 60 else "GB", "source": "few" if i >= 110 else "many"}
            split = ("train", "test")[i // 2 % 16 // 8]
            writer.writerow(
                {"file": f"{i:03}.png", "patient_group": f"p{i // 2}", "split": split, "bright": bright, **place}
            )
    return folder


@functools.cache
def measured(seed: int = 1) -> Measured:
    """Return a small encoder with random weights and what the kit measured, once per process and seed."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        sha256 = encoder.save_encoder(SMALL, encoder.build_mae(SMALL, seed=seed).vit, folder)
        model = encoder.load_encoder(folder)
        (folder / "set").mkdir()
        image_set = kit_dataset.read_image_set(write_images(folder / "set"))
        reports = evaluate.evaluate_all(
            model, image_set, TASKS, n_resamples=200, probe_config=PROBE, region_of=REGIONS, seed=0
        )
        return Measured((folder / "model.safetensors").read_bytes(), sha256, model.transform, reports)


def dataset(programme: Programme) -> DataSet:
    """The squares as a registered data set, and a task for each disease."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "set")
        folder.mkdir()
        tar = Path(root, "set.tar")
        kit_dataset.write_tar(write_images(folder), tar)
        records = kit_dataset.read_image_set(tar).records
        row = corpora.register_dataset(
            programme,
            tar,
            slug="squares",
            by=None,
            now=timezone.now(),
            title="Grey squares",
            credits=CREDITS,
            is_phantom=True,
            image_count=len(records),
            train_count=sum(record.split == "train" for record in records),
            patient_count=len({record.patient_group for record in records}),
            manifest_sha256=kit_dataset.manifest_sha256(records),
        )
    for position, config in enumerate(TASKS):
        benchmarks.register_task(
            row,
            slug=config.slug,
            name=config.title,
            label=config.label,
            protocol={},
            position=position,
            by=None,
            now=timezone.now(),
        )
    return row


def corpus(programme: Programme, *generators: Contribution) -> Corpus:
    """A frozen corpus of the squares' training split and 8 images from each generator."""
    data = DataSet.objects.first() or dataset(programme)
    row = corpora.draft_corpus(
        programme, slug=f"corpus-{next(_numbers)}", title="Corpus of squares", by=None, now=timezone.now()
    )
    corpora.add_dataset(row, data, image_count=data.train_count)
    for contribution in generators:
        corpora.add_generator(row, contribution, image_count=8, seed=1, now=timezone.now())
    return corpora.freeze(row, by=None, now=timezone.now())


def candidate(
    programme: Programme, name: str = "Small encoder", *, seed: int = 1, mixture: Corpus | None = None
) -> Candidate:
    """A trained candidate whose weights lie in the vault."""
    made, number = measured(seed), next(_numbers)
    key = f"candidates/{number}.safetensors"
    storage.put(storage.VAULT, key, made.weights)
    return releases.register_candidate(
        programme=programme,
        slug=f"candidate-{number}",
        name=name,
        kind=Candidate.Kind.TRAINED,
        description="Sees grey squares.",
        config={"encoder": {"architecture": "vit-mae-encoder"}, "transform": made.transform},
        sha256=made.sha256,
        corpus=mixture or corpus(programme),
        run_id=number,
        training={"method": "none: random weights", "images": 60, "steps": 0, "batch": 1, "seed": seed},
        size_bytes=len(made.weights),
        storage_key=key,
        by=None,
        now=timezone.now(),
    )


def evaluations(candidate: Candidate, *, seed: int = 1, run_id: int = 0) -> list[Evaluation]:
    """Record what the kit measured of the encoder made from `seed`, on every task."""
    run_id = run_id or next(_numbers)
    tasks = {task.slug: task for task in Task.objects.all()}
    return [
        benchmarks.record_evaluation(
            tasks[report["task"]["slug"]], candidate, run_id=run_id, report=report, now=timezone.now()
        )
        for report in measured(seed).reports
    ]


def license() -> License:
    row = License.objects.filter(spdx_id="CC-BY-NC-4.0").first()
    return row or releases.register_license(
        spdx_id="CC-BY-NC-4.0",
        title="Creative Commons Attribution-NonCommercial 4.0 International",
        url="https://creativecommons.org/licenses/by-nc/4.0/",
        text=LICENCE_TEXT,
        by=None,
        now=timezone.now(),
    )


def proposed(candidate: Candidate, *, version: str = "1.0") -> Release:
    """A release before the board, with the card drafted from what is on record."""
    operator = User.objects.filter(consortium_roles__role="operator").first()
    return boards.propose_release(
        candidate,
        name=candidate.name,
        version=version,
        license=license(),
        card=cards.draft(candidate, benchmarks.latest(candidate)),
        by=operator or factories.consortium_person("Olu Operator", "operator"),
        now=timezone.now(),
    )


def released(candidate: Candidate, *, version: str = "1.0") -> Release:
    """A release that the board carried, with its files in place."""
    release = proposed(candidate, version=version)
    if not accounts.seated(None).exists():
        factories.board()
    factories.vote_all(Motion.objects.get(release=release))
    publish(release.pk)
    release.refresh_from_db()
    return release


def accept(release: Release, user: User) -> None:
    releases.accept_license(
        release,
        license_sha256=release.license.sha256,
        typed_name=user.name,
        institution_name="Independent",
        purpose="Comparing encoders.",
        channel="browser",
        by=user,
        now=timezone.now(),
    )
