"""Who held which role when, who gave it and who ended it: roles in the consortium and in institutions, in one list."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from portal.accounts.models import ConsortiumRole, User
from portal.audit import people
from portal.audit import services as audit
from portal.audit.models import AuditEvent
from portal.institutions.models import Membership

BATCH = 500  # roles whose names are looked up together
CONSORTIUM, INSTITUTION = "consortium", "institution"
LABELS = {CONSORTIUM: dict(ConsortiumRole.Role.choices), INSTITUTION: dict(Membership.Role.choices)}
NOT_RECORDED = "not on record"
VALUES = ["kind", "id", "user_id", "role", "place", "limit", "started_at", "ended_at"]
Cursor = tuple[datetime, str, int]


@dataclass(frozen=True)
class Held:
    """One role that one person held: `place` an institution, `programme` what a seat of the board is limited to."""

    person_id: int
    person: str
    role: str
    place: str
    programme: str
    started_at: datetime
    ended_at: datetime | None
    given_by: str
    ended_by: str

    def cells(self) -> tuple[Any, ...]:
        return astuple(self)


COLUMNS = ["person_id", "person", "role", "institution", "programme", "from", "to", "given_by", "ended_by"]


def find(*, person: str = "", role: str = "", day: date | None = None) -> dict[str, QuerySet[Any]]:
    """
    Return the roles of the consortium and of institutions that match.

    Args:
        person: an account's number, or part of a name or e-mail of today; empty: everybody.
        role: `consortium:chair`, `institution:steward` and so on; empty: every role.
        day: held on at least a part of this day (UTC).
    """
    conditions = _of_person(person) & _on(day)
    kind, _, name = role.partition(":")
    rows: dict[str, QuerySet[Any]] = {
        CONSORTIUM: ConsortiumRole.objects.annotate(place=Value(""), limit=Coalesce("programme__name", Value(""))),
        INSTITUTION: Membership.objects.annotate(place=F("institution__name"), limit=Value("")),
    }
    return {
        key: found.filter(conditions, **({"role": name} if name else {})).order_by()
        for key, found in rows.items()
        if kind in {"", key}
    }


def _of_person(text: str) -> Q:
    if not text:
        return Q()
    number = text.strip()
    return Q(user=int(number[:18])) if number.isdecimal() else Q(user__in=people.matching(text).values("pk"))


def _on(day: date | None) -> Q:
    if day is None:
        return Q()
    begin = datetime.combine(day, time.min, UTC)
    return Q(started_at__lt=begin + timedelta(days=1)) & (Q(ended_at=None) | Q(ended_at__gte=begin))


def ordered(found: Mapping[str, QuerySet[Any]], *, before: Cursor | None = None) -> QuerySet[Any]:
    """Return both kinds as one list, the latest begun first, after the cursor (start, kind, number) of a page."""
    parts = [
        rows.annotate(kind=Value(kind)).filter(_after(kind, before)).values(*VALUES) for kind, rows in found.items()
    ]
    return parts[0].union(*parts[1:], all=True).order_by("-started_at", "-kind", "-id")


def _after(kind: str, before: Cursor | None) -> Q:
    if before is None:
        return Q()
    started_at, of_kind, number = before
    if kind == of_kind:
        return Q(started_at__lt=started_at) | Q(started_at=started_at, id__lt=number)
    return Q(started_at__lte=started_at) if kind < of_kind else Q(started_at__lt=started_at)


def described(rows: Iterable[dict[str, Any]]) -> Iterator[Held]:
    """Yield each role in the names of today, with who gave and ended it by the audit log: two queries a batch."""
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        actors = _actors(batch)
        numbers = {row["user_id"] for row in batch} | {pk for pk in actors.values() if pk is not None}
        names = people.names_of(numbers)
        for row in batch:
            yield _held(row, actors, names)


def _held(row: dict[str, Any], actors: Mapping[tuple[str, int, bool], int | None], names: Mapping[int, str]) -> Held:
    def by(is_end: bool) -> str:
        actor = actors.get((row["kind"], row["id"], is_end), 0)
        return NOT_RECORDED if actor == 0 else people.SYSTEM if actor is None else names[actor]

    return Held(
        person_id=row["user_id"],
        person=names[row["user_id"]],
        role=LABELS[row["kind"]][row["role"]],
        place=row["place"],
        programme=row["limit"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        given_by=by(False),
        ended_by=by(True) if row["ended_at"] else "",
    )


def _actors(batch: list[dict[str, Any]]) -> dict[tuple[str, int, bool], int | None]:
    """Return who gave (False) and ended (True) each role; a role of the consortium is in the facts of its events."""
    seats = [row["user_id"] for row in batch if row["kind"] == CONSORTIUM]
    memberships = [row["id"] for row in batch if row["kind"] == INSTITUTION]
    events = AuditEvent.objects.filter(
        Q(subject_type="user", subject_id__in=seats, verb__in=["role.given", "role.ended"])
        | Q(subject_type="membership", subject_id__in=memberships, verb__in=["membership.started", "membership.ended"])
    )
    actors: dict[tuple[str, int, bool], int | None] = {}
    for event in events.order_by("pk"):
        is_seat = event.subject_type == "user"
        number = event.facts.get("role_id", 0) if is_seat else event.subject_id
        actors[CONSORTIUM if is_seat else INSTITUTION, number, event.verb.endswith(".ended")] = event.actor_id
    return actors


@transaction.atomic
def export(found: Mapping[str, QuerySet[Any]], *, by: User, filters: dict[str, Any]) -> Iterator[Held]:
    """Record that `by` takes the history along, and return it."""
    audit.record("roles.exported", by, by=by, filters=filters)
    return described(ordered(found).iterator(chunk_size=BATCH))
