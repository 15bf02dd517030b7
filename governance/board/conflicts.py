"""Conflicts of interest: the register, recusal by rule and by own decision, the declaration before a case opens."""

from datetime import date, datetime

from dateutil.relativedelta import relativedelta
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from governance.board.counting import electorate
from governance.board.errors import AlreadyDeclared, NotDeclared, VoteRefused
from governance.board.lifecycle import Status
from governance.board.models import Declaration, Interest, Motion, Recusal
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.agreements.models import Party, Signature
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership
from portal.live import announce

INTEREST_MONTHS = 36  # ICMJE disclosure form (2021): "time frame: past 36 months"
Basis = Recusal.Basis
Found = tuple[Recusal.Basis, str]


def is_seated(user: User, motion: Motion) -> bool:
    """Test if the person has a seat for the question, recused or not. Being a superuser does not help."""
    return electorate(motion).filter(pk=user.pk).exists()


def recused(motion: Motion) -> dict[int, str]:
    """Return who does not vote and why, by user id."""
    return {row.member_id: row.reason for row in motion.recusals.all()}


def has_declared(user: User, motion: Motion) -> bool:
    """Test if the member answered the question about interests, so that the case may open."""
    return motion.declarations.filter(member=user).exists()


def can_vote(user: User, motion: Motion) -> bool:
    """Test if the person holds a seat and is not recused."""
    return is_seated(user, motion) and not motion.recusals.filter(member=user).exists()


def conflicts(motion: Motion) -> dict[int, Found]:
    """Return which members of the electorate a rule recuses, and why, by user id."""
    seats = set(electorate(motion).values_list("pk", flat=True))
    found: dict[int, Found] = {}
    for rule in (_interested, _cosigners, _of_institution, _concerned):  # the last one found is the one told
        found |= {pk: why for pk, why in rule(motion).items() if pk in seats}
    return found


def _of_institution(motion: Motion) -> dict[int, Found]:
    if motion.institution is None:
        return {}
    why = (Basis.INSTITUTION, f"belongs to {motion.institution}")
    people = institutions.people_acting_for(motion.institution)
    return dict.fromkeys(people.values_list("pk", flat=True), why)


def _concerned(motion: Motion) -> dict[int, Found]:
    return {motion.person_id: (Basis.PERSON, "is the person concerned")} if motion.person_id else {}


def _cosigners(motion: Motion) -> dict[int, Found]:
    """Who made or sent the contribution, or signed its institution's agreement for it, whatever they do today."""
    contribution = motion.contribution
    if contribution is None:
        return {}
    signed = Signature.objects.filter(
        ~Q(role=Party.CONSORTIUM),
        request__institution=contribution.institution,
        request__agreement__programme=contribution.programme,
    )
    people = {contribution.created_by_id, contribution.submitted_by_id, *signed.values_list("signer", flat=True)}
    why = (Basis.COSIGNED, f"made, sent or signed for {contribution}")
    return {pk: why for pk in people if pk is not None}


def _interested(motion: Motion) -> dict[int, Found]:
    if motion.institution is None:
        return {}
    since = (motion.opened_at - relativedelta(months=INTEREST_MONTHS)).date()
    rows = interests_within(since).filter(institution__in=Institution.objects.one_with(motion.institution))
    return {row.member_id: (Basis.INTEREST, f"declared an interest: {row}") for row in rows}


def interests_within(since: date) -> QuerySet[Interest]:
    """Return the interests that last, or ended on or after a day."""
    return Interest.objects.filter(Q(ended_on__isnull=True) | Q(ended_on__gte=since)).select_related("institution")


@transaction.atomic
def sync_recusals(motion: Motion, *, now: datetime) -> None:
    """Write the recusals that the rules find and are not on record yet. Recusals are never taken back."""
    known = set(motion.recusals.values_list("member", flat=True))
    for pk, (basis, reason) in sorted(conflicts(motion).items()):
        if pk not in known:
            row = Recusal.objects.create(motion=motion, member_id=pk, basis=basis, reason=reason, declared_at=now)
            audit.record("recusal.found", row, by=None, institution_id=motion.institution_id, basis=basis.value)


def unrecused() -> list[Motion]:
    """Return the undecided motions about an institution to which a member of a board belongs and is not recused yet."""
    belonging = Membership.objects.current().filter(
        user__consortium_roles__role__in=accounts.SEATED, user__consortium_roles__ended_at=None
    )
    pairs = set(belonging.values_list("institution", "user"))
    acting = Coalesce("institution__merged_into", "institution")  # nobody belongs to what was merged
    rows = Motion.objects.undecided().annotate(acting=acting)
    found = list(rows.filter(acting__in={institution for institution, _ in pairs}))
    known = set(Recusal.objects.filter(motion__in=found).values_list("motion", "member"))
    return [
        motion
        for motion in found
        if any((motion.pk, user) not in known for institution, user in pairs if institution == motion.acting)
    ]


def require_voter(motion: Motion, user: User) -> None:
    """
    Refuse who has no vote on this motion.

    Raises:
        NotAllowed: no seat, or recused.
    """
    if not is_seated(user, motion):
        of_which = f" of {motion.programme}" if motion.electorate == "programme" else ""
        raise NotAllowed(f"Only members of the board{of_which} vote.")
    reasons = recused(motion)
    if user.pk in reasons:
        raise NotAllowed(f"You are recused from this motion: {reasons[user.pk]}.")


def require_declared(motion: Motion, user: User) -> None:
    """Refuse to go on before the question about interests is answered."""
    if not has_declared(user, motion):
        raise NotDeclared(
            "First say whether you have an interest in the outcome: the case opens then.",
            next_url=f"{motion.get_absolute_url()}declare/",
        )


@transaction.atomic
def declare(motion: Motion, *, answer: str, note: str = "", by: User, now: datetime) -> Declaration:
    """Answer the question about interests, which opens the case. It is asked once; a later interest is a recusal."""
    motion = Motion.objects.select_for_update(of=("self",)).get(pk=motion.pk)
    sync_recusals(motion, now=now)
    require_voter(motion, by)
    if has_declared(by, motion):
        raise AlreadyDeclared("You have answered already. If something has changed, step aside from the motion.")
    if answer == Declaration.Answer.STAY and not note.strip():
        raise VoteRefused("Say in a sentence which interest you declare.")
    row = Declaration.objects.create(motion=motion, member=by, answer=answer, note=note.strip(), declared_at=now)
    audit.record("declaration.made", row, by=by, institution_id=motion.institution_id, answer=answer)
    return row


@transaction.atomic
def step_aside(motion: Motion, *, reason: str, by: User, now: datetime) -> Recusal:
    """Step aside while nothing is decided, with a reason. A ballot that was cast does not count any more."""
    motion = Motion.objects.select_for_update(of=("self",)).get(pk=motion.pk)
    require_voter(motion, by)
    if motion.status not in {Status.REVIEWING, Status.OPEN}:
        raise VoteRefused("You can step aside only while nothing is decided.")
    if not reason.strip():
        raise VoteRefused("Say in a sentence which interest you declare.")
    row = Recusal.objects.create(motion=motion, member=by, reason=reason.strip(), declared_at=now)
    audit.record("recusal.declared", motion, by=by)
    announce(f"motion-{motion.pk}")
    return row


# The register


@transaction.atomic
def register_interest(
    *, nature: str, institution: Institution | None, organisation: str = "", note: str, by: User, now: datetime
) -> Interest:
    """Enter an interest in the public register; open motions about the institution are without this member."""
    concerned = Institution.objects.one_with(institution) if institution else Institution.objects.none()
    open_cases = Motion.objects.undecided().filter(institution__in=concerned).order_by("pk")
    # The motions before the institution that the new row names, as a ballot locks them: else the two end each other.
    motions = list(open_cases.select_for_update(of=("self",)))
    row = Interest.objects.create(
        member=by, nature=nature, institution=institution, organisation=organisation, note=note, declared_at=now
    )
    audit.record("interest.registered", row, by=by, nature=nature)
    for motion in motions:
        sync_recusals(motion, now=now)
    return row


@transaction.atomic
def end_interest(interest: Interest, *, ended_on: date, by: User, now: datetime) -> Interest:
    """Say since when an interest has ended. It stays in the register and recuses for 36 months more."""
    if interest.member_id != by.pk:
        raise NotAllowed("Only who declared an interest says that it has ended.")
    if ended_on > now.date() or interest.ended_on is not None:
        raise VoteRefused("Give the day on which it ended; it is today or earlier, and is given once.")
    interest.ended_on = ended_on
    interest.save(update_fields=["ended_on"])
    audit.record("interest.ended", interest, by=by, ended_on=ended_on.isoformat())
    return interest


def hits_for(user: User, motion: Motion) -> list[str]:
    """Return what the member should think of before answering: own declared interests, whoever they are with."""
    since = (motion.opened_at - relativedelta(months=INTEREST_MONTHS)).date()
    return [
        f"{row.get_nature_display()}: {row.institution or row.organisation}"
        for row in interests_within(since).filter(member=user).order_by("pk")
    ]
