"""Putting the files of a released model in place: weights, configuration, card, evaluation, licence, SHA256SUMS."""

import json

from django.db import transaction

from governance.benchmarks import services as benchmarks
from governance.releases import services as releases
from governance.releases.lifecycle import Status
from governance.releases.models import Release


def publish(release_id: int) -> None:
    """Write every file of the release; the site shows them all or none. Safe to repeat: what is there stays."""
    release = Release.objects.select_related("candidate").get(pk=release_id)
    if _is_due(release):
        releases.copy_weights(release)  # as long as a large file takes to copy: in no transaction
        _publish(release_id)


def _is_due(release: Release) -> bool:
    return release.status == Status.RELEASED and not release.files.filter(name="SHA256SUMS").exists()


@transaction.atomic
def _publish(release_id: int) -> None:
    """One at a time: one that another has overtaken would write after it."""
    rows = Release.objects.select_for_update(of=("self",)).select_related("candidate__corpus", "license")
    release = rows.get(pk=release_id)
    if not _is_due(release):
        return
    releases.add_weights(release)
    candidate = release.candidate
    evaluations = [row.report for row in benchmarks.latest(candidate, until=release.released_at)]  # what was decided on
    texts = {
        "README.md": release.card,
        "LICENSE.txt": release.license.text,
        "config.json": json.dumps(candidate.config["encoder"], indent=2) + "\n",
        "transform.json": json.dumps(candidate.config["transform"], indent=2) + "\n",
        "training.json": json.dumps(candidate.training, indent=2) + "\n",
        "evaluation.json": json.dumps(evaluations, indent=2) + "\n",
    }
    for name, text in texts.items():
        releases.add_file(release, name=name, content=text.encode(), content_type="text/plain; charset=utf-8")
    releases.add_file(
        release, name="SHA256SUMS", content=releases.sha256sums(release).encode(), content_type="text/plain"
    )
