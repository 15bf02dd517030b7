"""Contributions for tests, taken to a state by the real services, with real bytes in the real store."""

import base64
import hashlib
import html
import re
from typing import Any

import urllib3
from django.http import HttpResponse
from django.utils import timezone

from contributions import services
from contributions.lifecycle import Status
from contributions.models import Contribution, ContributionFile
from portal.accounts.models import User
from portal.institutions.models import Institution
from portal.programmes.models import BaseModel, Programme
from portal.storage import PART_SIZE_BYTES

CARD: dict[str, Any] = {
    "images": 812,
    "patients": 402,
    "cameras": {"Topcon NW400": 700, "Zeiss Visucam": 112},
    "demographics": {"female": 210, "male": 192},
    "steps": 400,
    "batch_size": 16,
    "learning_rate": 0.0001,
    "seed": 1,
    "augmentation": {"flip": True},
    "deduplication": "by file hash",
    "dp": {"used": False},
}
http = urllib3.PoolManager()


def draft(institution: Institution, base_model: BaseModel, *, by: User, **given: Any) -> Contribution:
    wanted = {"kind": "weights", "title": "Generator of the eye clinic", "training_card": CARD, **given}
    return services.draft(institution, base_model=base_model, by=by, now=timezone.now(), **wanted)


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha256_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def parts_sha256(content: bytes) -> str:
    """Return what an upload of these bytes is known by."""
    parts = [content[start : start + PART_SIZE_BYTES] for start in range(0, max(1, len(content)), PART_SIZE_BYTES)]
    return sha256_hex(b"".join(hashlib.sha256(part).digest() for part in parts))


def announce(contribution: Contribution, content: bytes, *, by: User, name: str = "weights.safetensors"):
    announced = {"name": name, "size_bytes": len(content), "parts_sha256": parts_sha256(content)}
    return services.add_file(contribution, **announced, by=by, now=timezone.now())


def part_of(file: ContributionFile, content: bytes, number: int) -> bytes:
    return content[(number - 1) * file.part_size_bytes :][: file.part_size_bytes]


def put(signed: dict[str, Any], body: bytes) -> urllib3.BaseHTTPResponse:
    """PUT a part as a browser does: the signed headers, no credentials."""
    return http.request("PUT", signed["url"], body=body, headers=signed["headers"], retries=False)


def send(file: ContributionFile, content: bytes, *, by: User, numbers: list[int] | None = None) -> list[int]:
    """Send the parts of a file (or only some) to the store; return the answers' statuses."""
    numbers = numbers or list(range(1, file.part_count + 1))
    bodies = {number: part_of(file, content, number) for number in numbers}
    signed = services.sign_parts(file, [(n, sha256_base64(body)) for n, body in bodies.items()], by=by)
    return [put(row, bodies[row["number"]]).status for row in signed]


def upload(contribution: Contribution, content: bytes, *, by: User, **announced: Any) -> ContributionFile:
    file = announce(contribution, content, by=by, **announced)
    assert set(send(file, content, by=by)) == {200}
    return services.complete_file(file, sha256=sha256_hex(content), by=by, now=timezone.now())


def at_status(status: str, institution: Institution, base_model: BaseModel, *, by: User, content: bytes = b"w" * 100):
    """Return a contribution that walked to `status` through the services."""
    contribution = draft(institution, base_model, by=by)
    now = timezone.now()
    if status == Status.WITHDRAWN:
        return services.withdraw(contribution, by=by, reason="Wrong file.", now=now)
    upload(contribution, content, by=by)
    if status == Status.DRAFT:
        return contribution
    contribution = services.submit(contribution, by=by, now=now)
    if status == Status.SUBMITTED:
        return contribution
    contribution = services.begin_validation(contribution.pk, now=now)
    if status == Status.VALIDATING:
        return contribution
    services.promote_files(contribution.pk)
    contribution = services.refer(contribution.pk, now=now)
    if status == Status.APPROVED:
        return services.approve(contribution.pk, by=None, now=now)
    if status == Status.REJECTED:
        return services.reject(contribution.pk, by=None, reason="Too few patients.", now=now)
    if status == Status.RETURNED:
        return services.return_for_changes(contribution.pk, reason="Which camera?", now=now)
    assert status == Status.REVIEW
    return contribution


def registered_base(programme: Programme, slug: str = "fundus-64") -> BaseModel:
    """A base generator as registered; its bytes are the workers' business."""
    return BaseModel.objects.create(
        programme=programme,
        slug=slug,
        version="1",
        config={},
        card="",
        sha256=sha256_hex(slug.encode()),
        size_bytes=1,
        storage_key=f"base-models/{slug}",
    )


def check(contribution: Contribution, number: int, verdict: str, *, run_id: int = 1, attempt: int = 1, **more):
    result = {"number": number, "name": "n", "verdict": verdict, "sentence": "s", "fix": "", "evidence": {}}
    result |= {"duration_seconds": 0.5, **more}
    return services.record_check(contribution, run_id=run_id, attempt=attempt, result=result)


def text(response: HttpResponse) -> str:
    """Return a page's words without its tags, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", response.content.decode())).split())
