"""
Room in the store: what the files of an institution take of it, and how it asks for more.

Everybody has UPLOAD_QUOTA_BYTES. Whoever may contribute for an institution asks for more, with a reason; an operator
who does not belong to it grants that or another size, or declines and says why. Each step holds the institution's row,
as an upload does that takes room.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.urls import reverse

from contributions.lifecycle import ROOM_REQUESTS, RoomStatus, Status
from contributions.models import ContributionFile, Hold, RoomRequest
from contributions.rules import STEWARDS, require_steward
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution
from portal.lifecycle import verb
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import attempt

GIB = 2**30
MOST_BYTES = 100 * 1024 * GIB
ANSWER_WITHIN = timedelta(days=3)


class QuotaExceeded(DomainError):
    """The institution's files would take more room than it has."""

    code = "quota_exceeded"


class RequestOpen(DomainError):
    """The institution has asked already, and waits for an answer."""

    code = "room_request_open"


class NotWaiting(DomainError):
    """The request was answered or taken back."""

    code = "room_request_not_waiting"


class SizeRefused(DomainError):
    """It is not more than the institution has, or too much to be meant."""

    code = "room_size_refused"
    status = HTTPStatus.BAD_REQUEST


class ReasonMissing(DomainError):
    """A request says what the room is for, and whoever declines it says why."""

    code = "reason_missing"
    status = HTTPStatus.BAD_REQUEST


# What is used


@dataclass(frozen=True)
class Room:
    """What the files of one institution take, unfinished uploads included."""

    institution: str
    slug: str
    files: int
    used_bytes: int
    quota_bytes: int

    @property
    def left_bytes(self) -> int:
        return max(0, self.quota_bytes - self.used_bytes)

    @property
    def is_nearly_full(self) -> bool:
        return self.used_bytes >= 0.9 * self.quota_bytes


@dataclass(frozen=True)
class Share:
    """What the contributions of one institution that are in one state take."""

    status: Status
    contributions: int
    used_bytes: int


def _taking_room() -> QuerySet[ContributionFile]:
    """Return the files that count: not those that are gone, or kept against the institution's will by a hold."""
    unwanted = Q(contribution__status=Status.WITHDRAWN) | Q(contribution__deletion_asked_at__isnull=False)
    held = Hold.objects.standing().filter(unwanted).values("contribution")
    return ContributionFile.objects.exclude(state=ContributionFile.State.DELETED).exclude(contribution__in=held)


def quota_bytes(institution: Institution) -> int:
    """Return the whole room of an institution: what was granted last, and never less than everybody has."""
    granted = institution.room_requests.filter(status=RoomStatus.GRANTED).values_list("granted_bytes", flat=True)
    return max(settings.UPLOAD_QUOTA_BYTES, granted.first() or 0)  # the newest request comes first


def of(institution: Institution) -> Room:
    """Return what an institution uses of its room."""
    found = _taking_room().filter(contribution__institution=institution).aggregate(Count("pk"), Sum("size_bytes"))
    files, used = found["pk__count"], found["size_bytes__sum"] or 0
    return Room(institution.name, institution.slug, files, used, quota_bytes(institution))


def rooms() -> list[Room]:
    """Return what each institution that has files uses of its room: the fullest first."""
    granted = RoomRequest.objects.filter(status=RoomStatus.GRANTED).order_by("pk")
    quotas = dict(granted.values_list("institution__slug", "granted_bytes"))  # the newest is the last
    rows = _taking_room().values_list("contribution__institution__name", "contribution__institution__slug")
    return [
        Room(name, slug, files, used, max(settings.UPLOAD_QUOTA_BYTES, quotas.get(slug) or 0))
        for name, slug, files, used in rows.annotate(files=Count("pk"), used=Sum("size_bytes")).order_by("-used")
    ]


def shares(institution: Institution) -> list[Share]:
    """Return what takes the room of an institution, by the state of the contribution, the most first."""
    rows = _taking_room().filter(contribution__institution=institution).values_list("contribution__status")
    counted = rows.annotate(number=Count("contribution", distinct=True), used=Sum("size_bytes")).order_by("-used")
    return [Share(Status(status), number, used) for status, number, used in counted]


def require(institution: Institution, *, name: str, size_bytes: int) -> None:
    """Raise QuotaExceeded where a file of this size does not fit."""
    room = of(institution)
    if size_bytes > room.left_bytes:
        raise QuotaExceeded(
            f"{name} has {size_bytes:,} bytes, and {institution} has {room.left_bytes:,} of {room.quota_bytes:,} left. "
            "Remove files from drafts that you no longer need, delete those of rejected contributions, or ask for "
            "more room.",
            next_url=page_of(institution),
        )


# Who


def page_of(institution: Institution) -> str:
    """Return the address of the page where more room is asked for."""
    return reverse("contributions:room", args=[institution.slug])


def may_read(user: User, institution: Institution) -> bool:
    """Test if the person may see its room and what it asked for: its people, operators, auditors, the chair."""
    return belongs(user, institution) or accounts.is_auditor(user)


def may_decide(user: User, institution: Institution) -> bool:
    """Test if the person answers its requests: an operator who does not belong to it."""
    return accounts.has_role(user, "operator") and not belongs(user, institution)


def belongs(user: User, institution: Institution) -> bool:
    """Test if the person belongs to the institution, or to what it was merged into."""
    return institutions.is_member(user, institutions.acting_for(institution))


def require_may_decide(user: User, institution: Institution) -> None:
    """Raise NotAllowed unless the person answers the institution's requests."""
    if not may_decide(user, institution):
        raise NotAllowed(
            "Only an operator of the consortium who does not belong to the institution answers its requests for room."
        )


def _require_member(institution: Institution) -> None:
    into = institution.merged_into
    if into is not None:
        raise NotAllowed(f"{institution} is now part of {into}, which has room of its own.", next_url=page_of(into))
    if institution.status != InstitutionStatus.MEMBER:
        raise NotAllowed(f"{institution} can have more room once the board has admitted it.")


def require_may_ask(user: User, institution: Institution) -> None:
    """Raise NotAllowed for whom and where it is not possible, RequestOpen where a request waits already."""
    require_steward(user, institution)
    _require_member(institution)
    if institution.room_requests.filter(status=RoomStatus.REQUESTED).exists():
        raise RequestOpen(
            f"{institution} has asked for more room already. Wait for the answer, or take the request back to change "
            "it.",
            next_url=page_of(institution),
        )


def require_waiting(request: RoomRequest) -> None:
    """Raise NotWaiting where the request was answered or taken back."""
    if request.decided_at is not None:
        raise NotWaiting(
            f"The {request} was {request.get_status_display().lower()} on {request.decided_at:%d %B %Y}. Nothing was "
            "changed.",
            next_url=request.get_absolute_url(),
        )


def _require_size(institution: Institution, size_bytes: int) -> None:
    present = quota_bytes(institution)
    if size_bytes <= present:
        raise SizeRefused(
            f"{institution} has room for {_gib(present)} already. Give the whole room from now on, which is more than "
            "that, and not the difference."
        )
    if size_bytes > MOST_BYTES:
        raise SizeRefused(f"An institution has room for at most {_gib(MOST_BYTES)}. Give a smaller size.")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:,.6g} GiB"


# Asking and answering


def waiting() -> QuerySet[RoomRequest]:
    """Return the requests that wait for an answer, the oldest first."""
    rows = RoomRequest.objects.filter(status=RoomStatus.REQUESTED)
    return rows.select_related("institution", "asked_by").order_by("pk")


@transaction.atomic
def ask(institution: Institution, *, size_bytes: int, reason: str, by: User, now: datetime) -> RoomRequest:
    """
    Ask the operators for more room.

    Args:
        size_bytes: the whole room that is wanted, more than there is now.
    """
    institution = _locked(institution.pk)
    require_may_ask(by, institution)
    _require_size(institution, size_bytes)
    request = RoomRequest.objects.create(
        institution=institution,
        asked_bytes=size_bytes,
        reason=_said(reason, "Say in a sentence what the room is for: an operator decides by it."),
        asked_by=by,
        asked_at=now,
    )
    audit.record("room_request.asked", request, by=by, asked_bytes=size_bytes)
    notify(
        _operators(institution),
        type=Type.REVIEW,
        subject=f"{institution} asks for more room",
        text=f"It has room for {_gib(quota_bytes(institution))} and asks for {_gib(size_bytes)}. Why, and what its "
        "files take, says this page, where you answer:",
        path=reverse("contributions:room_decide", args=[institution.slug, request.pk]),
    )
    return request


@transaction.atomic
def withdraw(request: RoomRequest, *, by: User, now: datetime) -> RoomRequest:
    """Take a request back. Raises NotWaiting."""
    require_steward(by, request.institution)
    return _end(_still_waiting(request), RoomStatus.WITHDRAWN, by=by, now=now)


@transaction.atomic
def grant(request: RoomRequest, *, size_bytes: int, reply: str = "", by: User, now: datetime) -> RoomRequest:
    """
    Give the institution more room from now on, as much as it asked for or not. Raises NotWaiting, SizeRefused.

    Args:
        size_bytes: the whole room, more than there is now.
    """
    require_may_decide(by, request.institution)
    request = _still_waiting(request)
    _require_member(request.institution)
    _require_size(request.institution, size_bytes)
    request = _end(request, RoomStatus.GRANTED, by=by, now=now, granted_bytes=size_bytes, reply=reply.strip())
    _tell(request, "has more room", f"There is room for {_gib(size_bytes)} from now on.")
    return request


@transaction.atomic
def decline(request: RoomRequest, *, reply: str, by: User, now: datetime) -> RoomRequest:
    """Say no, and why. Raises NotWaiting."""
    require_may_decide(by, request.institution)
    request = _still_waiting(request)
    reply = _said(reply, "Say why in a sentence: the institution reads it.")
    request = _end(request, RoomStatus.DECLINED, by=by, now=now, reply=reply)
    _tell(request, "gets no more room", f"There is room for {_gib(quota_bytes(request.institution))} as before.")
    return request


def end_of_merged(*, now: datetime) -> None:
    """Decline, for who merged it, what an institution still asks that is part of another now; called by the sweep."""
    for request in waiting().filter(institution__merged_into__isnull=False):
        attempt(_end_of_merged, request, now=now)


@transaction.atomic
def _end_of_merged(request: RoomRequest, *, now: datetime) -> None:
    request = _still_waiting(request)
    institution = request.institution
    merged = audit.of(institution).filter(verb="institution.merged", actor_id__isnull=False).latest("pk")
    by = User.objects.get(pk=merged.actor_id or 0)  # an operator: merging.py
    reply = f"{institution} is now part of {institution.merged_into}, which has room of its own: ask there."
    _end(request, RoomStatus.DECLINED, by=by, now=now, reply=reply)
    _tell(request, "gets no more room", "It was merged before its request was answered.")


def _locked(institution_id: int) -> Institution:
    """Return the institution; nobody else asks, answers or takes room until the end of the transaction."""
    return Institution.objects.select_for_update(no_key=True).get(pk=institution_id)


def _still_waiting(request: RoomRequest) -> RoomRequest:
    """Return the request as it is now, locked."""
    institution = _locked(request.institution_id)
    request = institution.room_requests.get(pk=request.pk)
    require_waiting(request)
    return request


def _end(
    request: RoomRequest,
    target: RoomStatus,
    *,
    by: User,
    now: datetime,
    reply: str = "",
    granted_bytes: int | None = None,
) -> RoomRequest:
    name = verb(ROOM_REQUESTS, RoomStatus(request.status), target, subject=f"The {request}")
    request.status, request.decided_by, request.decided_at = target, by, now
    request.granted_bytes, request.reply = granted_bytes, reply
    request.save(update_fields=["status", "decided_by", "decided_at", "granted_bytes", "reply"])
    facts = {} if granted_bytes is None else {"granted_bytes": granted_bytes}
    audit.record(name, request, by=by, **facts)
    return request


def _said(text: str, otherwise: str) -> str:
    if not text.strip():
        raise ReasonMissing(otherwise)
    return text.strip()


def _operators(institution: Institution) -> QuerySet[User]:
    """Return who may answer."""
    current = ConsortiumRole.objects.current().everywhere().filter(role=ConsortiumRole.Role.OPERATOR)
    holders = User.objects.filter(consortium_roles__in=current, is_active=True).distinct()
    return holders.exclude(pk__in=institutions.people(institution).values("pk"))


def _tell(request: RoomRequest, subject: str, text: str) -> None:
    """Tell the institution's stewards, and who asked, if they still belong there."""
    institution = request.institution
    asker = institutions.people_acting_for(institution).filter(pk=request.asked_by_id)
    reply = f" The operator's reply: {plain(request.reply)}" if request.reply else ""
    notify(
        [*institutions.people_acting_for(institution, *STEWARDS), *asker],
        type=Type.CONTRIBUTION,
        subject=f"{institution} {subject}",
        text=f"{text}{reply}",
        path=request.get_absolute_url(),
    )
