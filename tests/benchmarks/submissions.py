"""Run by `manage.py shell`: submit small files one by one and print how long each check took to start."""

import hashlib
import json
import statistics
import time
from base64 import b64encode

import redis
import urllib3
from django.conf import settings
from django.utils import timezone

from contributions import attestations
from contributions import services as contributions
from contributions.models import Contribution
from jobs.models import Run, RunEvent
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.programmes.models import BaseModel
from tests import attesting

CARD = {
    "images": 520, "patients": 260, "steps": 400, "batch_size": 16, "learning_rate": 1e-4, "seed": 1,
    "augmentation": "flips", "deduplication": "by file hash", "dp": {"used": False}, "cameras": "unknown",
    "demographics": "unknown",
}  # fmt: skip
institution = Institution.objects.get(slug="ganga-retina-institute")
steward = institutions.people(institution, "steward").earliest("pk")


def draft(number: int) -> Contribution:
    contribution = contributions.draft(
        institution, kind="weights", title=f"Bench {number}", base_model=BaseModel.objects.get(), training_card=CARD,
        by=steward, now=timezone.now(),
    )  # fmt: skip
    content = f"not a safetensors file, number {number}".encode()
    digest = hashlib.sha256(content)
    parts_sha256 = hashlib.sha256(digest.digest()).hexdigest()  # of its one part
    file = contributions.add_file(
        contribution,
        name="w.safetensors",
        size_bytes=len(content),
        parts_sha256=parts_sha256,
        by=steward,
        now=timezone.now(),
    )
    (part,) = contributions.sign_parts(file, [(1, b64encode(digest.digest()).decode())], by=steward)
    assert urllib3.request("PUT", part["url"], body=content, headers=part["headers"]).status == 200
    contributions.complete_file(file, sha256=digest.hexdigest(), by=steward, now=timezone.now())
    key = attesting.key_of("bench")  # registered nowhere: check 1 refuses before
    for kind, envelope in (
        ("signature", attesting.signature(content, key)),
        ("privacy", attesting.privacy(content, key)),
    ):
        attestations.attest(contribution, kind=kind, envelope=envelope, by=steward, now=timezone.now())
    return contribution


def started_after(contribution: Contribution) -> float:
    """Submit, and return the milliseconds from the COMMIT to the `running` transition of its check."""
    contributions.submit(contribution, by=steward, now=timezone.now())
    committed = timezone.now()  # autocommit: submit() has committed when it returns
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        run = Run.objects.filter(kind=Run.Kind.VALIDATE, subject_id=contribution.pk, finished_at__isnull=False).first()
        if run is not None:
            at = RunEvent.objects.filter(run=run, status="running").earliest("pk").at
            return (at - committed).total_seconds() * 1000
        time.sleep(0.05)
    raise AssertionError(f"{contribution} was not checked")


def round_trip() -> float:
    """Return the milliseconds of a bare push and pop on the broker, median of 200."""
    client = redis.Redis.from_url(settings.CELERY_BROKER_URL)

    def once() -> float:
        began = time.perf_counter()
        client.lpush("bench", "x")
        client.brpop("bench")
        return (time.perf_counter() - began) * 1000

    return statistics.median(once() for _ in range(200))


drafts = [draft(number) for number in range(11)]
milliseconds = [started_after(contribution) for contribution in drafts][1:]
print(json.dumps({"milliseconds": milliseconds, "round_trip_milliseconds": round_trip()}))
