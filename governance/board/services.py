"""What the board does: motions, votes, recusals."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from contributions import services as contributions
from governance.board import lifecycle
from governance.board.lifecycle import Status
from governance.board.models import Motion, Recusal, Vote
from governance.board.tally import Result, Rule, Tally, tally
from governance.releases import services as releases
from governance.releases.models import Candidate, License, Release
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution
from portal.lifecycle import verb
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.programmes.models import Programme
from portal.queue import enqueue

Kind = Motion.Kind
OPEN_DAYS = 14
# kind: (quorum, threshold in percent of for + against). The consortium's defaults; frozen into each motion.
RULES = {Kind.ADMIT_INSTITUTION: (3, 50), Kind.APPROVE_CONTRIBUTION: (3, 50), Kind.RELEASE_MODEL: (3, 66)}


class VoteRefused(DomainError):
    """The vote does not count: the motion is closed, the member has voted or stepped aside, or a reason is missing."""

    code = "vote_refused"


def board(programme: Programme | None = None) -> QuerySet[User]:
    """Return who votes on a programme's questions; without one, on those of the consortium, such as admissions."""
    return accounts.seated(programme)


def recused(motion: Motion) -> dict[int, str]:
    """Return who may not vote and why, by user id: people of the subject's institution, and who stepped aside."""
    reasons = {row.member_id: row.reason for row in motion.recusals.all()}
    if motion.institution is not None:
        own = board(motion.programme).filter(pk__in=institutions.people(motion.institution))
        reasons |= {pk: f"belongs to {motion.institution}" for pk in own.values_list("pk", flat=True)}
    return reasons


def can_vote(user: User, motion: Motion) -> bool:
    """Test if the person holds a seat and is not recused. Being a superuser does not help."""
    return board(motion.programme).filter(pk=user.pk).exists() and user.pk not in recused(motion)


def count(motion: Motion, *, now: datetime) -> Tally:
    """Return the arithmetic of a motion as it stands."""
    rule = Rule(motion.quorum, motion.threshold_percent, motion.closes_at)
    choices = [vote.choice for vote in motion.votes.all()]
    eligible = set(board(motion.programme).values_list("pk", flat=True)) - recused(motion).keys() | {
        v.voter_id for v in motion.votes.all()
    }
    return tally(rule, choices, eligible=len(eligible), now=now)


def arithmetic(motion: Motion, *, now: datetime) -> Tally:
    """Return the count of an open motion, and of a closed one what was counted then: boards change, results do not."""
    closing = audit.of(motion).filter(verb=f"motion.{motion.status}").first()
    if closing is None:
        return count(motion, now=now)
    result = Result.CARRIED if motion.status == Status.CARRIED else Result.LOST
    return Tally(result, **closing.facts, quorum=motion.quorum, threshold_percent=motion.threshold_percent)


# Opening


def _open(kind: str, title: str, *, by: User | None, now: datetime, **subject: Any) -> Motion:
    quorum, threshold_percent = RULES[Kind(kind)]
    motion = Motion.objects.create(
        kind=kind,
        title=title[:300],
        quorum=quorum,
        threshold_percent=threshold_percent,
        opened_at=now,
        opened_by=by,
        closes_at=now + timedelta(days=OPEN_DAYS),
        **subject,
    )
    audit.record("motion.opened", motion, by=by, quorum=quorum, threshold_percent=threshold_percent)
    notify(
        board(motion.programme).exclude(pk__in=recused(motion)),
        type=Type.BALLOT,
        subject=f"Your vote: {motion.title}",
        text=f"The ballot is open until {motion.closes_at:%d %B %Y, %H:%M} UTC.",
        path=motion.get_absolute_url(),
        deadline_at=motion.closes_at,
    )
    return motion


@transaction.atomic
def refer_institution(institution_id: int, *, now: datetime) -> Motion | None:
    """
    Put an application before the board; None when this round of it is there already or it does not wait.

    A ballot on an earlier round is taken back: who sent the application again changed it, or appeals.
    """
    institution = Institution.objects.select_for_update().get(pk=institution_id)
    motions = Motion.objects.select_for_update().filter(institution=institution, kind=Kind.ADMIT_INSTITUTION)
    for motion in motions.filter(status=Status.OPEN):
        if is_moot(motion):
            _close(motion, Status.WITHDRAWN, count(motion, now=now), now=now)
    if institution.status != InstitutionStatus.APPLIED or motions.filter(status=Status.OPEN).exists():
        return None
    title, number = f"Admit {institution}", institution.round
    if number > 1:
        title += f" (round {number})"
    return _open(Kind.ADMIT_INSTITUTION, title, by=None, now=now, institution=institution, round=number)


@transaction.atomic
def refer_contribution(contribution_id: int, *, now: datetime) -> Motion:
    """Move a contribution that passed its checks to the board and open the motion, in one transaction."""
    contribution = contributions.refer(contribution_id, now=now)
    title = f"Approve {contribution.get_kind_display().lower()} of {contribution.institution}"
    return _open(
        Kind.APPROVE_CONTRIBUTION,
        title,
        by=None,
        now=now,
        contribution=contribution,
        institution=contribution.institution,
    )


@transaction.atomic
def propose_release(
    candidate: Candidate, *, name: str, version: str, license: License, card: str, by: User, now: datetime
) -> Release:
    """Propose to let a candidate out: the release waits, a motion opens."""
    release = releases.propose(candidate, name=name, version=version, license=license, card=card, by=by, now=now)
    _open(Kind.RELEASE_MODEL, f"Release {release} under {license.spdx_id}", by=by, now=now, release=release)
    return release


# Voting


@transaction.atomic
def cast_vote(motion: Motion, *, choice: str, reason: str, by: User, now: datetime) -> Motion:
    """Cast one final vote; the vote that settles the outcome closes the motion and carries it out."""
    motion = Motion.objects.select_for_update().get(pk=motion.pk)
    _require_eligible(motion, by)
    if motion.status != Status.OPEN or now >= motion.closes_at:
        raise VoteRefused(f"The ballot on {motion} is closed.")
    if is_moot(motion):
        raise VoteRefused(f"{motion} has become moot: its subject was taken back, returned or sent anew. Do not vote.")
    if Vote.objects.filter(motion=motion, voter=by).exists():
        raise VoteRefused("You have voted on this motion. A vote is final.")
    if choice != Vote.Choice.FOR and not reason.strip():
        raise VoteRefused("Say why in a sentence: a vote against or an abstention goes on record with its reason.")
    Vote.objects.create(
        motion=motion,
        voter=by,
        voter_institution=institutions.institutions_of(by).first(),
        subject_institution=motion.institution,
        choice=choice,
        reason=reason.strip(),
        cast_at=now,
    )
    audit.record("vote.cast", motion, by=by)  # how is on the ballot, not in the log of who did what
    return _close_if_settled(motion, now=now)


def _require_eligible(motion: Motion, user: User) -> None:
    if not board(motion.programme).filter(pk=user.pk).exists():
        of_which = f" of {motion.programme}" if motion.programme else ""
        raise NotAllowed(f"Only members of the board{of_which} vote.")
    reasons = recused(motion)
    if user.pk in reasons:
        raise NotAllowed(f"You are recused from this motion: {reasons[user.pk]}.")


@transaction.atomic
def recuse(motion: Motion, *, reason: str, by: User, now: datetime) -> Motion:
    """Step aside from a motion, before voting, with a reason."""
    motion = Motion.objects.select_for_update().get(pk=motion.pk)
    _require_eligible(motion, by)
    if motion.status != Status.OPEN or Vote.objects.filter(motion=motion, voter=by).exists():
        raise VoteRefused("You can step aside only while the ballot is open and before you vote.")
    if not reason.strip():
        raise VoteRefused("Say in a sentence which interest you declare.")
    Recusal.objects.create(motion=motion, member=by, reason=reason.strip(), declared_at=now)
    audit.record("recusal.declared", motion, by=by)
    return _close_if_settled(motion, now=now)


# Closing


def _close_if_settled(motion: Motion, *, now: datetime) -> Motion:
    result = count(motion, now=now)
    if result.result is Result.CARRIED:
        _carry_out(_close(motion, Status.CARRIED, result, now=now), now=now)
    elif result.result is Result.LOST:
        _turn_down(_close(motion, Status.LOST, result, now=now), now=now)
    elif result.result is Result.NO_QUORUM and now >= motion.closes_at:
        _close(motion, Status.LAPSED, result, now=now)
        _ask_again(motion, now=now)
    return motion


def _ask_again(motion: Motion, *, now: datetime) -> None:
    """Open the question again that lapsed without a quorum: nothing waits for ever, and nothing passes by silence."""
    subject = {"institution": motion.institution, "contribution": motion.contribution, "release": motion.release}
    _open(motion.kind, motion.title, by=None, now=now, round=motion.round, **subject)


def _close(motion: Motion, target: Status, result: Tally, *, now: datetime) -> Motion:
    name = verb(lifecycle.TRANSITIONS, Status(motion.status), target, subject=motion)
    motion.status, motion.closed_at = target, now
    motion.save(update_fields=["status", "closed_at"])
    audit.record(
        name,
        motion,
        by=None,
        votes_for=result.votes_for,
        votes_against=result.votes_against,
        abstentions=result.abstentions,
        eligible=result.eligible,
    )
    return motion


def _subject_id(motion: Motion) -> int:
    """Return the id of what the motion is about; a database constraint holds that there is one."""
    by_kind = {Kind.ADMIT_INSTITUTION: motion.institution_id, Kind.APPROVE_CONTRIBUTION: motion.contribution_id}
    subject_id = by_kind.get(Kind(motion.kind), motion.release_id)
    assert subject_id is not None
    return subject_id


def _carry_out(motion: Motion, *, now: datetime) -> None:
    subject_id = _subject_id(motion)
    match motion.kind:
        case Kind.ADMIT_INSTITUTION:
            institutions.admit(subject_id, by=None, now=now)
        case Kind.APPROVE_CONTRIBUTION:
            contributions.approve(subject_id, by=None, now=now)
        case Kind.RELEASE_MODEL:
            releases.release(subject_id, by=None, now=now)
            enqueue("jobs.publish_release", release_id=subject_id)


def _turn_down(motion: Motion, *, now: datetime) -> None:
    subject_id = _subject_id(motion)
    reasons = [vote.reason for vote in motion.votes.all() if vote.choice == Vote.Choice.AGAINST]
    reason = "The board voted against it. " + " ".join(dict.fromkeys(reasons))
    match motion.kind:
        case Kind.ADMIT_INSTITUTION:
            institutions.decline(subject_id, by=None, reason=reason, now=now)
        case Kind.APPROVE_CONTRIBUTION:
            contributions.reject(subject_id, by=None, reason=reason, now=now)
        case Kind.RELEASE_MODEL:
            releases.decline(subject_id, by=None, reason=reason, now=now)


def due(*, now: datetime) -> list[int]:
    """Return the ids of the open motions whose time has come."""
    return list(Motion.objects.filter(status=Status.OPEN, closes_at__lte=now).values_list("pk", flat=True))


@transaction.atomic
def close_due(motion_id: int, *, now: datetime) -> None:
    """Close a motion whose time has come; called by the sweep."""
    motion = Motion.objects.select_for_update().get(pk=motion_id)
    if motion.status == Status.OPEN and motion.closes_at <= now and not is_moot(motion):
        _close_if_settled(motion, now=now)


# An application that is not under review any more, or in another round; a contribution that was taken back.
_GONE = Q(contribution__status="withdrawn") | Q(kind=Kind.ADMIT_INSTITUTION) & (
    ~Q(institution__status=InstitutionStatus.APPLIED) | ~Q(round=F("institution__round"))
)


def is_moot(motion: Motion) -> bool:
    """Test if an open motion asks what nobody has to answer any more."""
    return Motion.objects.filter(_GONE, pk=motion.pk).exists()


@transaction.atomic
def close_moot(*, now: datetime) -> int:
    """Take back the open motions whose subject was withdrawn, returned or sent anew meanwhile. Return how many."""
    moot = list(Motion.objects.select_for_update(skip_locked=True, of=("self",)).filter(_GONE, status=Status.OPEN))
    for motion in moot:
        _close(motion, Status.WITHDRAWN, count(motion, now=now), now=now)
    return len(moot)
