"""Contributions to check, in bulk, and the count at the end: nothing lost, nothing done twice, nothing stuck."""

import itertools
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from governance.board.models import Motion
from jobs.lifecycle import ACTIVE, LIVE, Status
from jobs.models import Run, RunEvent, Usage
from portal.accounts.models import User
from portal.institutions.models import Institution, Membership
from portal.programmes.models import BaseModel, Programme
from tests import contributing, factories, hostile

_seed = itertools.count(int(time.time()) % 10_000_000)
_kinds = itertools.count()
PATIENCE_SECONDS = 600  # for a few checks on a slow machine; no goal: it ends a drill that would never end
RESTING = {Status.SUCCEEDED, Status.FAILED_INPUT}


@dataclass
class World:
    """
    Who contributes to what; `good` is a file that passes every check of both programmes.

    `base` is of a programme that asks for the checks up to 5 (under a second), `drawing` of one that draws images too.
    """

    programme: Programme
    site: Institution
    base: BaseModel
    drawing: BaseModel
    steward: User
    good: bytes
    bad: list[bytes] = field(default_factory=list)


def make_world() -> World:
    """Two programmes, a member that has signed for both, its steward, a board, an operator."""
    with transaction.atomic():
        programme = factories.programme(checks=(0, 1, 4, 5))
        factories.board(3)
        base = factories.base_model(programme)
        site = factories.member_institution("Moi Eye Clinic")
        slow = factories.programme("drawing", checks=(0, 1, 4, 5, 7))
        drawing = factories.base_model(slow)
        factories.sign_agreement(site, programme=slow)
        steward = factories.person_of(site, Membership.Role.STEWARD)
        factories.consortium_person("Olu Operator", "operator")
    return World(programme, site, base, drawing, steward, hostile.honest(), hostile.contents("/nowhere/canary"))


def different(content: bytes) -> bytes:
    """Return a good file with the last bits of its last numbers (float16) changed: nobody may send the same twice."""
    number = next(_seed)
    values = struct.unpack("<8H", content[-16:])
    return content[:-16] + struct.pack("<8H", *(v & ~31 | number >> 5 * index & 31 for index, v in enumerate(values)))


def draft(world: World, content: bytes, *, title: str = "Weights", draws: bool = False) -> Contribution:
    row = contributing.draft(world.site, world.drawing if draws else world.base, by=world.steward, title=title)
    contributing.upload(row, content, by=world.steward)
    return row


def submit(row: Contribution) -> Contribution:
    return contributions.submit(row, by=User.objects.get(pk=row.created_by_id), now=timezone.now())


def submitted(world: World, content: bytes, **given: Any) -> int:
    return submit(draft(world, content, **given)).pk


def submit_many(world: World, count: int, *, hostile_every: int = 0, drawing_every: int = 0) -> list[int]:
    """Submit good contributions; one at each so many is hostile, or is drawn from."""
    numbers = []
    for index in range(count):
        is_bad = hostile_every and index % hostile_every == hostile_every - 1
        content = _hostile(world) if is_bad else different(world.good)
        numbers.append(submitted(world, content, draws=bool(drawing_every) and index % drawing_every == 0))
    return numbers


def _hostile(world: World) -> bytes:
    """Return the next kind of hostile file, never the same bytes twice; what ends in numbers still ends in them."""
    number = next(_kinds)
    content = world.bad[number % len(world.bad)]
    return different(content) if len(content) > 1000 else content + struct.pack("<Q", number)


def settled(numbers: list[int]) -> bool:
    """Test if each contribution is decided or parked, and no run of one lives; closes the perhaps broken connection."""
    try:
        rows = Contribution.objects.filter(pk__in=numbers, status__in=["submitted", "validating"])
        parked = Run.objects.filter(subject_id__in=rows, status__in=[Status.FAILED_PLATFORM, Status.TIMED_OUT])
        return (
            rows.count() == parked.values("subject_id").distinct().count()
            and not Run.objects.filter(subject_id__in=numbers, status__in=LIVE).exists()
        )
    finally:
        connection.close()


@dataclass(frozen=True)
class Count:
    """What became of contributions. `lost`: no end; `doubled`: an effect more than once; `parked`: a person needed."""

    ends: dict[str, int]
    lost: int
    doubled: int
    parked: int
    attempts: int
    reasons: list[str]


def count(numbers: list[int]) -> Count:
    rows = Contribution.objects.filter(pk__in=numbers)
    runs = Run.objects.filter(kind=Run.Kind.VALIDATE, subject_id__in=numbers)
    ends = Counter(rows.values_list("status", flat=True))
    good_ends = Counter(runs.filter(status__in=RESTING).values_list("subject_id", flat=True))
    motions = Counter(Motion.objects.filter(contribution__in=rows).values_list("contribution_id", flat=True))
    final = Counter(RunEvent.objects.filter(run__in=runs, status__in=RESTING).values_list("run_id", flat=True))
    ledger = Counter(Usage.objects.filter(run__in=runs).values_list("run_id", "attempt"))
    in_review = set(rows.filter(status="review").values_list("pk", flat=True))
    doubled = sum(n > 1 for counter in (good_ends, motions, final, ledger) for n in counter.values())
    doubled += len(set(motions) - in_review) + len(in_review - set(motions))
    return Count(
        ends=dict(ends),
        lost=sum(good_ends[number] == 0 for number in numbers),
        doubled=doubled,
        parked=runs.filter(status__in=[Status.FAILED_PLATFORM, Status.TIMED_OUT]).count(),
        attempts=sum(runs.values_list("attempt", flat=True)),
        reasons=sorted(set(rows.filter(status="rejected").values_list("reason", flat=True))),
    )


def held() -> list[tuple[int, int]]:
    """Return run and attempt of everything that a worker holds."""
    try:
        return list(Run.objects.filter(status__in=ACTIVE).values_list("pk", "attempt"))
    finally:
        connection.close()
