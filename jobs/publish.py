"""Putting the files of a released model in place: weights, configuration, card, evaluation, licence, SHA256SUMS."""

import json

from governance.benchmarks import services as benchmarks
from governance.releases import services as releases
from governance.releases.lifecycle import Status
from governance.releases.models import Release


def publish(release_id: int) -> None:
    """Write every file of the release, SHA256SUMS last. Safe to repeat: what is there stays."""
    release = Release.objects.select_related("candidate__corpus", "license").get(pk=release_id)
    if release.status != Status.RELEASED or release.files.filter(name="SHA256SUMS").exists():
        return
    releases.add_weights(release)
    candidate = release.candidate
    evaluations = [row.report for row in benchmarks.latest(candidate)]
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
