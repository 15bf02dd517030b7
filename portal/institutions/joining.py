"""Asking to join an institution that is here already: its managers answer, not the consortium."""

from datetime import datetime

from django.core import signing
from django.db import IntegrityError, transaction
from django.urls import reverse

from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import DomainError, NotAllowed
from portal.institutions import leaving, lifecycle, services
from portal.institutions.models import Institution, JoinRequest
from portal.notifications.services import notify
from portal.notifications.types import Type

OFFER_SECONDS = 3600
_SALT = "institutions.joining"
State = JoinRequest.State


class JoinRefused(DomainError):
    """The person belongs there or has asked already, or the request was answered."""

    code = "join_refused"


def offer(institution: Institution, user: User) -> str:
    """Return a token with which this person may ask to join an institution that is not public yet."""
    return signing.dumps([institution.pk, user.pk], salt=_SALT)


def offered(token: str, user: User) -> int | None:
    """Return the id of the institution that was offered to this person within the hour, or None."""
    try:
        institution_id, user_id = signing.loads(token, salt=_SALT, max_age=OFFER_SECONDS)
    except signing.BadSignature:
        return None
    return institution_id if user_id == user.pk else None


@transaction.atomic
def ask(institution: Institution, *, role: str, message: str, by: User, now: datetime) -> JoinRequest:
    """Ask for a role; the institution's managers answer."""
    if institution.status in lifecycle.ENDED:
        raise JoinRefused(f"{institution} takes nobody in any more: {institution.get_status_display().lower()}.")
    if services.is_member(by, institution):
        raise JoinRefused(f"You belong to {institution} already. Its managers can give you another role.")
    try:
        with transaction.atomic():
            request = JoinRequest.objects.create(
                institution=institution, person=by, role=role, message=message.strip(), asked_at=now
            )
    except IntegrityError as exc:
        raise JoinRefused(f"Your request to join {institution} waits for an answer already.") from exc
    audit.record("join_request.asked", request, by=by, role=role)
    notify(
        services.people(institution, services.Role.PRINCIPAL_INVESTIGATOR, services.Role.STEWARD),
        type=Type.INVITATION,
        subject=f"Somebody asks to join {institution}",
        text=f"The wanted role: {request.get_role_display().lower()}. See who asks, then accept or decline:",
        path=reverse("institutions:people", args=[institution.slug]),
    )
    return request


def _waiting(request: JoinRequest, by: User) -> JoinRequest:
    services.require_manager(by, request.institution)
    leaving.require_there(request.institution, request.person)
    rows = JoinRequest.objects.select_for_update(of=("self",)).select_related("institution", "person")
    request = rows.get(pk=request.pk)
    if request.state != State.ASKED:
        raise JoinRefused(f"This request was answered on {request.answered_at:%d %B %Y}. Nothing was changed.")
    if request.person_id == by.pk:
        raise NotAllowed("Somebody else answers your request.")
    return request


def _answer(request: JoinRequest, state: State, *, by: User, now: datetime, reason: str = "") -> JoinRequest:
    request.state, request.answered_by, request.answered_at, request.reason = state, by, now, reason
    request.save(update_fields=["state", "answered_by", "answered_at", "reason"])
    audit.record(f"join_request.{state}", request, by=by)
    return request


@transaction.atomic
def accept(request: JoinRequest, *, role: str, by: User, now: datetime) -> JoinRequest:
    """Take the person in, with the role that the manager chooses."""
    request = _waiting(request, by)
    services.start_membership(request.institution, request.person, role, by=by, now=now)
    _tell(request, "You belong to", "Your request was accepted. What waits for you there:")
    return _answer(request, State.ACCEPTED, by=by, now=now)


@transaction.atomic
def decline(request: JoinRequest, *, reason: str, by: User, now: datetime) -> JoinRequest:
    """Say no, with a reason that the person reads."""
    request = _waiting(request, by)
    if not reason.strip():
        raise services.ReasonMissing("Say why in a sentence: the person reads it.")
    _tell(request, "Your request was declined:", f"Their reason: {plain(reason.strip())}")
    return _answer(request, State.DECLINED, by=by, now=now, reason=reason.strip())


def _tell(request: JoinRequest, subject: str, text: str) -> None:
    notify(
        [request.person],
        type=Type.INVITATION,
        subject=f"{subject} {request.institution}",
        text=text,
        path=reverse("institutions:mine"),
    )


def shares_domain(request: JoinRequest) -> bool:
    """Test if somebody of the institution has an address in the same domain: a hint for the manager, no proof."""
    domain = request.person.email.rpartition("@")[2].lower()
    return any(email.rpartition("@")[2].lower() == domain for email in _emails(request.institution))


def _emails(institution: Institution) -> list[str]:
    return list(services.people(institution).values_list("email", flat=True))
