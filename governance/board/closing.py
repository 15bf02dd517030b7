"""Closing a ballot, and what follows: by the last vote, by the clock, by the chair, by what became of the subject."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet

from governance.board import conditions
from governance.board.conflicts import sync_recusals
from governance.board.counting import chairs, count, electorate, is_secretary
from governance.board.effects import EFFECTS
from governance.board.errors import NotPossibleNow, VoteRefused
from governance.board.lifecycle import Status
from governance.board.models import CastingVote, Kind, Motion
from governance.board.moves import locked, move
from governance.board.resting import EXTENSION, gets_its_time_back, require_moving, resting, rests
from governance.board.tally import Result
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.live import announce
from portal.notifications import services as notifications
from portal.notifications.services import notify
from portal.notifications.types import Type

CHAIR_DAYS = timedelta(days=7)
BEFORE_THE_VOTE = {Status.REVIEWING, Status.OPEN}
REMIND_BEFORE = (timedelta(days=3), timedelta(days=1))


def close_if_settled(motion: Motion, *, now: datetime) -> Motion:
    """Close a locked motion when its outcome is certain, or its time has come; carry out what was decided."""
    if rests(motion):
        return motion
    result = count(motion, now=now).result
    if result is Result.CARRIED:
        settle(motion, Status.CARRIED, now=now)
    elif result is Result.LOST:
        settle(motion, Status.LOST, now=now)
    elif result is Result.TIE:
        _tie(motion, now=now)
    elif result is Result.NO_QUORUM and motion.closes_at is not None and now >= motion.closes_at:
        _extend_or_lapse(motion, now=now)
    return motion


def settle(motion: Motion, target: Status, *, now: datetime) -> None:
    """Close a motion as carried or lost and do what its kind's row of EFFECTS says, all or nothing."""
    move(motion, target, by=None, now=now)
    effect = EFFECTS[motion.kind]
    (effect.carried if target == Status.CARRIED else effect.lost)(motion, now)
    if target == Status.CARRIED:
        conditions.make(motion, now=now)
    _tell_board(motion)


def _tell_board(motion: Motion) -> None:
    outcome = motion.get_status_display().lower()
    notify(
        electorate(motion),
        type=Type.BALLOT,
        subject=f"{motion.decision}: {motion.audit_name} was {outcome}",
        text="The arithmetic and the reasons are on its page. Who was outvoted can file a minority opinion for 7 days.",
        path=motion.get_absolute_url(),
    )


def _tie(motion: Motion, *, now: datetime) -> None:
    move(motion, Status.TIED, by=None, now=now)
    recused = motion.recusals.values("member")
    notify(
        chairs(motion).exclude(pk__in=recused),
        type=Type.BALLOT,
        subject=f"A tie: you decide {motion.audit_name}",
        text=f"As many voted for as against. Decide it by {chair_until(motion):%d %B %Y, %H:%M} UTC, else it is lost.",
        path=motion.get_absolute_url(),
        deadline_at=chair_until(motion),
    )


def chair_until(motion: Motion) -> datetime:
    """Return until when the chair can decide a tie; after it, the motion is lost."""
    assert motion.closes_at is not None  # a ballot was open (motion_closes_at_once_its_ballot_is_open)
    return motion.closes_at + CHAIR_DAYS


def _extend_or_lapse(motion: Motion, *, now: datetime) -> None:
    """Without a quorum the ballot stays open 7 days more, once; then the motion lapses. It never passes by silence."""
    if motion.extended_at is not None:
        move(motion, Status.LAPSED, by=None, now=now)
        _tell_lapsed(motion)
        return
    motion.extended_at, motion.closes_at = now, now + EXTENSION
    motion.save(update_fields=["extended_at", "closes_at"])
    audit.record("motion.extended", motion, by=None, closes_at=motion.closes_at.isoformat())
    announce(f"motion-{motion.pk}")
    notify(
        waited_for(motion),
        type=Type.BALLOT,
        subject=f"Your vote is missing: {motion.audit_name}",
        text=f"There was no quorum. The ballot is open once more, until {motion.closes_at:%d %B %Y, %H:%M} UTC.",
        path=motion.get_absolute_url(),
        deadline_at=motion.closes_at,
    )


def _tell_lapsed(motion: Motion) -> None:
    notify(
        chairs(motion),
        type=Type.BALLOT,
        subject=f"{motion.audit_name} lapsed without a quorum",
        text="Nothing was decided. You or an operator can put it again.",
        path=motion.get_absolute_url(),
    )
    if motion.institution is not None and motion.kind in {Kind.ADMIT_INSTITUTION, Kind.APPROVE_CONTRIBUTION}:
        notify(
            institutions.people_acting_for(motion.institution),
            type=Type.APPLICATION if motion.kind == Kind.ADMIT_INSTITUTION else Type.CONTRIBUTION,
            subject=f"No decision yet: {motion.subject}",
            text="Too few members of the board voted in time, so nothing was decided and nothing is lost. The chair "
            "can put the question again; you need do nothing.",
            path=motion.subject.get_absolute_url(),
        )


def waited_for(motion: Motion) -> QuerySet[User]:
    """Return who may vote and has not."""
    gone = Q(pk__in=motion.recusals.values("member")) | Q(pk__in=motion.votes.values("voter"))
    return electorate(motion).exclude(gone)


@transaction.atomic
def decide_tie(motion: Motion, *, choice: str, reason: str, by: User, now: datetime) -> Motion:
    """Decide a tie as the chair, with a reason; final."""
    motion = locked(motion)
    sync_recusals(motion, now=now)
    if not chairs(motion).filter(pk=by.pk).exists() or motion.recusals.filter(member=by).exists():
        raise NotAllowed("A tie is decided by the chair, unless recused.")
    if motion.status != Status.TIED:
        raise VoteRefused(f"{motion} is {motion.get_status_display().lower()}: there is no tie to decide.")
    require_moving(motion)
    if choice not in {"for", "against"} or not reason.strip():
        raise VoteRefused("Say for or against, and why: the reason goes on record.")
    CastingVote.objects.create(motion=motion, chair=by, choice=choice, reason=reason.strip(), cast_at=now)
    audit.record("tie.decided", motion, by=by, choice=choice)
    settle(motion, Status.CARRIED if choice == "for" else Status.LOST, now=now)
    return motion


# Taking back, returning, asking again


@transaction.atomic
def return_for_changes(motion: Motion, *, note: str, by: User, now: datetime) -> Motion:
    """Give a contribution back to its institution with what to change, before anybody has voted."""
    motion = locked(motion)
    is_reviewer = motion.reviews.current().filter(reviewer=by).exists()
    if not (is_secretary(by, motion) or is_reviewer):
        raise NotAllowed("Only a reviewer of this motion, the chair or an operator returns it.")
    if motion.kind != Kind.APPROVE_CONTRIBUTION or motion.votes.exists() or motion.status not in BEFORE_THE_VOTE:
        raise NotPossibleNow("A contribution can be returned only before the first vote is cast.")
    require_moving(motion)
    if not note.strip():
        raise VoteRefused("Say what to change: the institution reads it.")
    move(motion, Status.RETURNED, by=by, now=now, reason=note.strip())
    EFFECTS[motion.kind].returned(motion, now)
    return motion


def may_take_back(user: User, motion: Motion) -> bool:
    """Test if the person takes the proposal back: who made it, the chair or an operator, before anybody has voted."""
    return _can_be_taken_back(motion) and (is_secretary(user, motion) or motion.opened_by_id == user.pk)


def _can_be_taken_back(motion: Motion) -> bool:
    return motion.opened_by_id is not None and motion.status in BEFORE_THE_VOTE and not motion.votes.exists()


@transaction.atomic
def take_back(motion: Motion, *, reason: str, by: User, now: datetime) -> Motion:
    """Take back a question that somebody proposed, before anybody has voted."""
    motion = locked(motion)
    if not (is_secretary(by, motion) or motion.opened_by_id == by.pk):
        raise NotAllowed("Only who proposed it, the chair or an operator takes a motion back.")
    if not _can_be_taken_back(motion):
        raise NotPossibleNow("Only a proposal on which nobody has voted can be taken back.")
    if not reason.strip():
        raise VoteRefused("Say in a sentence why.")
    move(motion, Status.WITHDRAWN, by=by, now=now, reason=reason.strip())
    EFFECTS[motion.kind].returned(motion, now)
    return motion


# By the clock


def _is_due(now: datetime) -> Q:
    """Return the condition that a motion's time has come: the ballot's, or the chair's to decide a tie."""
    return Q(status=Status.OPEN, closes_at__lte=now) | Q(status=Status.TIED, closes_at__lte=now - CHAIR_DAYS)


def due(*, now: datetime) -> list[int]:
    """Return the ids of the motions whose time has come."""
    return list(Motion.objects.filter(_is_due(now)).values_list("pk", flat=True))


@transaction.atomic
def close_due(motion_id: int, *, now: datetime) -> None:
    """Close a motion whose time has come; called by the sweep."""
    motion = Motion.objects.select_for_update(of=("self",)).filter(_is_due(now), pk=motion_id).first()
    if motion is None or is_moot(motion) or rests(motion) or gets_its_time_back(motion, now=now):
        return
    sync_recusals(motion, now=now)  # a merger may have made somebody a party since the ballot was cast
    if motion.status == Status.TIED:
        settle(motion, Status.LOST, now=now)
    else:
        close_if_settled(motion, now=now)


def remind(*, now: datetime) -> None:
    """Remind who has not voted, three days and one day before the ballot closes; each motion once at each."""
    soon = Motion.objects.filter(status=Status.OPEN, closes_at__lte=now + REMIND_BEFORE[0], closes_at__gt=now)
    soon = soon.exclude(pk__in=resting())
    keys = {_reminder_key(motion, now): motion for motion in soon.order_by("closes_at")}
    told = notifications.told(keys)
    for key, motion in keys.items():
        if key not in told:
            _ask(motion, key=key)


def _reminder_key(motion: Motion, now: datetime) -> str:
    assert motion.closes_at is not None  # a constraint: the ballot is open
    last = [before for before in REMIND_BEFORE if motion.closes_at - before <= now][-1]
    return f"ballot-{motion.pk}-{motion.closes_at:%Y%m%d}-{last.days}"


@transaction.atomic
def nudge(motion: Motion, *, by: User, now: datetime) -> int:
    """Ask those whose vote is missing, as the chair or an operator. Return how many."""
    require_moving(motion)
    audit.record("motion.nudged", motion, by=by)
    return _ask(motion)


def _ask(motion: Motion, *, key: str = "") -> int:
    people = waited_for(motion)
    notify(
        people,
        type=Type.BALLOT,
        subject=f"Your vote is missing: {motion.audit_name}",
        text=f"The ballot closes on {motion.closes_at:%d %B %Y, %H:%M} UTC.",
        path=motion.get_absolute_url(),
        deadline_at=motion.closes_at,
        key=key,
    )
    return people.count()


# Moot: an open motion that asks what nobody has to answer any more.
_GONE = (
    Q(kind=Kind.ADMIT_INSTITUTION) & (~Q(institution__status="applied") | ~Q(round=F("institution__round")))
    | Q(kind=Kind.APPROVE_CONTRIBUTION) & ~Q(contribution__status="review")
    | Q(kind=Kind.RELEASE_MODEL) & ~Q(release__status="proposed")
    | Q(kind=Kind.RETRACT_RELEASE) & ~Q(release__status="released")
    | Q(kind=Kind.SETTLE_WITHDRAWAL) & ~Q(contribution__status="withdrawn")
    | Q(kind=Kind.PUBLISH_AGREEMENT, agreement__versions__published_at__gt=F("opened_at"))
    | Q(kind=Kind.ADOPT_TASK, task__adopted_at__isnull=False)
    | Q(kind=Kind.GIVE_SEAT, person__is_active=False)
)


def is_moot(motion: Motion) -> bool:
    """Test if an undecided motion asks what nobody has to answer any more."""
    return Motion.objects.filter(_GONE, pk=motion.pk).exists()


@transaction.atomic
def close_moot(*, now: datetime) -> int:
    """Take back the undecided motions whose subject was withdrawn, returned or sent anew meanwhile. Return how many."""
    moot = Motion.objects.undecided().filter(_GONE).values("pk")
    rows = list(Motion.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk__in=moot))
    for motion in rows:
        move(motion, Status.WITHDRAWN, by=None, now=now)
    return len(rows)
