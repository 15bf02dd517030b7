"""Casting votes."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from governance.board import conflicts, reviews
from governance.board.closing import close_if_settled, is_moot
from governance.board.conflicts import require_declared, require_voter, sync_recusals
from governance.board.counting import institution_of
from governance.board.errors import VoteRefused
from governance.board.lifecycle import Status
from governance.board.models import Motion, Recusal, Vote
from governance.board.moves import locked
from governance.board.resting import require_moving
from portal.accounts.models import User
from portal.audit import services as audit
from portal.live import announce

MAX_CONDITIONS = 10


@transaction.atomic
def cast_vote(
    motion: Motion, *, choice: str, reason: str = "", conditions: Sequence[str] = (), by: User, now: datetime
) -> Motion:
    """
    Cast a ballot, or a changed one, which counts instead of the one before; the same again changes nothing.

    The vote that settles the outcome closes the motion and carries it out, in the same transaction.

    Args:
        conditions: what the institution must do, with a vote for; each becomes its task when the motion is carried.
    """
    motion = locked(motion)
    sync_recusals(motion, now=now)
    require_voter(motion, by)
    require_declared(motion, by)
    _require_open(motion, now=now)
    wanted = _said(motion, choice, reason, conditions)
    last = motion.votes.filter(voter=by).order_by("-number").first()
    if last is not None and (last.choice, last.reason, last.conditions) == wanted:
        return motion
    _append(motion, wanted, number=last.number + 1 if last else 1, by=by, now=now)
    return close_if_settled(motion, now=now)


def _require_open(motion: Motion, *, now: datetime) -> None:
    if motion.status != Status.OPEN or motion.closes_at is None or now >= motion.closes_at:
        raise VoteRefused(f"The ballot on {motion} is closed, or not open yet.")
    if is_moot(motion):
        raise VoteRefused(f"{motion} has become moot: its subject was taken back, returned or sent anew. Do not vote.")
    require_moving(motion)


def _said(motion: Motion, choice: str, reason: str, conditions: Sequence[str]) -> tuple[str, str, list[str]]:
    """Return choice, reason and conditions as they are kept; refuse what may not go on record."""
    kept = list(dict.fromkeys(text.strip() for text in conditions if text.strip()))
    if choice not in Vote.Choice.values:
        raise VoteRefused("Vote for, against, or abstain.")
    if choice != Vote.Choice.FOR and not reason.strip():
        raise VoteRefused("Say why in a sentence: a vote against or an abstention goes on record with its reason.")
    if kept and (choice != Vote.Choice.FOR or motion.institution is None):
        raise VoteRefused("Conditions go with a vote for, on what an institution asks.")
    if len(kept) > MAX_CONDITIONS:
        raise VoteRefused(f"Give at most {MAX_CONDITIONS} conditions.")
    return choice, reason.strip(), kept


def _append(motion: Motion, wanted: tuple[str, str, list[str]], *, number: int, by: User, now: datetime) -> None:
    choice, reason, kept = wanted
    Vote.objects.create(
        motion=motion,
        voter=by,
        number=number,
        voter_institution_id=institution_of(by),
        subject_institution=motion.institution,
        choice=choice,
        reason=reason,
        conditions=kept,
        cast_at=now,
    )
    # How is on the ballot, not in the log of who did what.
    audit.record("vote.cast" if number == 1 else "vote.changed", motion, by=by)
    announce(f"motion-{motion.pk}")


@transaction.atomic
def recuse(motion: Motion, *, reason: str, by: User, now: datetime) -> Recusal:
    """Step aside; where the outcome is certain without this member, the motion closes."""
    row = conflicts.step_aside(motion, reason=reason, by=by, now=now)
    motion = locked(motion)
    reviews.refill(motion, now=now)
    if motion.status == Status.OPEN:
        close_if_settled(motion, now=now)
    return row
