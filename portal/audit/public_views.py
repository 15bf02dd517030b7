"""
The transparency log: what anybody may see of the audit log, and verify. Sizes, hashes and proofs, never an event.

The hash of an event reveals nothing of it: each holds a nonce (AuditEvent.nonce).
"""

import re
from http import HTTPStatus
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from portal.audit import tree
from portal.audit.models import AuditLeaf, AuditPending, Checkpoint
from portal.charts import Bar
from portal.errors import DomainError

PAGE_SIZE = 50
DRAWN = 12  # checkpoints whose sizes are drawn
LATE_SECONDS = 600  # so old may the last checkpoint be while events wait, before the page says that something is wrong
FOR_EVER, BRIEFLY = "public, max-age=31536000, immutable", "public, max-age=5"


class Malformed(DomainError):
    """A question about the tree that cannot be read."""

    code = "malformed"
    status = HTTPStatus.BAD_REQUEST


class NotInTree(DomainError):
    """There is no such leaf or checkpoint, or not yet."""

    code = "not_found"
    status = HTTPStatus.NOT_FOUND


@require_GET
@login_not_required
def show(request: HttpRequest) -> HttpResponse:
    """Show the newest checkpoint, how the log grew, and how one verifies it."""
    newest = list(Checkpoint.objects.all()[:DRAWN])
    latest, size, pending = newest[0] if newest else None, tree.size(), AuditPending.objects.count()
    unsigned = size + pending - (latest.size if latest else 0)
    age = (timezone.now() - latest.at).total_seconds() if latest else None
    context = {
        "latest": latest,
        "root": latest.note.split("\n")[2] if latest else "",
        "unsigned": unsigned,
        "pending": pending,
        "age": age,
        "is_late": bool(unsigned) and (age is None or age > LATE_SECONDS),
        "growth": [Bar(f"{row.at:%d %b %H:%M}", row.size) for row in reversed(newest)],
        "address": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "audit/public_show.html", context)


@require_GET
@login_not_required
def checkpoints(request: HttpRequest) -> HttpResponse:
    """List the checkpoints, newest first, by keyset: ?before= is the size of the last of the page before."""
    rows, before = Checkpoint.objects.all(), request.GET.get("before", "")
    if before.isdecimal():
        rows = rows.filter(size__lt=int(before[:18]))
    found = list(rows[: PAGE_SIZE + 1])
    more = found[PAGE_SIZE - 1].size if len(found) > PAGE_SIZE else 0
    return render(request, "audit/public_checkpoints.html", {"checkpoints": found[:PAGE_SIZE], "before": more})


@require_GET
@login_not_required
def latest_note(request: HttpRequest) -> HttpResponse:
    """Send the newest checkpoint as the signed note it is."""
    latest = Checkpoint.objects.first()
    if latest is None:
        raise Http404("There is no checkpoint yet.")
    return _note(latest, BRIEFLY)


@require_GET
@login_not_required
def note(request: HttpRequest, size: int) -> HttpResponse:
    """Send one checkpoint."""
    return _note(get_object_or_404(Checkpoint, size=size), FOR_EVER)


def _note(checkpoint: Checkpoint, cache: str) -> HttpResponse:
    return HttpResponse(checkpoint.note, content_type="text/plain; charset=utf-8", headers={"Cache-Control": cache})


@require_GET
@login_not_required
def leaf_hashes(request: HttpRequest) -> HttpResponseBase:
    """Send the hash of every leaf under the newest checkpoint, one a line: with them a differing line is found."""
    latest = Checkpoint.objects.first()
    rows = AuditLeaf.objects.filter(index__lt=latest.size if latest else 0).values_list("hash", flat=True)
    lines = (f"{bytes(value).hex()}\n" for value in rows.iterator(chunk_size=tree.CHUNK))
    return StreamingHttpResponse(lines, content_type="text/plain; charset=utf-8", headers={"Cache-Control": BRIEFLY})


@require_GET
@login_not_required
def inclusion(request: HttpRequest) -> HttpResponse:
    """Prove that an event (?event=number or ?leaf=hash) is under a checkpoint (?size=, the newest when left out)."""
    leaf, checkpoint = _leaf(request), _checkpoint(request, "size")
    if leaf.index >= checkpoint.size:
        raise NotInTree(f"This event is not under the checkpoint of {checkpoint.size} events; a later one has it.")
    path = tree.inclusion(leaf.index, checkpoint.size)
    return _proof(
        "inclusion",
        checkpoint,
        index=leaf.index,
        size=checkpoint.size,
        leaf_hash=bytes(leaf.hash).hex(),
        path=_hex(path),
    )


@require_GET
@login_not_required
def consistency(request: HttpRequest) -> HttpResponse:
    """Prove that the log under one checkpoint (?from=) is the beginning of a later one (?to=, the newest)."""
    later = _checkpoint(request, "to")
    earlier = _size(request, "from")
    if not 0 < earlier <= later.size:
        raise Malformed(f"`from` must be a size between 1 and {later.size}, the size of the later checkpoint.")
    steps = tree.consistency(earlier, later.size)
    return _proof("consistency", later, earlier=earlier, later=later.size, proof=_hex(steps))


def _proof(kind: str, checkpoint: Checkpoint, **facts: Any) -> HttpResponse:
    return JsonResponse({"schema": f"consortium-{kind}/1", **facts, "checkpoint": checkpoint.note})


def _hex(hashes: list[bytes]) -> list[str]:
    return [value.hex() for value in hashes]


def _leaf(request: HttpRequest) -> AuditLeaf:
    """Return the leaf that is asked for, or refuse."""
    event, digest = request.GET.get("event", ""), request.GET.get("leaf", "")
    if re.fullmatch("[0-9]{1,18}", event) and not digest:
        wanted = models.Q(event_id=int(event))
    elif re.fullmatch("[0-9a-f]{64}", digest) and not event:
        wanted = models.Q(hash=bytes.fromhex(digest))
    else:
        raise Malformed("Give either `event`, the number of an event, or `leaf`, a hash of 64 hexadecimal digits.")
    leaf = AuditLeaf.objects.filter(wanted).first()
    if leaf is None:
        raise NotInTree("There is no such event in the tree. An event joins it some seconds after it happened.")
    return leaf


def _size(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "")
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Malformed(f"Give `{name}`, a number of events.")
    return int(text)


def _checkpoint(request: HttpRequest, name: str) -> Checkpoint:
    """Return the checkpoint of the size that is asked for, or the newest, or refuse."""
    rows = Checkpoint.objects.all()
    found = (rows.filter(size=_size(request, name)) if name in request.GET else rows).first()
    if found is None:
        raise NotInTree("There is no checkpoint of this size; /log/checkpoints/ lists them.")
    return found
