"""What is said about a motion: among the board, with institutions that it concerns, and by who was outvoted."""

from datetime import datetime, timedelta

from django.db import transaction

from governance.board.conflicts import is_seated, require_declared, require_voter
from governance.board.counting import chairs, is_secretary, last_votes, unrecused
from governance.board.errors import NotPossibleNow, VoteRefused
from governance.board.lifecycle import Status
from governance.board.models import Comment, Decision, Kind, MinorityOpinion, Motion
from governance.releases import answers
from governance.releases.models import Release, SiteAnswer
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.live import announce
from portal.notifications.services import notify
from portal.notifications.types import Type

OPINION_DAYS = timedelta(days=7)
Audience = Comment.Audience


@transaction.atomic
def comment(motion: Motion, *, audience: str, text: str, by: User, now: datetime) -> Comment:
    """Write to the board alone or to the applicant too; the applicant's people write to both."""
    if not text.strip():
        raise VoteRefused("Write something first.")
    require_reader_of_discussion(motion, by)
    row = _write(motion, audience=Audience(audience), text=text, by=by, now=now)
    if row.audience == Audience.APPLICANT and motion.institution is not None:
        notify(
            institutions.people_acting_for(motion.institution),
            type=Type.CONTRIBUTION,
            subject=f"The board writes about {motion.subject}",
            text=row.text,
            path=applicant_path(motion),
        )
    return row


def require_reader_of_discussion(motion: Motion, user: User) -> None:
    """Refuse who has no part in the board's discussion: it is for members who declared and are not recused."""
    if is_seated(user, motion):
        require_voter(motion, user)
        require_declared(motion, user)
    elif not is_secretary(user, motion):
        raise NotAllowed("The discussion is the board's.")


@transaction.atomic
def reply(motion: Motion, *, text: str, by: User, now: datetime) -> Comment:
    """Write to the board, for the institution concerned."""
    if motion.institution is None:
        raise NotAllowed("This motion concerns no institution.")
    institutions.require_manager(by, institutions.acting_for(motion.institution))
    if not text.strip():
        raise VoteRefused("Write something first.")
    row = _write(motion, audience=Audience.APPLICANT, text=text, by=by, now=now)
    notify(
        chairs(motion).exclude(pk__in=motion.recusals.values("member")),
        type=Type.BALLOT,
        subject=f"{motion.institution} writes about {motion.audit_name}",
        text=row.text,
        path=motion.get_absolute_url(),
    )
    return row


def _write(motion: Motion, *, audience: str, text: str, by: User, now: datetime) -> Comment:
    row = Comment.objects.create(motion=motion, author=by, audience=audience, text=text.strip(), written_at=now)
    audit.record("comment.written", row, by=by, institution_id=motion.institution_id, audience=str(audience))
    announce(f"motion-{motion.pk}")
    return row


def applicant_path(motion: Motion) -> str:
    """Return the page of a motion for the institution that it concerns."""
    return f"{motion.get_absolute_url()}applicant/"


@transaction.atomic
def answer_release(
    release: Release, institution: Institution, *, answer: str, reason: str, by: User, now: datetime
) -> SiteAnswer:
    """Say for an institution what it says of a proposed release; the board is told of an objection, once."""
    objected = answers.objects_already(release, institution)
    row = answers.answer(release, institution, answer=answer, reason=reason, by=by, now=now)
    motion = release.motions.undecided().filter(kind=Kind.RELEASE_MODEL).first()
    if motion is None:  # it lapsed, and can be put again: the answer is read then
        return row
    announce(f"motion-{motion.pk}")
    if row.answer == answers.OBJECTS and not objected:
        notify(
            unrecused(motion),
            type=Type.BALLOT,
            subject=f"{institution} objects: {motion.audit_name}",
            text="The model learnt from what it contributed. The reason is on the page of the motion. An objection is "
            "no veto: the board decides, and who has voted can change the vote until the ballot closes.",
            path=motion.get_absolute_url(),
        )
    return row


def may_dissent(user: User, decision: Decision, *, now: datetime) -> bool:
    """Test if the person was outvoted and can still say why: within 7 days, once."""
    if now >= decision.decided_at + OPINION_DAYS or decision.opinions.filter(author=user).exists():
        return False
    return was_outvoted(user, decision)


def was_outvoted(user: User, decision: Decision) -> bool:
    """Test if the person's last ballot was for what the board did not decide."""
    lost = {Status.CARRIED.value: "against", Status.LOST.value: "for"}.get(decision.motion.status)
    return any(vote.voter_id == user.pk and vote.choice == lost for vote in last_votes(decision.motion))


@transaction.atomic
def dissent(decision: Decision, *, text: str, by: User, now: datetime) -> MinorityOpinion:
    """File a minority opinion; it is published beside the decision."""
    if not was_outvoted(by, decision):
        raise NotAllowed("A minority opinion is for members of the board who were outvoted.")
    if not may_dissent(by, decision, now=now):
        raise NotPossibleNow("A minority opinion is filed once, within 7 days of the decision.")
    if not text.strip():
        raise VoteRefused("Say why you disagree.")
    row = MinorityOpinion.objects.create(decision=decision, author=by, text=text.strip(), filed_at=now)
    audit.record("opinion.filed", row, by=by)
    return row
