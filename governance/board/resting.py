"""Motions at rest: nobody sees what a contribution holds while it is isolated, so nobody judges what is of it."""

from datetime import datetime, timedelta

from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Coalesce

from contributions import isolation
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution, Isolation
from governance.board.errors import VoteRefused
from governance.board.models import Kind, Motion
from portal.audit import services as audit
from portal.live import announce

EXTENSION = timedelta(days=7)  # JOURNEYS.md, 5.6 step 6


def _of(motion: Motion) -> QuerySet[Contribution]:
    """Return what a motion judges: the contribution to approve, or those of which the model learnt."""
    if motion.kind == Kind.APPROVE_CONTRIBUTION:
        return Contribution.objects.filter(motions=motion.pk)
    if motion.kind == Kind.RELEASE_MODEL:
        return Contribution.objects.filter(corpus_parts__corpus__candidates__releases=motion.release_id).distinct()
    return Contribution.objects.none()


def isolated(motion: Motion) -> QuerySet[Contribution]:
    """Return the contributions for which a motion waits; no model waits for one whose files were deleted."""
    found = _of(motion).filter(pk__in=isolation.isolated())
    return found if motion.kind == Kind.APPROVE_CONTRIBUTION else found.exclude(status=ContributionStatus.WITHDRAWN)


def rests(motion: Motion) -> bool:
    """Test if the motion rests: then nobody votes, and nothing closes."""
    return isolated(motion).exists()


def resting() -> QuerySet[Motion]:
    """Return the motions that rest."""
    used = Contribution.objects.exclude(status=ContributionStatus.WITHDRAWN).filter(pk__in=isolation.isolated())
    return Motion.objects.filter(
        Q(kind=Kind.APPROVE_CONTRIBUTION, contribution__in=isolation.isolated())
        | Q(kind=Kind.RELEASE_MODEL, release__candidate__corpus__parts__contribution__in=used)
    )


def require_moving(motion: Motion) -> None:
    """Raise VoteRefused while the motion rests."""
    waited_for = isolated(motion).first()
    if waited_for is None:
        return
    end = "is taken back" if motion.kind == Kind.APPROVE_CONTRIBUTION else "goes on, too,"
    raise VoteRefused(
        f"{waited_for} is isolated because of what it may hold, so {motion} rests. It goes on when that is lifted, and "
        f"{end} when the files are deleted."
    )


def gets_its_time_back(motion: Motion, *, now: datetime) -> bool:
    """Keep a ballot that rested open for a week after that, as one without a quorum; test if that was due."""
    assert motion.closes_at is not None  # it is due
    rows = Isolation.objects.filter(contribution__in=_of(motion))
    ended = rows.aggregate(last=Max(Coalesce("lifted_at", "contribution__status_since")))["last"]
    if ended is None or ended + EXTENSION <= motion.closes_at:
        return False
    motion.closes_at = ended + EXTENSION
    motion.save(update_fields=["closes_at"])
    audit.record("motion.extended", motion, by=None, closes_at=motion.closes_at.isoformat())
    announce(f"motion-{motion.pk}")
    return True
