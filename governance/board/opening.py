"""Bringing questions before the board: by themselves, and by proposal."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from django.db import IntegrityError, transaction

from contributions import services as contributions
from contributions.models import Contribution
from governance.benchmarks.models import Task
from governance.board import closing, reviews
from governance.board.counting import is_secretary
from governance.board.effects import CONSEQUENCES
from governance.board.errors import NotPossibleNow, ProposalInvalid
from governance.board.lifecycle import Status
from governance.board.models import SUBJECT_FIELDS, Kind, Motion
from governance.board.moves import locked, move, open_ballot
from governance.board.rules import copied, rule_for
from governance.releases import services as releases
from governance.releases.models import Candidate, License, Release
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User
from portal.agreements import services as agreements
from portal.agreements.models import Agreement
from portal.agreements.rendering import normalised, variables_of
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution
from portal.programmes.models import Programme


def _open(
    kind: str, title: str, *, programme: Programme | None, by: User | None, now: datetime, **subject: Any
) -> Motion:
    """Put a question before the board: its reviewers first where the rule asks for them, else its ballot."""
    rule = copied(rule_for(kind, programme), programme)
    try:
        with transaction.atomic():
            motion = Motion.objects.create(
                kind=kind,
                title=title[:300],
                programme=programme,
                status=Status.REVIEWING,
                opened_at=now,
                opened_by=by,
                **rule,
                **subject,
            )
    except IntegrityError:  # somebody asked the same at this moment
        _require_no_twin(kind, **{name: subject[name] for name in SUBJECT_FIELDS if name in subject})
        raise
    if motion.reviewers:
        audit.record("motion.opened", motion, by=by, rule=rule)
        reviews.begin(motion, now=now)
        return motion
    motion.status = Status.OPEN
    audit.record("motion.opened", motion, by=by, rule=rule)
    return open_ballot(motion, now=now)


@transaction.atomic
def refer_institution(institution_id: int, *, now: datetime) -> Motion | None:
    """
    Put an application before the board; None when this round of it was there already or it does not wait.

    A ballot on an earlier round is taken back: who sent the application again changed it, or appeals. A round that
    lapsed is put again only by a person.
    """
    motions = Motion.objects.filter(institution=institution_id, kind=Kind.ADMIT_INSTITUTION)
    # The motion first and then its subject, as a vote locks them: the other way round the two end each other. `no_key`
    # keeps out who changes the application, and nobody whose row names the institution, as a ballot does.
    undecided = list(motions.undecided().select_for_update(of=("self",)))
    institution = Institution.objects.select_for_update(no_key=True).get(pk=institution_id)
    for motion in undecided:
        if closing.is_moot(motion):
            move(motion, Status.WITHDRAWN, by=None, now=now)
    this_round = motions.filter(round=institution.round).exclude(status=Status.WITHDRAWN)
    if institution.status != InstitutionStatus.APPLIED or this_round.exists():
        return None
    title, number = f"Admit {institution}", institution.round
    if number > 1:
        title += f" (round {number})"
    return _open(Kind.ADMIT_INSTITUTION, title, programme=None, by=None, now=now, institution=institution, round=number)


@transaction.atomic
def refer_contribution(contribution_id: int, *, now: datetime) -> Motion:
    """Move a contribution that passed its checks to the board and open the motion, in one transaction."""
    contribution = contributions.refer(contribution_id, now=now)
    return _open(
        Kind.APPROVE_CONTRIBUTION,
        f"Approve {contribution.get_kind_display().lower()} of {contribution.institution}",
        programme=contribution.programme,
        by=None,
        now=now,
        contribution=contribution,
        institution=contribution.institution,
    )


def may_put_again(motion: Motion) -> bool:
    """Test if a motion lapsed, what it asks still waits, and nobody has asked it again."""
    later = Motion.objects.exclude(status=Status.WITHDRAWN).filter(  # what was taken back asks nothing any more
        kind=motion.kind, pk__gt=motion.pk, **{f"{name}_id": getattr(motion, f"{name}_id") for name in SUBJECT_FIELDS}
    )
    return motion.status == Status.LAPSED and not closing.is_moot(motion) and not later.exists()


@transaction.atomic
def put_again(motion: Motion, *, by: User, now: datetime) -> Motion:
    """Ask the question of a lapsed motion again."""
    if not is_secretary(by, motion):
        raise NotAllowed("Only the chair or an operator puts a motion again.")
    motion = locked(motion)  # of two who press at once the second finds the motion of the first
    if not may_put_again(motion):
        raise NotPossibleNow("Only what lapsed without a quorum, still waits and was not put again can be put again.")
    subject = {name: getattr(motion, name) for name in SUBJECT_FIELDS}
    return _open(
        motion.kind,
        motion.title,
        programme=motion.programme,
        by=by,
        now=now,
        round=motion.round,
        proposal=motion.proposal,
        **subject,
    )


# Proposals


def may_propose(user: User, programme: Programme | None) -> bool:
    """Test if the person may ask the board of a programme (None: of them all): its members and operators."""
    return accounts.has_role(user, "operator") or accounts.seated(programme).filter(pk=user.pk).exists()


def _require_proposer(user: User, programme: Programme | None) -> None:
    if not may_propose(user, programme):
        raise NotAllowed("Only members of the board and operators propose a motion.")


def _require_no_twin(kind: str, **subject: Any) -> None:
    twin = Motion.objects.undecided().filter(kind=kind, **subject).first()
    if twin is not None:
        raise ProposalInvalid(f"{twin} asks this already.", next_url=twin.get_absolute_url())


@transaction.atomic
def propose_release(
    candidate: Candidate, *, name: str, version: str, license: License, card: str, by: User, now: datetime
) -> Release:
    """Propose to let a candidate out: the release waits, a motion opens."""
    release = releases.propose(candidate, name=name, version=version, license=license, card=card, by=by, now=now)
    title = f"Release {release} under {license.spdx_id}"
    _open(Kind.RELEASE_MODEL, title, programme=candidate.programme, by=by, now=now, release=release)
    return release


@transaction.atomic
def propose_retraction(release: Release, *, reason: str, by: User, now: datetime) -> Motion:
    """Propose to retract a release: downloads stop, its page becomes a tombstone with the reason."""
    programme = release.candidate.programme
    _require_proposer(by, programme)
    _require_no_twin(Kind.RETRACT_RELEASE, release=release)
    if release.status != "released":
        raise ProposalInvalid(f"{release} is {release.get_status_display().lower()}.")
    title = f"Retract {release}"
    return _open(
        Kind.RETRACT_RELEASE, title, programme=programme, by=by, now=now, release=release, proposal={"reason": reason}
    )


@transaction.atomic
def propose_settlement(contribution: Contribution, *, consequence: str, reason: str, by: User, now: datetime) -> Motion:
    """Propose what follows from the withdrawal of a contribution that models have learnt from."""
    _require_proposer(by, contribution.programme)
    _require_no_twin(Kind.SETTLE_WITHDRAWAL, contribution=contribution)
    if contribution.status != "withdrawn" or consequence not in CONSEQUENCES:
        raise ProposalInvalid("Only for a withdrawn contribution, and one of the consequences listed.")
    return _open(
        Kind.SETTLE_WITHDRAWAL,
        # Everybody reads it in the register, and a title may hold the name of who asked not to be named.
        f"After the withdrawal of C-{contribution.pk}: {CONSEQUENCES[consequence].lower()}",
        programme=contribution.programme,
        by=by,
        now=now,
        contribution=contribution,
        institution=contribution.institution,
        proposal={"consequence": consequence, "reason": reason},
    )


@transaction.atomic
def propose_version(
    agreement: Agreement,
    *,
    text: str,
    change_note: str,
    is_material: bool,
    deletion_days: int = 0,
    by: User,
    now: datetime,
) -> Motion:
    """
    Propose a new version of an agreement; `deletion_days` is 0 where it does not say so.

    Raises:
        TemplateBroken: the text's variables cannot be filled in.
    """
    _require_proposer(by, agreement.programme)
    _require_no_twin(Kind.PUBLISH_AGREEMENT, agreement=agreement)
    text = normalised(text)
    variables_of(text)
    newest = agreements.newest_of(agreement)
    if newest is not None and newest.text == text:
        raise ProposalInvalid(f"This is the text of version {newest.version}.")
    number = newest.version + 1 if newest else 1
    return _open(
        Kind.PUBLISH_AGREEMENT,
        f"Publish version {number} of the {agreement.title}",
        programme=agreement.programme,
        by=by,
        now=now,
        agreement=agreement,
        proposal={
            "text": text,
            "change_note": change_note,
            "is_material": is_material,
            "deletion_days": deletion_days,
        },
    )


@transaction.atomic
def propose_task(task: Task, *, reason: str, by: User, now: datetime) -> Motion:
    """Propose to adopt a registered task into the benchmark."""
    _require_proposer(by, task.programme)
    _require_no_twin(Kind.ADOPT_TASK, task=task)
    if task.adopted_at is not None:
        raise ProposalInvalid(f"{task} was adopted already.")
    title = f"Adopt the benchmark task {task}"
    return _open(
        Kind.ADOPT_TASK, title, programme=task.programme, by=by, now=now, task=task, proposal={"reason": reason}
    )


@transaction.atomic
def propose_seat(
    person: User, *, role: str, programme: Programme | None, term_ends_on: date, reason: str, by: User, now: datetime
) -> Motion:
    """Propose to give a person a seat on the board, for a term."""
    _require_proposer(by, programme)
    _require_no_twin(Kind.GIVE_SEAT, person=person)
    held = ConsortiumRole.objects.current().filter(user=person, role=role, programme=programme)
    if role not in accounts.SEATED or held.exists() or not person.is_active or person.is_superuser:
        raise ProposalInvalid("The person holds this seat already, or cannot hold one.")
    if term_ends_on <= now.date():
        raise ProposalInvalid("The term must end after today.")
    words = "the chair" if role == "chair" else "a seat"
    return _open(
        Kind.GIVE_SEAT,
        f"Give {words} on the board{f' of {programme}' if programme else ''}",
        programme=programme,
        by=by,
        now=now,
        person=person,
        proposal={"role": role, "term_ends_on": term_ends_on.isoformat(), "reason": reason},
    )


def proposable_programmes(user: User) -> Sequence[Programme]:
    """Return the programmes whose board the person may ask."""
    return [row for row in Programme.objects.order_by("name") if may_propose(user, row)]
