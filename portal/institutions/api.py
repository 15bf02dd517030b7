"""API: institutions, their people and invitations."""

from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts import services as accounts
from portal.accounts.requests import person_of
from portal.institutions import memberships, services
from portal.institutions.models import Institution, Invitation, Membership
from portal.institutions.serializers import (
    AcceptInvitationSerializer,
    ApplicationSerializer,
    FilterSerializer,
    InstitutionDetailSerializer,
    InstitutionSerializer,
    InvitationSerializer,
    MembershipSerializer,
    NewInvitationSerializer,
    NewRoleSerializer,
    ProfileSerializer,
)
from portal.openapi import operation, page_of, valid
from portal.paging import BEFORE, page

GROUP, PEOPLE = "Institutions", "People of an institution"


def _visible(request: Request, slug: str) -> Institution:
    return get_object_or_404(Institution.objects.visible_to(request.user), slug=slug)


def _file(request: Request, slug: str) -> Institution:
    """Return the institution to somebody who may see who belongs to it."""
    institution = _visible(request, slug)
    if not request.user.has_perm("institutions.view_file", institution):
        raise PermissionDenied(f"Only people of {institution} see who belongs to it.")
    return institution


def _answer(institution: Institution, request: Request, status: int = 200) -> Response:
    return Response(InstitutionDetailSerializer(institution, context={"request": request}).data, status=status)


def _filtered(request: Request) -> QuerySet[Institution]:
    given = valid(FilterSerializer(data=request.query_params))
    rows = Institution.objects.visible_to(request.user)
    if "q" in given:
        rows = rows.filter(Q(name__icontains=given["q"]) | Q(local_name__icontains=given["q"]))
    if "country" in given:
        rows = rows.filter(country=given["country"].upper())
    if "region" in given:
        rows = rows.filter(subregion=given["region"])
    if given["mine"]:
        rows = rows.filter(pk__in=services.institutions_of(person_of(request)).values("pk"))
    return rows


@operation(
    "GET",
    "list_institutions",
    "List the institutions that you may see, newest first.",
    group=GROUP,
    answers=page_of(InstitutionSerializer),
    query=[FilterSerializer, BEFORE],
    description="Without a token: the members of the consortium. With one, also your own and, for the consortium's "
    "officers, every application that was sent.",
)
@operation(
    "POST",
    "begin_application",
    "Begin the application of an institution as a draft.",
    group=GROUP,
    takes=ApplicationSerializer,
    answers=InstitutionDetailSerializer,
    status=201,
)
@api_view(["GET", "POST"])
@permission_classes([AllowAny])
def institutions(request: Request) -> Response:
    """List the institutions that the reader may see, or begin an application."""
    if request.method == "GET":
        return page(request, _filtered(request), InstitutionSerializer)
    by = person_of(request)
    given = valid(ApplicationSerializer(data=request.data))
    return _answer(services.start_application(by=by, now=timezone.now(), **given), request, status=201)


@operation("GET", "show_institution", "Show an institution.", group=GROUP, answers=InstitutionDetailSerializer)
@operation(
    "PATCH",
    "change_profile",
    "Change parts of the profile.",
    group=GROUP,
    takes=ProfileSerializer,
    answers=InstitutionDetailSerializer,
)
@api_view(["GET", "PATCH"])
@permission_classes([AllowAny])
def institution(request: Request, slug: str) -> Response:
    """Show an institution, or change its profile."""
    row = _visible(request, slug)
    if request.method == "PATCH":
        by = person_of(request)
        services.require_manager(by, row)
        row = services.change_profile(row, by=by, **valid(ProfileSerializer(data=request.data, partial=True)))
    return _answer(row, request)


@operation(
    "POST", "send_application", "Send the application to the board.", group=GROUP, answers=InstitutionDetailSerializer
)
@api_view(["POST"])
def send(request: Request, slug: str) -> Response:
    """Send the application."""
    return _answer(services.apply(_visible(request, slug), by=person_of(request), now=timezone.now()), request)


@operation(
    "POST", "withdraw_application", "Take the application back.", group=GROUP, answers=InstitutionDetailSerializer
)
@api_view(["POST"])
def withdraw(request: Request, slug: str) -> Response:
    """Take the application back."""
    return _answer(services.withdraw(_visible(request, slug), by=person_of(request), now=timezone.now()), request)


# People


@operation(
    "GET",
    "list_people",
    "List who holds which role, past roles too, newest first.",
    group=PEOPLE,
    answers=page_of(MembershipSerializer),
    query=[BEFORE],
)
@operation(
    "POST",
    "add_role",
    "Give somebody of the institution one more role.",
    group=PEOPLE,
    takes=NewRoleSerializer,
    answers=MembershipSerializer,
    status=201,
    description="A role that the person holds already is answered as it is: never a second one.",
)
@api_view(["GET", "POST"])
def people(request: Request, slug: str) -> Response:
    """List who belongs to the institution, or give somebody of it one more role."""
    row = _file(request, slug)
    if request.method == "GET":
        return page(request, row.memberships.select_related("user"), MembershipSerializer)
    services.require_manager(person_of(request), row)
    given = valid(NewRoleSerializer(data=request.data))
    person = get_object_or_404(services.people(row), pk=given["person"])
    added = memberships.add_role(row, person, given["role"], by=person_of(request), now=timezone.now())
    return Response(MembershipSerializer(added).data, status=201)


@operation(
    "POST",
    "end_role",
    "End a role; what came with it ends at once. You may end your own.",
    group=PEOPLE,
    answers=MembershipSerializer,
)
@api_view(["POST"])
def end_role(request: Request, slug: str, membership_id: int) -> Response:
    """End a role. A role that has ended is answered as it is."""
    rows = Membership.objects.select_related("institution", "user").filter(institution=_file(request, slug))
    membership = get_object_or_404(rows, pk=membership_id)
    ended = memberships.end_membership(membership, by=person_of(request), now=timezone.now())
    return Response(MembershipSerializer(ended).data)


# Invitations


@operation(
    "GET",
    "list_invitations",
    "List the invitations of an institution, newest first.",
    group=PEOPLE,
    answers=page_of(InvitationSerializer),
    query=[BEFORE],
)
@operation(
    "POST",
    "invite",
    "Invite an address to a role: single use, 14 days. The secret goes out by mail only.",
    group=PEOPLE,
    takes=NewInvitationSerializer,
    answers=InvitationSerializer,
    status=201,
)
@api_view(["GET", "POST"])
def invitations(request: Request, slug: str) -> Response:
    """List the invitations, or send one."""
    row = _file(request, slug)
    services.require_manager(person_of(request), row)
    if request.method == "GET":
        return page(request, row.invitations.all(), InvitationSerializer)
    given = valid(NewInvitationSerializer(data=request.data))
    sent, _ = memberships.invite(row, **given, by=person_of(request), now=timezone.now())
    return Response(InvitationSerializer(sent).data, status=201)


@operation("POST", "withdraw_invitation", "Take an invitation back.", group=PEOPLE, answers=InvitationSerializer)
@api_view(["POST"])
def withdraw_invitation(request: Request, slug: str, invitation_id: int) -> Response:
    """Take an invitation back."""
    row = _file(request, slug)
    services.require_manager(person_of(request), row)
    invitation = get_object_or_404(Invitation, institution=row, pk=invitation_id)
    taken = memberships.withdraw_invitation(invitation, by=person_of(request), now=timezone.now())
    return Response(InvitationSerializer(taken).data)


@operation(
    "POST",
    "accept_invitation",
    "Take the invited role. Only the invited address, verified, can.",
    group=PEOPLE,
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
    return Response(MembershipSerializer(taken).data, status=201)


urlpatterns = [
    path("institutions", institutions, name="institutions"),
    path("institutions/<slug:slug>", institution, name="institution"),
    path("institutions/<slug:slug>/send", send, name="institution_send"),
    path("institutions/<slug:slug>/withdraw", withdraw, name="institution_withdraw"),
    path("institutions/<slug:slug>/people", people, name="people"),
    path("institutions/<slug:slug>/people/<int:membership_id>/end", end_role, name="end_role"),
    path("institutions/<slug:slug>/invitations", invitations, name="invitations"),
    path(
        "institutions/<slug:slug>/invitations/<int:invitation_id>/withdraw",
        withdraw_invitation,
        name="withdraw_invitation",
    ),
    path("invitations/accept", accept_invitation, name="accept_invitation"),
]
