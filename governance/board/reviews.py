"""Two reviewers before the ballot: who, by when, what they are asked, and what their answers do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from governance.board.closing import return_for_changes
from governance.board.conflicts import require_declared, require_voter, sync_recusals
from governance.board.counting import is_secretary, unrecused
from governance.board.errors import NotPossibleNow, VoteRefused
from governance.board.lifecycle import Status
from governance.board.models import Motion, Recusal, Review
from governance.board.moves import locked, open_ballot
from governance.board.resting import require_moving, resting
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions.reviews import add_working_days
from portal.live import announce
from portal.notifications import services as notifications
from portal.notifications.services import notify
from portal.notifications.types import Type

WORKING_DAYS = 5
ANSWERS = {"yes": "Yes", "no": "No", "unclear": "Unclear"}
# What a reviewer answers about a contribution; the key is kept with the answer.
QUESTIONS: dict[str, str] = {
    "legal_basis": "Do the agreement and the ethics reference cover what is sent?",
    "checks": "Did you read every check, and is each remark acceptable?",
    "samples": "Is the sheet of samples free of anything that could name a patient?",
    "privacy": "Does the training card say enough about patients, deduplication and privacy?",
    "use": "Is it fit for the corpus: modality, quality, what it adds to the map?",
}


@dataclass(frozen=True)
class Workload:
    """What a member of the board has on the desk: reviews that wait, of them late; done in the last 90 days."""

    member: User
    waiting: int
    late: int
    done: int


def candidates(motion: Motion) -> QuerySet[User]:
    """Return who can review: the electorate, less the recused, less who reviews it already; least work first."""
    waiting = Count("board_reviews", filter=Q(board_reviews__in=Review.objects.waiting()), distinct=True)
    taken = motion.reviews.current().values("reviewer")
    free = unrecused(motion).exclude(pk__in=taken)
    return free.annotate(load=waiting).order_by("load", "pk")


def begin(motion: Motion, *, now: datetime) -> None:
    """Give a motion to as many reviewers as its rule asks for, those with the least work first."""
    sync_recusals(motion, now=now)
    for reviewer in candidates(motion)[: motion.reviewers]:
        _assign(motion, reviewer, by=None, now=now)


def understaffed() -> list[Motion]:
    """Return the motions that wait for a reviewer whom they have not, or whom they must lose."""
    current = Count("reviews", filter=Q(reviews__ended_at=None))
    few = Q(
        pk__in=Motion.objects.annotate(n=current).filter(status=Status.REVIEWING, n__lt=F("reviewers")).values("pk")
    )
    recused = Exists(Recusal.objects.filter(motion=OuterRef("motion"), member=OuterRef("reviewer")))
    seats = ConsortiumRole.objects.current().filter(
        role__in=accounts.SEATED, user=OuterRef("reviewer"), user__is_active=True
    )
    own = Exists(seats.filter(programme=OuterRef("motion__programme"))) & Q(motion__electorate="programme")
    seatless = ~(Exists(seats.everywhere()) | own)  # as counting.electorate() says of one motion
    lost = Review.objects.waiting().filter(recused | seatless).values("motion")
    return list(Motion.objects.filter(few | Q(pk__in=lost), status=Status.REVIEWING))


def missing(motion: Motion) -> int:
    """Return how many reviewers the rule asks for and nobody is."""
    return max(0, motion.reviewers - motion.reviews.current().count())


def _assign(motion: Motion, reviewer: User, *, by: User | None, now: datetime) -> Review:
    due_on = add_working_days(now.date(), WORKING_DAYS)
    review = Review.objects.create(motion=motion, reviewer=reviewer, assigned_at=now, due_on=due_on)
    audit.record("board_review.assigned", review, by=by, due_on=due_on.isoformat())
    notify(
        [reviewer],
        type=Type.BALLOT,
        subject=f"Your review: {motion.audit_name}",
        text=f"Please look at it until {due_on:%d %B %Y}. The ballot opens when its reviewers have finished.",
        path=motion.get_absolute_url(),
    )
    announce(f"motion-{motion.pk}")
    return review


@transaction.atomic
def assign(motion: Motion, reviewer: User, *, instead_of: Review | None = None, by: User, now: datetime) -> Review:
    """Give a motion to a reviewer, in the place of another or where one is missing."""
    motion = locked(motion)
    if not is_secretary(by, motion):
        raise NotAllowed("Only the chair or an operator assigns reviewers.")
    sync_recusals(motion, now=now)
    if motion.status != Status.REVIEWING or (instead_of is None and not missing(motion)):
        raise NotPossibleNow("This motion does not wait for another reviewer.")
    if not candidates(motion).filter(pk=reviewer.pk).exists():
        raise VoteRefused("A reviewer is a member of this board, not recused, and not its reviewer already.")
    if instead_of is not None:
        _end(instead_of, by=by, now=now)
    return _assign(motion, reviewer, by=by, now=now)


def _end(review: Review, *, by: User | None, now: datetime) -> None:
    if review.submitted_at is not None or review.ended_at is not None:
        raise NotPossibleNow("This review is finished.")
    review.ended_at = now
    review.save(update_fields=["ended_at"])
    audit.record("board_review.ended", review, by=by)


@transaction.atomic
def submit(
    motion: Motion, *, answers: dict[str, Any], recommendation: str, note: str, by: User, now: datetime
) -> Review:
    """
    Send a review. When all reviewers have finished the ballot opens, with what they recommend; a return ends it here.

    Args:
        answers: one of ANSWERS for each of QUESTIONS.
        note: the board reads it; with a return the institution does.
    """
    motion = locked(motion)
    sync_recusals(motion, now=now)
    require_voter(motion, by)
    require_declared(motion, by)
    review = motion.reviews.current().filter(reviewer=by, submitted_at__isnull=True).first()
    if review is None or motion.status != Status.REVIEWING:
        raise NotPossibleNow("There is no review of yours that waits.")
    require_moving(motion)
    _require_complete(answers, recommendation, note)
    review.answers, review.recommendation, review.note = answers, recommendation, note.strip()
    review.submitted_at = now
    review.save(update_fields=["answers", "recommendation", "note", "submitted_at"])
    audit.record("board_review.submitted", review, by=by, recommendation=recommendation)
    _go_on(motion, review, by=by, now=now)
    announce(f"motion-{motion.pk}")
    return review


def _require_complete(answers: dict[str, Any], recommendation: str, note: str) -> None:
    if set(answers) != set(QUESTIONS) or not set(answers.values()) <= set(ANSWERS):
        raise VoteRefused("Answer every question.")
    if recommendation not in Review.Recommendation.values or not note.strip():
        raise VoteRefused("Say what you recommend, and why in a sentence or two.")


def _go_on(motion: Motion, review: Review, *, by: User, now: datetime) -> None:
    if review.recommendation == Review.Recommendation.RETURN:
        return_for_changes(motion, note=review.note, by=by, now=now)
        return
    done = motion.reviews.current().filter(submitted_at__isnull=False).count()
    if done >= motion.reviewers:
        open_ballot(motion, now=now)


@transaction.atomic
def refill(motion: Motion, *, now: datetime) -> None:
    """Take reviews from who is recused meanwhile or left the board, and give them to the next."""
    motion = locked(motion)
    if motion.status != Status.REVIEWING:
        return
    sync_recusals(motion, now=now)
    may = unrecused(motion)
    for review in motion.reviews.current().filter(submitted_at__isnull=True).exclude(reviewer__in=may):
        _end(review, by=None, now=now)
    for reviewer in candidates(motion)[: missing(motion)]:
        _assign(motion, reviewer, by=None, now=now)


def workload(members: Sequence[User], *, now: datetime) -> list[Workload]:
    """Return what each member has to review, the busiest first; one query."""
    ids = [member.pk for member in members]
    waiting = Q(submitted_at__isnull=True, motion__status=Status.REVIEWING)
    rows = (
        Review.objects.current()
        .filter(reviewer__in=ids)
        .values("reviewer")
        .annotate(
            waiting=Count("pk", filter=waiting),
            late=Count("pk", filter=waiting & Q(due_on__lt=now.date())),
            done=Count("pk", filter=Q(submitted_at__gte=now - timedelta(days=90))),
        )
    )
    found = {row["reviewer"]: (row["waiting"], row["late"], row["done"]) for row in rows}
    loads = [Workload(member, *found.get(member.pk, (0, 0, 0))) for member in members]
    return sorted(loads, key=lambda load: (-load.waiting, -load.done, load.member.name))


def remind(*, now: datetime) -> None:
    """Remind reviewers whose day has passed, once; the chair sees them on the docket."""
    late = Review.objects.waiting().filter(due_on__lt=now.date()).exclude(motion__in=resting())
    late = late.select_related("motion__person", "reviewer")
    keys = {f"board-review-{review.pk}-late": review for review in late}
    told = notifications.told(keys)
    for key, review in keys.items():
        if key not in told:
            _remind(review, key)


def _remind(review: Review, key: str) -> None:
    notify(
        [review.reviewer],
        type=Type.BALLOT,
        subject=f"Your review is late: {review.motion.audit_name}",
        text=f"It was due on {review.due_on:%d %B %Y}. If you cannot do it, ask the chair to give it away.",
        path=review.motion.get_absolute_url(),
        key=key,
    )
