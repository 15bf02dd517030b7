"""Deadlines as calendar files (RFC 5545)."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from icalendar import Alarm, Calendar, Event

from portal.audit.people import named_all
from portal.notifications.mail import absolute
from portal.notifications.models import Notification


def file(
    *,
    uid: str,
    at: date | datetime,
    stamp: datetime,
    summary: str,
    text: str,
    path: str,
    before: Sequence[timedelta],
    ends_at: datetime | None = None,
    place: str = "",
) -> bytes:
    """
    Return one deadline, with an alarm for each of `before`; or a meeting, which has an end. Only a meeting blocks time.

    Args:
        uid: what never changes for the same deadline, so that a second file replaces the first.
        at: the moment, or the whole day.
        path: the page where the reader can act.
    """
    event = Event()
    event.add("uid", f"{uid}@{urlsplit(settings.PORTAL_URL).hostname}")
    event.add("dtstamp", stamp)
    event.add("dtstart", at)
    event.add("summary", summary)
    event.add("description", text)
    event.add("url", absolute(path))
    event.add("transp", "OPAQUE" if ends_at else "TRANSPARENT")
    if ends_at is not None:
        event.add("dtend", ends_at)
    if place:
        event.add("location", place)
    for duration in before:
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", summary)
        alarm.add("trigger", -duration)
        event.add_component(alarm)
    calendar = Calendar()
    calendar.add("prodid", "-//Global RETFound//portal//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add_component(event)
    return calendar.to_ical()


def deadline(row: Notification) -> bytes:
    """Return the deadline of an inbox's entry, with alarms a week and a day before."""
    assert row.deadline_at is not None
    subject, text = named_all([row.subject, row.text])
    return file(
        uid=f"notification-{row.pk}",
        at=row.deadline_at,
        stamp=row.created_at,
        summary=subject,
        text=text,
        path=row.path,
        before=[timedelta(days=7), timedelta(days=1)],
    )
