"""Conditions of an approval: tasks of the institution, which reports, and which the board's secretary settles."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet

from governance.board.counting import chairs, is_secretary, last_votes
from governance.board.errors import NotPossibleNow, VoteRefused
from governance.board.models import Condition, Motion, Vote
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.notifications.services import notify
from portal.notifications.types import Type

DAYS = 90  # to meet a condition
Status = Condition.Status


def make(motion: Motion, *, now: datetime) -> list[Condition]:
    """Turn the conditions of those who voted for a carried motion into tasks of its institution."""
    given = [text for vote in last_votes(motion) if vote.choice == Vote.Choice.FOR for text in vote.conditions]
    due_on = (now + timedelta(days=DAYS)).date()
    if motion.institution is None:
        return []
    rows = [
        Condition.objects.create(motion=motion, institution=motion.institution, text=text, due_on=due_on)
        for text in dict.fromkeys(given)
    ]
    for row in rows:
        audit.record("condition.set", row, by=None, due_on=due_on.isoformat())
    if rows:
        listed = "\n".join(f"- {row.text}" for row in rows)
        _tell_institution(motion, "Approved with conditions", f"Until {due_on:%d %B %Y}, please:\n{listed}")
    return rows


def _tell_institution(motion: Motion, subject: str, text: str) -> None:
    assert motion.institution is not None
    notify(
        institutions.people_acting_for(motion.institution),
        type=Type.CONTRIBUTION,
        subject=f"{subject}: {motion.subject}",
        text=text,
        path=f"{motion.get_absolute_url()}applicant/",
    )


def visible_to(user: User) -> QuerySet[Condition]:
    """Return the conditions that concern a person: of the own institutions, and for the board all that it may see."""
    own = user.memberships.current().values("institution")
    return Condition.objects.filter(
        Q(motion__in=Motion.objects.visible_to(user)) | Q(institution__in=own) | Q(institution__merged_into__in=own)
    )


@transaction.atomic
def report(condition: Condition, *, text: str, by: User, now: datetime) -> Condition:
    """Say, for the institution, how a condition was met."""
    condition = Condition.objects.select_for_update().get(pk=condition.pk)
    institutions.require_manager(by, institutions.acting_for(condition.institution))
    if condition.status not in {Status.OPEN, Status.REPORTED}:
        raise NotPossibleNow("This condition is settled.")
    if not text.strip():
        raise VoteRefused("Say in a sentence what was done.")
    condition.status, condition.report, condition.reported_at = Status.REPORTED, text.strip(), now
    condition.save(update_fields=["status", "report", "reported_at"])
    audit.record("condition.reported", condition, by=by)
    notify(
        chairs(condition.motion).exclude(pk__in=condition.motion.recusals.values("member")),
        type=Type.BALLOT,
        subject=f"A condition is reported as met: {condition.motion.audit_name}",
        text=condition.text,
        path=condition.motion.get_absolute_url(),
    )
    return condition


def _belongs(user: User, condition: Condition) -> bool:
    return institutions.people_acting_for(condition.institution).filter(pk=user.pk).exists()


@transaction.atomic
def settle(condition: Condition, *, status: str, note: str, by: User, now: datetime) -> Condition:
    """Say, for the board, that a condition is met or waived, or open again with what is missing."""
    condition = Condition.objects.select_for_update().get(pk=condition.pk)
    if not is_secretary(by, condition.motion) or _belongs(by, condition):
        raise NotAllowed(
            "Only the chair or an operator settles a condition, and nobody who is recused from its motion or belongs "
            "to the institution."
        )
    if condition.status in {Status.MET, Status.WAIVED}:
        raise NotPossibleNow("This condition is settled.")
    if status not in {Status.MET, Status.WAIVED, Status.OPEN}:
        raise VoteRefused("Say whether it is met, waived or still open.")
    if status != Status.MET and not note.strip():
        raise VoteRefused("Say why in a sentence: the institution reads it.")
    is_settled = status in {Status.MET, Status.WAIVED}
    condition.status, condition.note = Status(status), note.strip()
    condition.settled_at, condition.settled_by = (now, by) if is_settled else (None, None)
    condition.save(update_fields=["status", "note", "settled_at", "settled_by"])
    audit.record(f"condition.{'reopened' if not is_settled else status}", condition, by=by)
    words = f"A condition is {condition.get_status_display().lower()}"
    _tell_institution(condition.motion, words, f"{condition.text}\n\n{note}".strip())
    return condition
