"""A deadline as a calendar file (RFC 5545)."""

from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from icalendar import Alarm, Calendar, Event

from portal.audit.people import named_all
from portal.notifications.mail import absolute
from portal.notifications.models import Notification

BEFORE = (timedelta(days=7), timedelta(days=1))


def deadline(row: Notification) -> bytes:
    """Return the deadline of an entry, with alarms a week and a day before. Its UID never changes."""
    subject, text = named_all([row.subject, row.text])
    event = Event()
    event.add("uid", f"notification-{row.pk}@{urlsplit(settings.PORTAL_URL).hostname}")
    event.add("dtstamp", row.created_at)
    event.add("dtstart", row.deadline_at)
    event.add("summary", subject)
    event.add("description", text)
    event.add("url", absolute(row.path))
    for before in BEFORE:
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", subject)
        alarm.add("trigger", -before)
        event.add_component(alarm)
    calendar = Calendar()
    calendar.add("prodid", "-//Global RETFound//portal//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add_component(event)
    return calendar.to_ical()
