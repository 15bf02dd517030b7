"""What a decision does: one table. Each effect runs in the transaction of the vote that settled it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import QuerySet

from contributions import services as contributions
from governance.benchmarks import services as benchmarks
from governance.board.counting import last_votes
from governance.board.models import Kind, Motion, Vote
from governance.releases import services as releases
from governance.releases.models import Release
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User
from portal.agreements import services as agreements
from portal.institutions import services as institutions
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import enqueue

# What can follow when an approved contribution is withdrawn after models have learnt from it.
CONSEQUENCES = {
    "exclude": "Leave it out of every later corpus; what was trained stays",
    "retrain": "Train the models that learnt from it again, without it",
    "retract": "Retract the releases of models that learnt from it",
}


def _admit(motion: Motion, now: datetime) -> None:
    institutions.admit(_pk(motion.institution_id), by=None, now=now)


def _decline_institution(motion: Motion, now: datetime) -> None:
    institutions.decline(_pk(motion.institution_id), by=None, reason=reasons_against(motion), now=now)


def _approve(motion: Motion, now: datetime) -> None:
    contributions.approve(_pk(motion.contribution_id), by=None, now=now)


def _reject(motion: Motion, now: datetime) -> None:
    contributions.reject(_pk(motion.contribution_id), by=None, reason=reasons_against(motion), now=now)


def _return(motion: Motion, now: datetime) -> None:
    contributions.return_for_changes(_pk(motion.contribution_id), reason=motion.reason, now=now)


def _release(motion: Motion, now: datetime) -> None:
    releases.release(_pk(motion.release_id), by=None, now=now)
    enqueue("jobs.publish_release", release_id=_pk(motion.release_id))


def _decline_release(motion: Motion, now: datetime) -> None:
    releases.decline(_pk(motion.release_id), by=None, reason=motion.reason or reasons_against(motion), now=now)


def _retract(motion: Motion, now: datetime) -> None:
    releases.retract(_pk(motion.release_id), by=None, reason=motion.proposal["reason"], now=now)


def _settle(motion: Motion, now: datetime) -> None:
    """Retract what was decided to be retracted; retraining is asked of the operators, who see the runs."""
    if motion.proposal["consequence"] == "retract":
        for pk in releases_of(motion).values_list("pk", flat=True):
            releases.retract(pk, by=None, reason=motion.proposal["reason"], now=now)
    elif motion.proposal["consequence"] == "retrain":
        notify(
            User.objects.filter(consortium_roles__role="operator", consortium_roles__ended_at=None).distinct(),
            type=Type.BALLOT,
            subject=f"The board asks to train again without {motion.contribution}",
            text="Compose a corpus without it and train; the models that learnt from it are listed on the motion.",
            path=motion.get_absolute_url(),
        )


def releases_of(motion: Motion) -> QuerySet[Release]:
    """Return the released models that learnt from the motion's contribution."""
    return Release.objects.filter(
        status="released", candidate__corpus__parts__contribution=motion.contribution_id
    ).distinct()


def _publish(motion: Motion, now: datetime) -> None:
    assert motion.agreement is not None
    wanted = motion.proposal
    agreements.publish(
        motion.agreement,
        text=wanted["text"],
        change_note=wanted["change_note"],
        is_material=wanted["is_material"],
        deletion_days=wanted.get("deletion_days") or None,  # motions of older releases do not say
        by=None,
        now=now,
    )


def _adopt(motion: Motion, now: datetime) -> None:
    benchmarks.adopt(_pk(motion.task_id), by=None, now=now)


def _seat(motion: Motion, now: datetime) -> None:
    """Give the seat; a new chair takes over from the one before, and the term that was decided from another."""
    role, ends_on = motion.proposal["role"], date.fromisoformat(motion.proposal["term_ends_on"])
    assert motion.person is not None
    if ends_on < now.date():  # a ballot lasts weeks: such a seat would end at once, and leave nobody in the chair
        return
    before = ConsortiumRole.objects.current().filter(role=role, programme=motion.programme)
    if role != ConsortiumRole.Role.CHAIR:
        before = before.filter(user=motion.person)
    for seat in before:
        accounts.end_role(seat, by=None, now=now)
    accounts.appoint(motion.person, role, programme=motion.programme, term_ends_on=ends_on, by=None, now=now)


def _nothing(motion: Motion, now: datetime) -> None:
    """A question that was turned down changes nothing."""


@dataclass(frozen=True)
class Effect:
    """What is done when a motion is carried, when it is lost, and when it is taken back or returned."""

    carried: Callable[[Motion, datetime], None]
    lost: Callable[[Motion, datetime], None] = _nothing
    returned: Callable[[Motion, datetime], None] = _nothing


EFFECTS: dict[str, Effect] = {
    Kind.ADMIT_INSTITUTION: Effect(_admit, _decline_institution),
    Kind.APPROVE_CONTRIBUTION: Effect(_approve, _reject, _return),
    Kind.RELEASE_MODEL: Effect(_release, _decline_release, _decline_release),
    Kind.RETRACT_RELEASE: Effect(_retract),
    Kind.SETTLE_WITHDRAWAL: Effect(_settle),
    Kind.PUBLISH_AGREEMENT: Effect(_publish),
    Kind.ADOPT_TASK: Effect(_adopt),
    Kind.GIVE_SEAT: Effect(_seat),
}


def reasons_against(motion: Motion) -> str:
    """Return what those who were against gave as their reasons, for whoever asked."""
    given = [vote.reason for vote in last_votes(motion) if vote.choice == Vote.Choice.AGAINST]
    chair = getattr(motion, "casting_vote", None)
    if chair is not None and chair.choice == "against":
        given.append(chair.reason)
    return " ".join(["The board voted against it.", *dict.fromkeys(given)])


def _pk(value: int | None) -> int:
    assert value is not None  # a database constraint holds that the motion names its subject
    return value
