"""Data sets, corpora, candidates and releases for tests, through the real services."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from django.utils import timezone

from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus, DataSet
from contributions.models import Contribution
from governance.benchmarks import services as benchmarks
from governance.benchmarks.models import Task
from governance.board import services as boards
from governance.releases import services as releases
from governance.releases.models import Candidate, License, Release
from jobs import publish
from jobs.kit import metrics
from portal import storage
from portal.accounts.models import User
from portal.programmes.models import Programme
from tests.factories import vote_all


def candidate(programme: Programme, *, slug: str = "tiny", corpus: Corpus | None = None) -> Candidate:
    """A trained candidate with a small weights file in the vault."""
    content = b"\x02\x00\x00\x00\x00\x00\x00\x00{}" + slug.encode()
    key = f"candidates/{slug}.safetensors"
    storage.put(storage.VAULT, key, content)
    return releases.register_candidate(
        programme=programme,
        slug=slug,
        name=slug.title(),
        kind=Candidate.Kind.TRAINED,
        description="For tests.",
        config={"encoder": {"name": slug}, "transform": {"image_size": 96}},
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        storage_key=key,
        corpus=corpus or frozen_corpus(programme, slug=f"corpus-{slug}"),
        run_id=1,
        by=None,
        now=timezone.now(),
    )


def dataset(programme: Programme) -> DataSet:
    """A data set whose tar holds a line of text: enough where nobody reads the images."""
    existing = DataSet.objects.filter(slug="test-images").first()
    if existing is not None:
        return existing
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"no images")
        file.flush()
        return corpora.register_dataset(
            programme,
            Path(file.name),
            slug="test-images",
            by=None,
            now=timezone.now(),
            title="Test images",
            credits="Nobody.",
            image_count=2,
            train_count=1,
            patient_count=2,
            manifest_sha256="0" * 64,
        )


def frozen_corpus(programme: Programme, *given: Contribution, slug: str) -> Corpus:
    corpus = corpora.draft_corpus(programme, slug=slug, title=slug.title(), by=None, now=timezone.now())
    corpora.add_dataset(corpus, dataset(programme), image_count=1)
    for contribution in given:
        corpora.add_generator(corpus, contribution, image_count=8, seed=1, now=timezone.now())
    return corpora.freeze(corpus, by=None, now=timezone.now())


def benchmark_task(programme: Programme, *, slug: str = "dr") -> Task:
    return benchmarks.register_task(
        dataset(programme),
        slug=slug,
        name=slug.upper(),
        label="dr_any",
        protocol={},
        position=0,
        by=None,
        now=timezone.now(),
    )


def license_text() -> License:
    return License.objects.first() or releases.register_license(
        spdx_id="CC-BY-NC-4.0",
        title="Creative Commons Attribution-NonCommercial 4.0 International",
        url="https://creativecommons.org/licenses/by-nc/4.0/",
        text="The licence's text.",
        by=None,
        now=timezone.now(),
    )


def proposed_release(by: User, *given: Contribution, slug: str = "tiny") -> Release:
    """A release before the board of a model that learnt from what was given; needs `board`."""
    programme = Programme.objects.earliest("pk")
    return boards.propose_release(
        candidate(programme, slug=slug, corpus=frozen_corpus(programme, *given, slug=f"corpus-{slug}")),
        name=slug.title(),
        version="1.0",
        license=license_text(),
        card="# Card",
        by=by,
        now=timezone.now(),
    )


def released_model(by: User, *, slug: str = "tiny") -> Release:
    """A release that the board carried, its files in place."""
    release = proposed_release(by, slug=slug)
    vote_all(release.motions.get())
    publish.publish(release.pk)
    release.refresh_from_db()
    return release


def evaluation_report(auroc: float = 0.8) -> dict[str, Any]:
    """Return a report of the kit's own evaluation: 80 patients, features that tell the label as well as asked."""
    rng = np.random.default_rng(3)
    y = np.arange(80) % 2
    score = y * (2 * auroc - 1) + rng.random(80)
    overall = metrics.bootstrap_auroc(y, score, np.arange(80), n_resamples=50)
    cell = {name: getattr(overall, name) for name in ("n", "n_positive", "n_patients", "low", "high", "n_excluded")}
    return {
        "status": "done",
        "sentence": "",
        "overall": {**cell, "auroc": overall.estimate, "suppressed": False},
        "subgroups": [],
        "worst_group": None,
        "gap": None,
        "roc": [list(point) for point in metrics.roc_points(y, score)],
        "protocol": {},
        "encoder": {},
        "inputs": {},
        "versions": {},
        "seconds": {},
    }
