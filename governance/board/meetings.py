"""Meetings of the board: calling them, the agenda, who comes, what can be decided, the minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils.translation import gettext as _

from governance.board.counting import count, electorate
from governance.board.errors import NotPossibleNow, VoteRefused
from governance.board.models import AgendaItem, Attendance, Meeting, Motion
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import NotAllowed
from portal.notifications import calendar
from portal.notifications.services import notify
from portal.notifications.types import Type


@dataclass(frozen=True)
class Forecast:
    """Whether a motion will have its quorum: votes cast already, and those of members who come and have not voted."""

    motion: Motion
    cast: int
    coming: int
    quorum: int

    @property
    def is_reached(self) -> bool:
        return self.cast + self.coming >= self.quorum


def may_call(user: User) -> bool:
    """Test if the person calls meetings and keeps their minutes: the chair and operators."""
    return accounts.has_role(user, "chair", "operator")


def may_read(user: User) -> bool:
    """Test if the person reads agendas and minutes: every board, operators, auditors."""
    return bool(accounts.programmes_seated(user)) or accounts.has_role(user, "operator", "auditor")


def _require_caller(user: User) -> None:
    if not may_call(user):
        raise NotAllowed("Only the chair or an operator calls meetings and keeps their minutes.")


@transaction.atomic
def call(
    *, title: str, starts_at: datetime, ends_at: datetime, place: str, motions: Sequence[Motion], points: Sequence[str],
    by: User, now: datetime,
) -> Meeting:  # fmt: skip
    """Call a meeting with its agenda: the motions, then further points. The board is invited."""
    _require_caller(by)
    if not now < starts_at < ends_at:
        raise VoteRefused("A meeting starts after now and ends after it starts.")
    meeting = Meeting.objects.create(
        title=title, starts_at=starts_at, ends_at=ends_at, place=place, called_by=by, called_at=now
    )
    _set_agenda(meeting, motions, points)
    audit.record("meeting.called", meeting, by=by, starts_at=starts_at.isoformat())
    _invite(meeting, _invited(meeting))
    return meeting


def _invited(meeting: Meeting) -> set[User]:
    """Return the board of every programme, and those of programmes whose motions are on the agenda."""
    found = set(accounts.seated(None))
    for item in meeting.agenda.exclude(motion=None).select_related("motion__programme"):
        assert item.motion is not None  # as asked
        found |= set(electorate(item.motion))
    return found


def _invite(meeting: Meeting, people: set[User]) -> None:
    notify(
        people,
        type=Type.BALLOT,
        subject=f"Meeting of the board: {plain(meeting)}",
        text=f"{meeting.starts_at:%d %B %Y, %H:%M} UTC, {plain(meeting.place)}. Say on its page whether you come; the "
        "agenda is there.",
        path=meeting.get_absolute_url(),
        deadline_at=meeting.starts_at,
    )


def _set_agenda(meeting: Meeting, motions: Sequence[Motion], points: Sequence[str]) -> None:
    meeting.agenda.all().delete()
    items = [AgendaItem(meeting=meeting, motion=motion) for motion in motions]
    items += [AgendaItem(meeting=meeting, text=text.strip()) for text in points if text.strip()]
    for position, item in enumerate(items, start=1):
        item.position = position
    AgendaItem.objects.bulk_create(items)


@transaction.atomic
def change_agenda(
    meeting: Meeting, *, motions: Sequence[Motion], points: Sequence[str], by: User, now: datetime
) -> Meeting:
    """Replace the agenda of a meeting that has not begun; a board that it concerns only now is invited."""
    _require_caller(by)
    _require_ahead(meeting, now=now)
    before = _invited(meeting)
    _set_agenda(meeting, motions, points)
    audit.record("meeting.agenda_changed", meeting, by=by, items=meeting.agenda.count())
    _invite(meeting, _invited(meeting) - before)
    return meeting


@transaction.atomic
def cancel(meeting: Meeting, *, by: User, now: datetime) -> Meeting:
    """Cancel a meeting that has not begun; those invited are told, and of other boards who said to come."""
    _require_caller(by)
    _require_ahead(meeting, now=now)
    meeting.cancelled_at = now
    meeting.save(update_fields=["cancelled_at"])
    audit.record("meeting.cancelled", meeting, by=by)
    coming = {row.member for row in meeting.attendances.filter(answer="yes").select_related("member")}
    notify(
        _invited(meeting) | {person for person in coming if accounts.programmes_seated(person)},
        type=Type.BALLOT,
        subject=f"Cancelled: {plain(meeting)}",
        text=f"The meeting on {meeting.starts_at:%d %B %Y, %H:%M} UTC does not take place.",
        path=meeting.get_absolute_url(),
    )
    return meeting


def _require_ahead(meeting: Meeting, *, now: datetime) -> None:
    if meeting.cancelled_at is not None or now >= meeting.starts_at:
        raise NotPossibleNow(f"{meeting} has begun or was cancelled.")


@transaction.atomic
def answer(meeting: Meeting, *, answer: str, by: User, now: datetime) -> Attendance:
    """Say whether one comes; the last answer counts."""
    if not accounts.programmes_seated(by):
        raise NotAllowed("The invitation is for members of the board.")
    _require_ahead(meeting, now=now)
    row, _ = Attendance.objects.update_or_create(
        meeting=meeting, member=by, defaults={"answer": Attendance.Answer(answer), "answered_at": now}
    )
    audit.record("meeting.answered", meeting, by=by, answer=answer)
    return row


@transaction.atomic
def keep_minutes(meeting: Meeting, *, text: str, by: User, now: datetime) -> Meeting:
    """Publish the minutes to the board once the meeting has begun; they are written once."""
    _require_caller(by)
    meeting = Meeting.objects.select_for_update().get(pk=meeting.pk)  # another may keep them at this moment
    if meeting.cancelled_at is not None or now < meeting.starts_at or meeting.minuted_at is not None:
        raise NotPossibleNow("Minutes are kept once, of a meeting that has begun.")
    if not text.strip():
        raise VoteRefused("Write the minutes first.")
    meeting.minutes, meeting.minuted_at = text.strip(), now
    meeting.save(update_fields=["minutes", "minuted_at"])
    audit.record("meeting.minuted", meeting, by=by)
    return meeting


def draft_minutes(meeting: Meeting) -> str:
    """Return minutes to begin with: who said to come, and each point with its outcome so far."""
    coming = [str(row.member) for row in meeting.attendances.filter(answer="yes").select_related("member")]
    lines = [f"# {meeting}", "", f"{meeting.starts_at:%d %B %Y, %H:%M} UTC, {meeting.place}", ""]
    lines += [f"Expected: {', '.join(coming) or 'nobody said so'}.", ""]
    for item in meeting.agenda.select_related("motion__decision"):
        lines += [f"## {item.position}. {item}", ""]
        if item.motion is not None:
            lines += [f"{item.motion.get_status_display()}.", ""]
    return "\n".join(lines)


def agenda(meeting: Meeting, *, reader: User) -> list[AgendaItem]:
    """Return the agenda; a motion that the reader does not see stands there without its title."""
    seen = set(Motion.objects.visible_to(reader).filter(agenda_items__meeting=meeting).values_list("pk", flat=True))
    items = list(meeting.agenda.select_related("motion__person"))
    for item in items:
        if item.motion_id is not None and item.motion_id not in seen:
            item.motion, item.text = None, _("A motion of another board")
    return items


def forecast(meeting: Meeting, *, now: datetime) -> list[Forecast]:
    """Return for each open motion of the agenda whether those who come make its quorum."""
    coming = set(meeting.attendances.filter(answer="yes").values_list("member", flat=True))
    found = []
    for item in meeting.agenda.filter(motion__status="open").select_related("motion__programme"):
        assert item.motion is not None
        gone = set(item.motion.recusals.values_list("member", flat=True))
        gone |= set(item.motion.votes.values_list("voter", flat=True))
        seats = set(electorate(item.motion).values_list("pk", flat=True))
        result = count(item.motion, now=now)
        found.append(Forecast(item.motion, result.cast, len((coming & seats) - gone), result.quorum))
    return found


def ics(meeting: Meeting, *, reader: User) -> bytes:
    """Return the meeting as a calendar file (RFC 5545), with an alarm a day and an hour before."""
    return calendar.file(
        uid=f"meeting-{meeting.pk}",
        at=meeting.starts_at,
        stamp=meeting.called_at,
        summary=str(meeting),
        text="\n".join(f"{item.position}. {item}" for item in agenda(meeting, reader=reader)),
        path=meeting.get_absolute_url(),
        before=[timedelta(days=1), timedelta(hours=1)],
        ends_at=meeting.ends_at,
        place=meeting.place,
    )
