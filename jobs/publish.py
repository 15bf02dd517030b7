"""Putting the files of a released model in place: weights, configuration, card, evaluation, licence, SHA256SUMS."""

import json

from django.db import connection, transaction

from governance.benchmarks import services as benchmarks
from governance.releases import services as releases
from governance.releases.lifecycle import Status
from governance.releases.models import Release


@transaction.atomic
def publish(release_id: int) -> None:
    """
    Write every file of the release, SHA256SUMS last; the site shows them all or none. Safe to repeat.

    While one is at it, as long as a large file takes to copy, another does nothing: it would write other bytes under
    the names of the first where a newer evaluation has come meanwhile.
    """
    if not _is_alone(release_id):
        return
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


def _is_alone(release_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"publish-release-{release_id}"])
        return cursor.fetchone() == (True,)
