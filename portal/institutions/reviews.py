"""Rounds of review: who looks at an application, until when, what changed since the round before. Silence reminds."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.urls import reverse

from portal.accounts.models import ConsortiumRole, User
from portal.accounts.services import has_role
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import profile
from portal.institutions.lifecycle import Outcome
from portal.institutions.models import FieldComment, Institution, Review
from portal.notifications.services import notify
from portal.notifications.types import Type

REVIEW_DAYS = 5  # working days, then the reviewer is reminded; as many again, then the chair is told
REVIEWERS = ["operator", "board_member"]


class CommentsMissing(DomainError):
    """A return needs something for the applicants to do."""

    code = "comments_missing"


@dataclass(frozen=True)
class Change:
    """One field that differs between two rounds, in words."""

    field: str
    label: str
    before: str
    after: str


def add_working_days(start: date, days: int) -> date:
    """Return the day `days` working days (Monday to Friday) after `start`."""
    day = start
    while days:
        day += timedelta(days=1)
        days -= day.weekday() < 5
    return day


# Who reviews


def _holders(*roles: str) -> QuerySet[User]:
    current = ConsortiumRole.objects.current().everywhere().filter(role__in=roles)  # as `may_review` asks
    return User.objects.filter(consortium_roles__in=current, is_active=True).distinct()


def candidates(institution: Institution) -> QuerySet[User]:
    """Return who may review the application, who has the fewest open first; nobody judges their own institution."""
    own = institution.memberships.current().values("user")
    load = Count("reviews", filter=Q(reviews__outcome=Outcome.OPEN), distinct=True)
    return _holders(*REVIEWERS).exclude(pk__in=own).annotate(load=load).order_by("load", "pk")


def current(institution: Institution) -> Review | None:
    """Return the open round, or None."""
    rows = Review.objects.select_related("reviewer", "institution")
    return rows.filter(institution=institution, outcome=Outcome.OPEN).first()


def latest(institution: Institution) -> Review | None:
    """Return the newest round, open or ended, or None before the first sending."""
    return Review.objects.filter(institution=institution).select_related("reviewer").order_by("-number").first()


def may_review(user: User, institution: Institution) -> bool:
    """Test if the person may return or decline: the reviewer, an operator or the chair, never of their own."""
    if institution.memberships.current().filter(user=user).exists():
        return False
    return has_role(user, "operator", "chair") or (
        has_role(user, *REVIEWERS)
        and Review.objects.filter(institution=institution, reviewer=user, outcome="open").exists()
    )


def may_read(user: User, institution: Institution) -> bool:
    """Test if the person reads the evidence of an application: its reviewers so far, the board, operators, auditors."""
    return (
        has_role(user, "operator", "chair", "auditor", "board_member")
        or institution.reviews.filter(reviewer=user).exists()
    )


def require_reviewer(user: User, institution: Institution) -> None:
    """Raise NotAllowed unless `may_review`."""
    if not may_review(user, institution):
        raise NotAllowed(
            f"Only the reviewer of {institution}, an operator or the chair can do this, and nobody who belongs to it."
        )


@transaction.atomic
def reassign(review: Review, reviewer: User, *, by: User, now: datetime) -> Review:
    """Give an open round to another reviewer; operators do."""
    if not has_role(by, "operator"):
        raise NotAllowed("Only an operator gives a review to somebody else.")
    review = Review.objects.select_for_update().get(pk=review.pk)
    if review.outcome != Outcome.OPEN:
        raise NotAllowed(f"The {review} has ended. There is nothing left to give to anybody.")
    if not candidates(review.institution).filter(pk=reviewer.pk).exists():
        raise NotAllowed("The new reviewer must be an operator or board member who does not belong to the institution.")
    return _give(review, reviewer, by=by)


def _give(review: Review, reviewer: User, *, by: User | None) -> Review:
    review.reviewer = reviewer
    review.save(update_fields=["reviewer"])
    audit.record(
        "review.assigned",
        review,
        by=by,
        institution_id=review.institution_id,
        reviewer=reviewer.pk,
        round=review.number,
    )
    _tell_reviewer(review, f"You review {review.institution}", "The application waits for you to look at it.")
    return review


# Rounds


def begin(
    institution: Institution, *, by: User, now: datetime, appeal_of: Review | None = None, grounds: str = ""
) -> Review:
    """Open a round with the answers as they are; called when it is sent. The caller holds the row's lock."""
    review = Review.objects.create(
        institution=institution,
        number=institution.round,
        snapshot=profile.snapshot(institution),
        sent_at=now,
        sent_by=by,
        target_on=add_working_days(now.date(), REVIEW_DAYS),
        appeal_of=appeal_of,
        grounds=grounds,
    )
    before = Review.objects.filter(institution=institution, number=review.number - 1).first()
    options = candidates(institution)
    keeps = before.reviewer if before and not appeal_of else None  # who asked for the changes looks at them
    reviewer = next((person for person in options if person == keeps), options.first())
    return _give(review, reviewer, by=None) if reviewer else review


def end(institution: Institution, outcome: str, *, now: datetime, code: str = "", note: str = "") -> None:
    """End the open round. The caller has moved the application."""
    Review.objects.filter(institution=institution, outcome=Outcome.OPEN).update(
        outcome=outcome, ended_at=now, code=code, note=note
    )


def annotate(review: Review, *, note: str, comments: dict[str, str], by: User, now: datetime) -> None:
    """Keep the note and what is asked of single fields."""
    unknown = set(comments) - set(profile.FIELDS)
    if unknown:
        raise CommentsMissing(
            f"There is no field {sorted(unknown)[0]} in the profile. Choose one of the form's fields."
        )
    review.note = note
    review.save(update_fields=["note"])
    FieldComment.objects.bulk_create(
        FieldComment(review=review, field=field, text=text, by=by, at=now) for field, text in comments.items()
    )


def comments_on(institution: Institution) -> dict[str, list[FieldComment]]:
    """Return what the last round asks of each field while the applicants have it."""
    review = latest(institution)
    found: dict[str, list[FieldComment]] = {}
    if review is not None and review.outcome == Outcome.RETURNED and institution.status == "returned":
        for row in review.comments.all():
            found.setdefault(row.field, []).append(row)
    return found


def changes(review: Review) -> list[Change]:
    """Return what differs from the round before, field by field; empty in the first round."""
    before = Review.objects.filter(institution=review.institution_id, number=review.number - 1).first()
    if before is None:
        return []
    pairs = [(name, before.snapshot, review.snapshot) for name in profile.FIELDS]
    rows = [Change(name, profile.label(name), _said(old, name), _said(new, name)) for name, old, new in pairs]
    return [row for row in rows if row.before != row.after]


def _said(snapshot: dict[str, object], name: str) -> str:
    unknown = snapshot.get("unknown", [])
    return profile.in_words(name, snapshot.get(name), unknown=unknown)  # type: ignore[arg-type]


# Waiting


def waiting() -> QuerySet[Review]:
    """Return the open rounds, oldest first."""
    return (
        Review.objects.filter(outcome=Outcome.OPEN).select_related("institution", "reviewer").order_by("sent_at", "pk")
    )


def _tell_reviewer(review: Review, subject: str, text: str) -> None:
    people = [review.reviewer] if review.reviewer else list(_holders("operator"))
    _tell(people, review, subject, f"{text} Target: {review.target_on:%d %B %Y}.")


def _tell(people: list[User], review: Review, subject: str, text: str) -> None:
    path = reverse("institutions:case", args=[review.institution.slug])
    notify(people, type=Type.REVIEW, subject=subject, text=text, path=path)


def remind(*, now: datetime) -> int:
    """
    Remind the reviewers whose target has passed, and the chair as many days later; once each. Return how many.

    No silence ever admits or declines anybody.
    """
    today, reminded = now.date(), 0
    for review in waiting().exclude(reviewer__in=_holders(*REVIEWERS)):  # nobody has it, or who had it has left
        _replace(review.pk)
    for review in waiting().filter(target_on__lt=today).filter(Q(reminded_at=None) | Q(escalated_at=None)):
        reminded += _remind(review.pk, now=now)
    return reminded


@transaction.atomic
def _replace(review_id: int) -> None:
    review = Review.objects.select_for_update(of=("self",)).select_related("institution").get(pk=review_id)
    reviewer = candidates(review.institution).first()
    if review.outcome == Outcome.OPEN and reviewer is not None:
        _give(review, reviewer, by=None)


@transaction.atomic
def _remind(review_id: int, *, now: datetime) -> int:
    review = Review.objects.select_for_update(of=("self",)).select_related("institution").get(pk=review_id)
    late_on = add_working_days(review.target_on, REVIEW_DAYS)
    if review.outcome != Outcome.OPEN:
        return 0
    if review.reminded_at is None:
        return _remind_reviewer(review, now=now)
    if review.escalated_at is None and now.date() > late_on:
        return _tell_chair(review, now=now)
    return 0


def _remind_reviewer(review: Review, *, now: datetime) -> int:
    review.reminded_at = now
    review.save(update_fields=["reminded_at"])
    audit.record("review.reminded", review, by=None, institution_id=review.institution_id, round=review.number)
    _tell_reviewer(review, f"Reminder: {review.institution} still waits", "The application has waited past its target.")
    return 1


def _tell_chair(review: Review, *, now: datetime) -> int:
    review.escalated_at = now
    review.save(update_fields=["escalated_at"])
    audit.record("review.escalated", review, by=None, institution_id=review.institution_id, round=review.number)
    days = (now - review.sent_at).days
    subject, text = (
        f"{review.institution} has waited for {days} days",
        "The reviewer was reminded and has not answered.",
    )
    _tell(list(_holders("chair")), review, subject, text)
    return 1
