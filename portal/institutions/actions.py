"""What a person can do with an institution now: the buttons of its pages and the `available_actions` of the API."""

from collections.abc import Collection, Iterator
from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.urls import reverse

from portal.accounts.models import User
from portal.accounts.services import has_role
from portal.actions import Action
from portal.errors import NotAllowed
from portal.institutions import lifecycle, reviews, services
from portal.institutions.lifecycle import Outcome, Status
from portal.institutions.models import Institution, Invitation, JoinRequest, Membership

SENDABLE = {Status.DRAFT, Status.RETURNED}
UNDER_WAY = {Status.DRAFT, Status.APPLIED, Status.RETURNED}


def available(institution: Institution, user: User | AnonymousUser, *, now: datetime) -> list[Action]:
    """Return what the person may do with the institution; a step that waits for something is there, blocked."""
    if not user.is_authenticated:
        return []
    return [*_of_manager(institution, user), *_of_consortium(institution, user), *_of_stranger(institution, user)]


def named(actions: list[Action]) -> dict[str, Action]:
    """Return the actions by name, for templates."""
    return {action.name: action for action in actions}


def _action(
    institution: Institution, name: str, label: str, *, reason: str = "", code: str = "", method: str = "get"
) -> Action:
    url = reverse(f"institutions:{name}", args=[institution.slug])
    return Action(name, label, not reason, reason, url, method, code if reason else "")


def _of_manager(institution: Institution, user: User) -> Iterator[Action]:
    status = Status(institution.status)
    if not services.manages(user, institution):
        return
    if lifecycle.is_editable(status):
        yield _action(institution, "edit", "Change the profile")
    if status in SENDABLE:
        yield _send(institution)
    if status == Status.DECLINED:
        yield _action(institution, "reopen", "Fix it and ask again")
        yield _appeal(institution)
    if status not in lifecycle.ENDED:
        yield _action(institution, "people", "Invite people")
        yield _action(institution, "pathway", "Choose what you contribute")
    if status in UNDER_WAY:
        yield _action(institution, "withdraw", "Withdraw the application")


def _send(institution: Institution) -> Action:
    led = services.people(institution, services.Role.PRINCIPAL_INVESTIGATOR).exists()
    reason = "" if led else "An application needs a principal investigator, and nobody has that role yet."
    return _action(
        institution,
        "submit",
        "Send the application",
        reason=reason,
        code=services.ApplicationIncomplete.code,
        method="post",
    )


def _appeal(institution: Institution) -> Action:
    decided = reviews.latest(institution)
    final = decided is not None and decided.outcome == Outcome.DECLINED and decided.appeal_of_id is not None
    reason = "The board has decided on the appeal, and its decision stands." if final else ""
    return _action(institution, "appeal", "Appeal", reason=reason, code=NotAllowed.code)


def _of_consortium(institution: Institution, user: User) -> Iterator[Action]:
    if institution.status == Status.APPLIED and reviews.may_review(user, institution):
        yield Action("return", "Return for changes", True, url=reverse("institutions:case", args=[institution.slug]))
        yield _decline(institution)
    if institution.status == Status.MEMBER and has_role(user, "operator"):
        yield _action(institution, "merge", "Merge into another member")


def _decline(institution: Institution) -> Action:
    review = reviews.current(institution)
    is_appeal = review is not None and review.appeal_of_id is not None
    reason = "This is an appeal: only the vote of the board decides it." if is_appeal else ""
    return _action(institution, "decline", "Decline on formal grounds", reason=reason, code=NotAllowed.code)


def _of_stranger(institution: Institution, user: User) -> Iterator[Action]:
    if institution.status == Status.MEMBER and not services.is_member(user, institution):
        waits = institution.join_requests.filter(person=user, state="asked").exists()
        reason = "Your request waits for an answer of its managers." if waits else ""
        yield _action(institution, "ask", "Ask to join", reason=reason, code="join_refused")


# What belongs to the institution


def of_invitation(invitation: Invitation) -> list[Action]:
    """Return what a manager may do with an invitation; who asks is one, or would not have it."""
    ended = invitation.accepted_at is not None or invitation.withdrawn_at is not None
    used = "It was accepted. End the membership instead." if invitation.accepted_at else ""
    over = "It has ended. Send a new one." if ended else ""
    return [
        _row("resend", "Send it again", "api:resend_invitation", invitation.pk, invitation.institution, over),
        _row("withdraw", "Take it back", "api:withdraw_invitation", invitation.pk, invitation.institution, used),
    ]


def _row(name: str, label: str, route: str, pk: int, institution: Institution, reason: str, code: str = "") -> Action:
    url = reverse(route, args=[institution.slug, pk])
    return Action(name, label, not reason, reason, url, "post", (code or "invitation_invalid") if reason else "")


def of_join_request(request: JoinRequest, user: User, *, manages: bool) -> list[Action]:
    """Return what a manager may do with a request to join."""
    if not manages:
        return []
    reason, code = "", ""
    if request.state != JoinRequest.State.ASKED:
        reason, code = "It was answered.", "join_refused"
    elif request.person_id == user.pk:
        reason, code = "Somebody else answers your request.", NotAllowed.code
    return [
        _row("accept", "Accept", "api:accept_join_request", request.pk, request.institution, reason, code),
        _row("decline", "Decline", "api:decline_join_request", request.pk, request.institution, reason, code),
    ]


def of_membership(membership: Membership, user: User, *, manages: bool, managing: Collection[int]) -> list[Action]:
    """
    Return what the person may do with a role.

    Args:
        managing: the memberships that manage the institution today; the last of them stays.
    """
    if membership.ended_at is not None or not (manages or membership.user_id == user.pk):
        return []
    is_last = membership.pk in managing and len(managing) == 1
    reason = "Nobody else manages the institution. Give somebody else that role first." if is_last else ""
    institution = membership.institution
    return [_row("end", "End the role", "api:end_role", membership.pk, institution, reason, NotAllowed.code)]
