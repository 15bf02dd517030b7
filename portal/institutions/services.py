"""
What happens to institutions; who belongs to them.

Roles and invitations change in memberships.py, requests to join in joining.py, rounds of review in reviews.py.
"""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.text import slugify

from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import DomainError, NotAllowed
from portal.institutions import countries, leaving, lifecycle, onboarding, registry, reviews
from portal.institutions.lifecycle import DeclineCode, Outcome, Status
from portal.institutions.models import Institution, Membership
from portal.institutions.vocabulary import UNKNOWABLE
from portal.lifecycle import verb
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.queue import enqueue

RESERVED_SLUGS = {"apply", "invitations", "mine", "region", "reviews"}  # addresses beside /institutions/<slug>/
Role = Membership.Role
# Who leads the work cannot also bind the institution to it: two roles that one person does not hold at once.
EXCLUSIVE = {Role.PRINCIPAL_INVESTIGATOR: Role.SIGNING_OFFICIAL, Role.SIGNING_OFFICIAL: Role.PRINCIPAL_INVESTIGATOR}


class ApplicationIncomplete(DomainError):
    """Something that an application needs is missing."""

    code = "application_incomplete"


class AlreadyHere(DomainError):
    """The institution is here already, as far as one can tell; `institution` is the other one, to be asked to join."""

    code = "institution_already_here"

    def __init__(self, message: str, *, institution: Institution | None) -> None:
        super().__init__(message)
        self.institution = institution


class RorIdTaken(AlreadyHere):
    """Another live application or member has this ROR id."""

    code = "ror_id_taken"


class NameTaken(AlreadyHere):
    """Another live application or member in the country has this name, and no ROR id tells the two apart."""

    code = "name_taken"


class RolesExclude(DomainError):
    """One person cannot be principal investigator and signing official of one institution."""

    code = "roles_exclude"


class ReasonMissing(DomainError):
    """A refusal, a return or an appeal needs a reason that can be read."""

    code = "reason_missing"


def acting_for(institution: Institution) -> Institution:
    """Return the institution whose people act today for what this one has sent: itself, or what it was merged into."""
    return institution.merged_into or institution


def why_not_member(institution: Institution, what: str) -> str:
    """Say when an institution that is no member, or none any more, can do what it drafted."""
    if institution.merged_into is not None:
        return f"{institution} is now part of {institution.merged_into}: begin there anew. The draft is kept."
    return f"{institution} can {what} once the board has admitted it. The draft is kept."


def people(institution: Institution, *roles: str) -> QuerySet[User]:
    """Return the people who hold one of `roles` (any role when none is given) in the institution today."""
    memberships = institution.memberships.current()
    if roles:
        memberships = memberships.filter(role__in=roles)
    return User.objects.filter(memberships__in=memberships, is_active=True).distinct()


def people_acting_for(institution: Institution, *roles: str) -> QuerySet[User]:
    """Return the people who act today for what the institution has sent: see acting_for()."""
    return people(acting_for(institution), *roles)


def is_member(user: User | AnonymousUser, institution: Institution, *roles: str) -> bool:
    """Test if the person holds one of `roles` (any role when none is given) in the institution today."""
    return user.is_authenticated and people(institution, *roles).filter(pk=user.pk).exists()


def manages(user: User | AnonymousUser, institution: Institution) -> bool:
    """Test if the person may change the institution's profile and people."""
    return is_member(user, institution, Role.PRINCIPAL_INVESTIGATOR, Role.STEWARD)


def institutions_of(user: User) -> QuerySet[Institution]:
    """Return the institutions in which the person holds a role today."""
    return Institution.objects.filter(memberships__in=user.memberships.current()).distinct()


def _free_slug(name: str) -> str:
    base = slugify(name)[:60] or "institution"
    taken = RESERVED_SLUGS | set(Institution.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for slug in (base, *(f"{base}-{i}" for i in range(2, 10_000))) if slug not in taken)


def _save(institution: Institution, **options: Any) -> Institution:
    """Save the row. The database decides who was first with a ROR id, also when two people apply at once."""
    try:
        with transaction.atomic():
            institution.save(**options)
    except IntegrityError as exc:
        if "one_live_institution_per_ror_id" not in str(exc):
            raise
        raise RorIdTaken(
            f"An institution with the ROR id {institution.ror_id} is here already. Ask to join it instead of applying "
            "twice.",
            institution=Institution.objects.exclude(status__in=lifecycle.ENDED)
            .filter(ror_id=institution.ror_id)
            .exclude(pk=institution.pk)
            .first(),
        ) from exc
    return institution


def _refuse_twin(profile: dict[str, Any]) -> None:
    """Raise NameTaken where the country has the name already; two who apply at once are told apart by a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"institution-name:{profile['country']}"])
    twin = find_twin(profile["name"], country=profile["country"], ror_id=profile.get("ror_id", ""))
    if twin is not None:
        raise NameTaken(
            f"{twin.name} is here already, in the same country. Ask to join it; or, if yours is another institution, "
            "say so and go on.",
            institution=twin,
        )


def find_twin(name: str, *, country: str, ror_id: str = "") -> Institution | None:
    """Return a live institution of the country with the same name, unless both have a ROR id and these differ."""
    wanted = registry.key_of(name)
    live = Institution.objects.filter(country=country).exclude(status__in=lifecycle.ENDED)
    for row in live.order_by("pk"):
        same_name = wanted in {registry.key_of(row.name), registry.key_of(row.local_name) or None}
        if same_name and not (ror_id and row.ror_id and ror_id != row.ror_id):
            return row
    return None


def require_manager(user: User, institution: Institution) -> None:
    """Raise NotAllowed unless the person may change the institution's profile and people."""
    if not manages(user, institution):
        raise NotAllowed(f"Only a principal investigator or data steward of {institution} can do this.")


@transaction.atomic
def start_application(*, by: User, now: datetime, role: str, is_another: bool = False, **profile: Any) -> Institution:
    """
    Begin an application as a draft; whoever begins it gets `role` in the institution.

    Args:
        is_another: the applicant says that the institution of the same name in the country is another one.
    """
    if not is_another:
        _refuse_twin(profile)
    institution = _save(
        Institution(
            slug=_free_slug(profile["name"]),
            subregion=countries.subregion_of(profile["country"]).code,
            created_at=now,
            status_since=now,
            **profile,
        ),
        force_insert=True,
    )
    audit.record("institution.drafted", institution, by=by, country=institution.country)
    start_membership(institution, by, role, by=by, now=now)
    return institution


@transaction.atomic
def change_profile(
    institution: Institution, *, by: User, marks: dict[str, bool] | None = None, **profile: Any
) -> Institution:
    """
    Change fields of the profile, except while it is under review; the region follows the country.

    Only the fields given are written: of two people who edit at once, the last one wins field by field. Before the
    application is sent nothing is audited, since the round of review keeps the answers as they were sent.

    Args:
        marks: fields ticked (or not) as "not known yet"; an answer wins over a tick.
    """
    require_manager(by, institution)
    institution = Institution.objects.select_for_update().get(pk=institution.pk)
    if not lifecycle.is_editable(Status(institution.status)):
        raise NotAllowed(f"The profile of {institution} is fixed: {institution.get_status_display().lower()}.")
    changed = sorted(field for field, value in profile.items() if getattr(institution, field) != value)
    for field, value in profile.items():
        setattr(institution, field, value)
    ticked = {name for name in institution.unknown if (marks or {}).get(name, True)}
    ticked |= {name for name, on in (marks or {}).items() if on and name in UNKNOWABLE}
    institution.unknown = sorted(name for name in ticked if getattr(institution, name) in (None, ""))
    institution.subregion = countries.subregion_of(institution.country).code
    _save(institution, update_fields=[*profile, "unknown", "subregion"])
    if changed and institution.status == Status.MEMBER:
        audit.record("institution.changed", institution, by=by, fields=changed)
    return institution


def _move(
    institution_id: int,
    target: Status,
    *,
    by: User | None,
    now: datetime,
    facts: dict[str, Any] | None = None,
    **changes: Any,
) -> Institution:
    """Lock the row, check the move, save it, end the round of review, write the audit event: all or nothing."""
    institution = Institution.objects.select_for_update().get(pk=institution_id)
    before = Status(institution.status)
    name = verb(lifecycle.TRANSITIONS, before, target, subject=institution)
    institution.status, institution.status_since = target, now
    for field, value in changes.items():
        setattr(institution, field, value)
    _save(institution, update_fields=["status", "status_since", *changes])
    if before == Status.APPLIED:
        note, code = changes.get("decision_reason", ""), changes.get("decision_code", "")
        reviews.end(institution, lifecycle.OUTCOMES[target], now=now, code=code, note=note)
    audit.record(name, institution, by=by, before=before, **(changes if facts is None else facts))
    return institution


# The case


def _require_investigator(institution: Institution) -> None:
    if not people(institution, Role.PRINCIPAL_INVESTIGATOR).exists():
        raise ApplicationIncomplete("Name a principal investigator first: add the role or invite the person.")


@transaction.atomic
def apply(institution: Institution, *, by: User, now: datetime) -> Institution:
    """Send the application, for the first time or after changes: a round of review begins and the board is asked."""
    require_manager(by, institution)
    _require_investigator(institution)
    institution = Institution.objects.select_for_update().get(pk=institution.pk)
    if institution.status == Status.DECLINED:
        raise ApplicationIncomplete(f"{institution} was declined. Reopen the application or appeal first.")
    institution = _move(institution.pk, Status.APPLIED, by=by, now=now, round=institution.round + 1)
    reviews.begin(institution, by=by, now=now)
    enqueue("jobs.refer_institution", institution_id=institution.pk)
    return institution


@transaction.atomic
def return_for_changes(
    institution: Institution, *, comments: dict[str, str], note: str, by: User, now: datetime
) -> Institution:
    """
    Give the application back with what to change; the open ballot is moot.

    Args:
        comments: what is asked of single fields, by name of the field; may be empty where there is a note.
    """
    reviews.require_reviewer(by, institution)
    comments = {field: text.strip() for field, text in comments.items() if text.strip()}
    if not comments and not note.strip():
        raise reviews.CommentsMissing("Say what to change: write a comment beside a field, or a note.")
    institution = _move(institution.pk, Status.RETURNED, by=by, now=now)
    review = reviews.latest(institution)
    assert review is not None  # _move ended it
    reviews.annotate(review, note=note.strip(), comments=comments, by=by, now=now)
    tell(institution, "needs changes", "The reviewer asks for changes; each stands beside its field.", url_name="edit")
    return institution


@transaction.atomic
def admit(institution_id: int, *, by: User | None, now: datetime) -> Institution:
    """Make the applicant a member, as the board decided."""
    institution = _move(institution_id, Status.MEMBER, by=by, now=now)
    tell(institution, "is now a member", "The board admitted it. Next: your signing official signs the agreement.")
    return institution


@transaction.atomic
def decline(
    institution_id: int, *, by: User | None, reason: str, now: datetime, code: str = DeclineCode.BOARD_VOTE
) -> Institution:
    """Decline the application, always with a reason code and a sentence."""
    if not reason.strip():
        raise ReasonMissing("Say why in a sentence: the applicants read it and may appeal.")
    institution = _move(
        institution_id, Status.DECLINED, by=by, now=now, decision_code=DeclineCode(code).value, decision_reason=reason
    )
    why = f"{DeclineCode(code).label}. {plain(reason)}"
    tell(institution, "was not admitted", f"{why} You can fix it and ask again, or appeal.")
    return institution


@transaction.atomic
def decline_formally(institution: Institution, *, code: str, reason: str, by: User, now: datetime) -> Institution:
    """Decline on formal grounds, without the board; on an appeal only the board decides."""
    reviews.require_reviewer(by, institution)
    if code == DeclineCode.BOARD_VOTE:
        raise NotAllowed("Only a vote of the board gives this reason. Choose the one that fits.")
    review = reviews.current(institution)
    if review is not None and review.appeal_of_id is not None:
        raise NotAllowed("This is an appeal: only the vote of the board decides it.")
    return decline(institution.pk, by=by, reason=reason, now=now, code=code)


@transaction.atomic
def reopen(institution: Institution, *, by: User, now: datetime) -> Institution:
    """Make a declined application a draft again, to fix it and ask again."""
    require_manager(by, institution)
    return _move(institution.pk, Status.DRAFT, by=by, now=now)


@transaction.atomic
def appeal(institution: Institution, *, grounds: str, by: User, now: datetime) -> Institution:
    """Ask the board to look again at a decision, with grounds; once per decision, and not against an appeal's own."""
    require_manager(by, institution)
    _require_investigator(institution)
    institution = Institution.objects.select_for_update().get(pk=institution.pk)
    decided = reviews.latest(institution)
    if not grounds.strip():
        raise ReasonMissing("Say on what grounds you appeal: the board reads them beside its first decision.")
    if decided is None or decided.outcome != Outcome.DECLINED:
        raise NotAllowed(f"There is no decision on {institution} to appeal against.")
    if decided.appeal_of_id is not None:
        raise NotAllowed("The board has decided on the appeal, and its decision stands. You can fix it and ask again.")
    institution = _move(institution.pk, Status.APPLIED, by=by, now=now, round=institution.round + 1)
    reviews.begin(institution, by=by, now=now, appeal_of=decided, grounds=grounds.strip())
    enqueue("jobs.refer_institution", institution_id=institution.pk)
    return institution


@transaction.atomic
def withdraw(institution: Institution, *, by: User, now: datetime) -> Institution:
    """Take the application back."""
    require_manager(by, institution)
    return _move(institution.pk, Status.WITHDRAWN, by=by, now=now)


def retire(institution_id: int, *, into: Institution, by: User, now: datetime) -> Institution:
    """Make a member an alias of another; merging.py does the rest."""
    institution = Institution.objects.get(pk=institution_id)
    facts = {"ror_id": institution.ror_id, "into": into.pk}
    return _move(institution_id, Status.MERGED, by=by, now=now, facts=facts, merged_into=into, ror_id="")


def tell(institution: Institution, what: str, text: str, *, url_name: str = "onboarding") -> None:
    """Tell the institution's people, with how far they are: the same count as on the page."""
    done, total = onboarding.progress(institution)
    notify(
        people(institution),
        type=Type.APPLICATION,
        subject=f"{institution} {what}",
        text=f"{text} {done} of {total} steps are done.",
        path=reverse(f"institutions:{url_name}", args=[institution.slug]),
    )


def require_compatible(institution: Institution, user: User, role: str) -> None:
    """Raise RolesExclude where the person holds the role that excludes this one."""
    other = EXCLUSIVE.get(Role(role))
    if other and is_member(user, institution, other):
        raise RolesExclude(
            f"{user} is {other.label.lower()} of {institution} and cannot also be its {Role(role).label.lower()}: the "
            "signature of the official must be another person's. End the one role first, or choose somebody else."
        )


def start_membership(institution: Institution, user: User, role: str, *, by: User, now: datetime) -> Membership:
    """Give a person a role; a role that the person holds already stays as it is. The caller has authorised it."""
    leaving.require_there(institution, user)
    require_compatible(institution, user, role)
    membership, created = Membership.objects.get_or_create(
        user=user, institution=institution, role=role, ended_at=None, defaults={"started_at": now}
    )
    if created:
        audit.record("membership.started", membership, by=by, role=role)
    return membership
