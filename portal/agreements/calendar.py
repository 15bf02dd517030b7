"""What the calendar does to agreements: reminders, expiry, dates for the reader's own calendar."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from portal.agreements.lifecycle import Status
from portal.agreements.models import AgreementVersion, SigningRequest
from portal.agreements.signing import OFFICIAL, PI, managing, move, tell, told_of_the_end
from portal.agreements.standing import EXPIRING_DAYS, Standing, State, day_of, standings
from portal.audit import services as audit
from portal.audit.models import AuditEvent
from portal.institutions import services as institutions
from portal.institutions.models import Membership
from portal.notifications import calendar
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import attempt

REMIND_DAYS = (60, 30, 7)
REMINDED = "agreement.reminded"


@dataclass(frozen=True)
class Reminder:
    """What is told once: `key` says for which date and how long before it, `call` what one does on the page."""

    key: str
    subject: str
    text: str
    call: str
    deadline_on: date


def sweep(*, now: datetime) -> None:
    """End and expire what is over and remind of what is due. Safe to repeat; one bad row stops no other."""
    today = day_of(now)
    for case in SigningRequest.objects.filter(status=Status.ACTIVE, ends_on__lt=today):
        attempt(end, case, now=now)
    for case in SigningRequest.objects.filter(status=Status.ACTIVE, expires_on__lt=today):
        attempt(expire, case, now=now)
    cases = _due(today)
    places = standings([case.institution for case in cases], [case.agreement for case in cases], now=now)
    told = _told(cases)
    for case in cases:
        place = places[case.institution_id, case.agreement_id]
        for reminder in reminders(case, place, today):
            if place.request == case and (case.pk, reminder.key) not in told:
                attempt(_remind, case, reminder, now=now)


def _due(today: date) -> list[SigningRequest]:
    """
    Return the cases in force that expire soon, or whose agreement has a later material version.

    A merged institution signs nothing any more: what it was merged into has an agreement of its own.
    """
    later = AgreementVersion.objects.filter(
        agreement=OuterRef("agreement"), version__gt=OuterRef("agreement_version__version"), is_material=True
    )
    rows = SigningRequest.objects.filter(
        Q(expires_on__lte=today + timedelta(days=EXPIRING_DAYS)) | Exists(later),
        status=Status.ACTIVE,
        institution__merged_into=None,
    )
    return list(rows.select_related("institution", "agreement__programme", "agreement_version__agreement"))


def _told(cases: list[SigningRequest]) -> set[tuple[int, str]]:
    rows = AuditEvent.objects.filter(verb=REMINDED, subject_id__in=[case.pk for case in cases])
    return set(rows.values_list("subject_id", "facts__key"))


@transaction.atomic
def end(case: SigningRequest, *, now: datetime) -> SigningRequest:
    """End a case whose notice has run out."""
    case = move(case.pk, Status.TERMINATED, by=None, now=now, ended_at=now)
    tell(
        case,
        told_of_the_end(case),
        subject=f"{case} has ended",
        text="The consortium's notice has run out. New uploads and downloads have stopped; what was given before "
        "stays. The record is here:",
    )
    return case


@transaction.atomic
def expire(case: SigningRequest, *, now: datetime) -> SigningRequest:
    """End a case whose last day is over."""
    case = move(case.pk, Status.EXPIRED, by=None, now=now, ended_at=now)
    text = "New uploads and downloads have stopped; what is here stays."
    _tell_managing(case, subject=f"{case} has expired", text=text, call="Renew it here:")
    return case


def reminders(case: SigningRequest, place: Standing, today: date) -> Iterator[Reminder]:
    """Yield the reminder that is due today for the case's standing, if any."""
    if place.due_on is None:
        return
    days = (place.due_on - today).days
    if place.state == State.EXPIRING:
        step = min(step for step in REMIND_DAYS if days <= step)
        subject = f"{case} expires in {days} days" if days else f"{case} expires today"
        yield Reminder(f"expiry-{place.due_on}-{step}", subject, place.reason, "Here:", place.due_on)
    elif place.state == State.RECONSENT_DUE:
        steps = {*REMIND_DAYS, max(case.agreement.reconsent_days, days)}
        step = min(step for step in steps if days <= step)
        subject = f"A new version of the {case.agreement.title} waits for {case.institution}: {days} days"
        yield Reminder(f"reconsent-{place.due_on}-{step}", subject, place.reason, "What changed is here:", place.due_on)
    elif place.state in {State.GRACE, State.BLOCKED} and place.blocked_on:
        subject = f"{case.institution} has not signed the new version of the {case.agreement.title}"
        yield Reminder(f"{place.state}-{place.due_on}", subject, place.reason, "Sign it here:", place.blocked_on)


@transaction.atomic
def _remind(case: SigningRequest, reminder: Reminder, *, now: datetime) -> None:
    audit.record(REMINDED, case, by=None, key=reminder.key)
    _tell_managing(
        case,
        subject=reminder.subject,
        text=reminder.text,
        call=reminder.call,
        key=f"agreement-{case.pk}-{reminder.key}",
        deadline_at=datetime.combine(reminder.deadline_on, time.max.replace(microsecond=0), UTC),
    )


def _tell_managing(case: SigningRequest, *, subject: str, text: str, call: str, **more: Any) -> None:
    """Lead who can renew it to where that is done, and all others whom it concerns to the case, which they may see."""
    able = institutions.people(case.institution, PI, OFFICIAL, Membership.Role.STEWARD)
    is_merged = case.institution.merged_into_id is not None
    other_call = "The record is here:" if is_merged else f"{case.institution} renews it, also for you. It is here:"
    for people, what_next, path in (
        (able, call, _renew_path(case)),
        (managing(case).exclude(pk__in=able.values("pk")), other_call, case.get_absolute_url()),
    ):
        notify(people, type=Type.AGREEMENT, subject=subject, text=f"{text} {what_next}", path=path, **more)


def _renew_path(case: SigningRequest) -> str:
    return reverse("agreements:sign", args=[case.institution.slug, case.agreement.programme.slug, case.agreement.slug])


def ics(case: SigningRequest, *, now: datetime) -> bytes:
    """Return the case's last day as an iCalendar file (RFC 5545), with an alarm 30 days before."""
    assert case.last_day is not None
    return calendar.file(
        uid=f"agreement-{case.receipt_code}",
        at=case.last_day,
        stamp=now,
        summary=f"Last day: {case}",
        text="Renew it before.",
        path=_renew_path(case),
        before=[timedelta(days=30)],
    )
