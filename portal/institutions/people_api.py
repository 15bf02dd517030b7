"""API: people of an institution, invitations, requests to join."""

from typing import Any

from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts import services as accounts
from portal.accounts.requests import person_of
from portal.institutions import joining, memberships, services
from portal.institutions.api_access import managed, with_file
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Invitation, JoinRequest, Membership
from portal.institutions.people_serializers import (
    AcceptInvitationSerializer,
    AcceptRequestSerializer,
    AskSerializer,
    InvitationSerializer,
    JoinRequestSerializer,
    MembershipSerializer,
    NewInvitationSerializer,
    NewRoleSerializer,
    RefusalSerializer,
)
from portal.openapi import operation, page_of, valid
from portal.paging import BEFORE, page

GROUP = "People of an institution"


def _seen_by(request: Request, institution: Institution) -> dict[str, Any]:
    """Return what the actions of a role depend on, asked once for a whole list."""
    managing = institution.memberships.current().filter(role__in=memberships.MANAGERS)
    return {
        "user": request.user,
        "manages": services.manages(request.user, institution),
        "managing": list(managing.values_list("pk", flat=True)[:2]),
    }


def _role(request: Request, membership: Membership, status: int = 200) -> Response:
    context = _seen_by(request, membership.institution)
    return Response(MembershipSerializer(membership, context=context).data, status=status)


@operation(
    "GET",
    "list_people",
    "List who holds which role, past roles too, newest first.",
    group=GROUP,
    answers=page_of(MembershipSerializer),
    query=[BEFORE],
)
@operation(
    "POST",
    "add_role",
    "Give somebody of the institution one more role.",
    group=GROUP,
    takes=NewRoleSerializer,
    answers=MembershipSerializer,
    status=201,
    description="A role that the person holds already is answered as it is: never a second one.",
)
@api_view(["GET", "POST"])
def people(request: Request, slug: str) -> Response:
    """List who belongs to the institution, or give somebody of it one more role."""
    row = with_file(request, slug)
    if request.method == "GET":
        rows = row.memberships.select_related("user", "institution")
        return page(request, rows, MembershipSerializer, **_seen_by(request, row))
    services.require_manager(person_of(request), row)
    given = valid(NewRoleSerializer(data=request.data))
    person = get_object_or_404(services.people(row), pk=given["person"])
    added = memberships.add_role(row, person, given["role"], by=person_of(request), now=timezone.now())
    return _role(request, added, status=201)


@operation(
    "POST",
    "end_role",
    "End a role; what came with it ends at once. You may end your own.",
    group=GROUP,
    answers=MembershipSerializer,
)
@api_view(["POST"])
def end_role(request: Request, slug: str, membership_id: int) -> Response:
    """End a role. A role that has ended is answered as it is."""
    rows = Membership.objects.select_related("institution", "user").filter(institution=with_file(request, slug))
    membership = get_object_or_404(rows, pk=membership_id)
    return _role(request, memberships.end_membership(membership, by=person_of(request), now=timezone.now()))


# Invitations


@operation(
    "GET",
    "list_invitations",
    "List the invitations of an institution, newest first.",
    group=GROUP,
    answers=page_of(InvitationSerializer),
    query=[BEFORE],
)
@operation(
    "POST",
    "invite",
    "Invite an address to a role: single use, 14 days. The secret goes out by mail only.",
    group=GROUP,
    takes=NewInvitationSerializer,
    answers=InvitationSerializer,
    status=201,
)
@api_view(["GET", "POST"])
def invitations(request: Request, slug: str) -> Response:
    """List the invitations, or send one."""
    row = managed(request, slug)
    if request.method == "GET":
        return page(request, row.invitations.select_related("institution"), InvitationSerializer)
    given = valid(NewInvitationSerializer(data=request.data))
    sent, _ = memberships.invite(row, **given, by=person_of(request), now=timezone.now())
    return Response(InvitationSerializer(sent).data, status=201)


def _invitation(request: Request, slug: str, invitation_id: int) -> Invitation:
    rows = Invitation.objects.select_related("institution").filter(institution=managed(request, slug))
    return get_object_or_404(rows, pk=invitation_id)


@operation("POST", "withdraw_invitation", "Take an invitation back.", group=GROUP, answers=InvitationSerializer)
@api_view(["POST"])
def withdraw_invitation(request: Request, slug: str, invitation_id: int) -> Response:
    """Take an invitation back."""
    row = _invitation(request, slug, invitation_id)
    taken = memberships.withdraw_invitation(row, by=person_of(request), now=timezone.now())
    return Response(InvitationSerializer(taken).data)


@operation(
    "POST",
    "resend_invitation",
    "Send an invitation again: a new link and code, 14 more days; the old ones are dead.",
    group=GROUP,
    answers=InvitationSerializer,
)
@api_view(["POST"])
def resend_invitation(request: Request, slug: str, invitation_id: int) -> Response:
    """Send an invitation again."""
    row = _invitation(request, slug, invitation_id)
    sent, _ = memberships.resend_invitation(row, by=person_of(request), now=timezone.now())
    return Response(InvitationSerializer(sent).data)


@operation(
    "POST",
    "accept_invitation",
    "Take the invited role. Only the invited address, verified, can.",
    group=GROUP,
    takes=AcceptInvitationSerializer,
    answers=MembershipSerializer,
    status=201,
)
@api_view(["POST"])
def accept_invitation(request: Request) -> Response:
    """Take the invited role."""
    by, secret = person_of(request), valid(AcceptInvitationSerializer(data=request.data))["secret"]
    emails = accounts.verified_emails(by)
    taken = memberships.accept_invitation(secret, by=by, verified_emails=emails, now=timezone.now())
    return _role(request, taken, status=201)


# Requests to join


def _request(request: Request, row: JoinRequest, status: int = 200) -> Response:
    context = {"user": request.user, "manages": services.manages(request.user, row.institution)}
    return Response(JoinRequestSerializer(row, context=context).data, status=status)


@operation(
    "GET",
    "list_join_requests",
    "List who asks, and asked, to join the institution, newest first.",
    group=GROUP,
    answers=page_of(JoinRequestSerializer),
    query=[BEFORE],
)
@operation(
    "POST",
    "ask_to_join",
    "Ask the managers of a member institution for a role.",
    group=GROUP,
    takes=AskSerializer,
    answers=JoinRequestSerializer,
    status=201,
)
@api_view(["GET", "POST"])
def join_requests(request: Request, slug: str) -> Response:
    """List who asks to join, for the managers; or ask, for everybody else."""
    if request.method == "GET":
        rows = managed(request, slug).join_requests.select_related("person", "institution")
        return page(request, rows, JoinRequestSerializer, user=request.user, manages=True)
    row = get_object_or_404(Institution, slug=slug, status=Status.MEMBER)
    given = valid(AskSerializer(data=request.data))
    return _request(request, joining.ask(row, **given, by=person_of(request), now=timezone.now()), status=201)


def _asked(request: Request, slug: str, request_id: int) -> JoinRequest:
    rows = managed(request, slug).join_requests.select_related("institution", "person")
    return get_object_or_404(rows, pk=request_id)


@operation(
    "POST",
    "accept_join_request",
    "Take in somebody who asks to join.",
    group=GROUP,
    takes=AcceptRequestSerializer,
    answers=JoinRequestSerializer,
)
@api_view(["POST"])
def accept_join_request(request: Request, slug: str, request_id: int) -> Response:
    """Take the person in."""
    row = _asked(request, slug, request_id)
    role = valid(AcceptRequestSerializer(data=request.data)).get("role", row.role)
    return _request(request, joining.accept(row, role=role, by=person_of(request), now=timezone.now()))


@operation(
    "POST",
    "decline_join_request",
    "Say no to somebody who asks to join, with a reason.",
    group=GROUP,
    takes=RefusalSerializer,
    answers=JoinRequestSerializer,
)
@api_view(["POST"])
def decline_join_request(request: Request, slug: str, request_id: int) -> Response:
    """Say no."""
    row = _asked(request, slug, request_id)
    reason = valid(RefusalSerializer(data=request.data))["reason"]
    return _request(request, joining.decline(row, reason=reason, by=person_of(request), now=timezone.now()))


INVITATION, REQUEST = (
    "institutions/<slug:slug>/invitations/<int:invitation_id>",
    "institutions/<slug:slug>/join-requests",
)
urlpatterns = [
    path("institutions/<slug:slug>/people", people, name="people"),
    path("institutions/<slug:slug>/people/<int:membership_id>/end", end_role, name="end_role"),
    path("institutions/<slug:slug>/invitations", invitations, name="invitations"),
    path(f"{INVITATION}/withdraw", withdraw_invitation, name="withdraw_invitation"),
    path(f"{INVITATION}/resend", resend_invitation, name="resend_invitation"),
    path("invitations/accept", accept_invitation, name="accept_invitation"),
    path(REQUEST, join_requests, name="join_requests"),
    path(f"{REQUEST}/<int:request_id>/accept", accept_join_request, name="accept_join_request"),
    path(f"{REQUEST}/<int:request_id>/decline", decline_join_request, name="decline_join_request"),
]
