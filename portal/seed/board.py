"""What the demonstration's board does: votes, reviews, a tie, a condition, an interest, a meeting."""

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from governance.board import conditions as tasks
from governance.board import meetings
from governance.board import services as boards
from governance.board.models import Interest, Meeting, Motion
from governance.board.reviews import QUESTIONS
from portal.accounts.models import User
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.seed import data


def vote(motion: Motion, board: Sequence[User], *, choice: str = "for", reason: str = "") -> None:
    """Let these members vote until the motion closes."""
    review(motion)
    for voter in board:
        motion.refresh_from_db()
        if motion.status == "open" and boards.can_vote(voter, motion):
            _ballot(motion, voter, choice, reason)


def review(motion: Motion) -> None:
    """Let the reviewers of a motion finish, so that its ballot opens."""
    for row in motion.reviews.waiting().select_related("reviewer"):
        _declare(motion, row.reviewer)
        boards.submit_review(
            motion,
            answers=dict.fromkeys(QUESTIONS, "yes"),
            recommendation="approve",
            note=data.REVIEWED,
            by=row.reviewer,
            now=timezone.now(),
        )
    motion.refresh_from_db()


def _ballot(motion: Motion, voter: User, choice: str, reason: str = "", conditions: Sequence[str] = ()) -> None:
    _declare(motion, voter)
    boards.cast_vote(motion, choice=choice, reason=reason, conditions=conditions, by=voter, now=timezone.now())


def _declare(motion: Motion, member: User) -> None:
    if not boards.has_declared(member, motion):
        boards.declare(motion, answer="none", by=member, now=timezone.now())


@transaction.atomic
def admit(motion: Motion, board: Sequence[User], *, condition: str = "") -> None:
    """Let the board admit an applicant, under a condition of its chair if there is one, which is reported as met."""
    if condition:
        _ballot(motion, board[0], "for", conditions=[condition])
    vote(motion, board[1:] if condition else board)
    applicant = motion.institution
    assert applicant is not None
    for row in motion.conditions.all():
        lead = institutions.people(applicant, "principal_investigator").earliest("pk")
        tasks.report(row, text=data.CONDITION_MET, by=lead, now=timezone.now())


@transaction.atomic
def decline(motion: Motion, board: Sequence[User]) -> None:
    """Let the board decline an applicant against one voice, which says why."""
    outvoted = board[-1]
    _ballot(motion, outvoted, "for")
    vote(motion, board[:-1], choice="against", reason=data.DECLINED_BECAUSE)
    boards.dissent(motion.decision, text=data.DISSENT, by=outvoted, now=timezone.now())


@transaction.atomic
def convene(sites: dict[str, Institution], board: Sequence[User], *, operator: User) -> None:
    """Leave a docket with a tie and a ballot that has begun, an interest in the register, and a meeting next week."""
    now = timezone.now()
    if Meeting.objects.exists():
        return
    tied, open_ = (Motion.objects.get(institution=sites[key]) for key in data.ON_THE_DOCKET)
    for voter, (choice, reason) in zip(board, data.TIED, strict=True):
        _ballot(tied, voter, choice, reason)
    _ballot(open_, board[1], "for")
    boards.comment(open_, audience="board", text=data.DISCUSSED, by=board[1], now=now)
    boards.comment(open_, audience="applicant", text=data.ASKED, by=board[1], now=now)
    boards.register_interest(nature=Interest.Nature.FINANCIAL, institution=None, **data.INTEREST, by=board[3], now=now)
    start = (now + timedelta(days=7)).replace(hour=14, minute=0, second=0, microsecond=0)
    meeting = meetings.call(
        **data.MEETING,
        starts_at=start,
        ends_at=start + timedelta(hours=1, minutes=30),
        motions=[tied, open_],
        by=operator,
        now=now,
    )
    for member, answer in zip(board, ["yes", "yes", "no"], strict=False):
        meetings.answer(meeting, answer=answer, by=member, now=now)
