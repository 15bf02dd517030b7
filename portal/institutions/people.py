"""Pages of the people of an institution: roles and invitations."""

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError, tell
from portal.institutions import joining, memberships, services
from portal.institutions.forms import CodeForm, HandOverForm, InvitationForm, RoleForm
from portal.institutions.models import Institution, JoinRequest, Membership
from portal.institutions.views import managed, visible


@require_GET
def people(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show who does what here."""
    institution = visible(request, slug)
    if not request.user.has_perm("institutions.view_file", institution):
        raise PermissionDenied(f"Only people of {institution} see who belongs to it.")
    return _page(request, institution)


def _page(
    request: SignedInRequest,
    institution: Institution,
    *,
    invitation_form: InvitationForm | None = None,
    role_form: RoleForm | None = None,
) -> HttpResponse:
    manages = request.user.has_perm("institutions.change_institution", institution)
    own = institution.memberships.current().filter(user=request.user, role__in=["principal_investigator", "steward"])
    context = {
        "institution": institution,
        "manages": manages,
        "memberships": institution.memberships.current().select_related("user").order_by("user__name", "pk"),
        "former": institution.memberships.exclude(ended_at=None).select_related("user").order_by("-ended_at")[:20],
        "invitations": institution.invitations.select_related("invited_by").order_by("-pk")[:50] if manages else [],
        "invitation_form": invitation_form or InvitationForm(),
        "role_form": role_form or RoleForm(institution=institution),
        "join_requests": _join_requests(institution) if manages else [],
        "roles": Membership.Role.choices,
        "hand_over_form": HandOverForm(institution=institution, leaving=request.user, auto_id="hand_over_%s"),
        "own_role": own.first(),
        "now": timezone.now(),
    }
    status = 422 if invitation_form or role_form else 200
    return render(request, "institutions/people_list.html", context, status=status)


def _join_requests(institution: Institution) -> list[tuple[JoinRequest, bool]]:
    """Return who asks to join, each with whether the address is of a domain that is known here."""
    rows = institution.join_requests.filter(state=JoinRequest.State.ASKED).select_related("person", "institution")
    return [(row, joining.shares_domain(row)) for row in rows]


@require_POST
def invite(request: SignedInRequest, slug: str) -> HttpResponse:
    """Invite an address to a role."""
    institution = managed(request, slug)
    form = InvitationForm(request.POST)
    if not form.is_valid():
        return _page(request, institution, invitation_form=form)
    invitation, _ = memberships.invite(institution, **form.cleaned_data, by=request.user, now=timezone.now())
    messages.success(request, f"The invitation for {invitation.email} is on its way.")
    return redirect("institutions:team" if request.POST.get("next") == "team" else "institutions:people", slug)


@require_POST
def add_role(request: SignedInRequest, slug: str) -> HttpResponse:
    """Give somebody who is here one more role."""
    institution = managed(request, slug)
    form = RoleForm(request.POST, institution=institution)
    if not form.is_valid():
        return _page(request, institution, role_form=form)
    person, role = form.cleaned_data["person"], form.cleaned_data["role"]
    try:
        membership = memberships.add_role(institution, person, role, by=request.user, now=timezone.now())
        messages.success(request, f"{person} is now {membership.get_role_display().lower()}.")
    except DomainError as error:
        tell(request, error)
    return redirect("institutions:people", slug)


def end_membership(request: SignedInRequest, slug: str, membership_id: int) -> HttpResponse:
    """End one role, after asking. People may end their own."""
    institution = visible(request, slug)
    rows = institution.memberships.current().select_related("user", "institution")
    if not request.user.has_perm("institutions.change_institution", institution):
        rows = rows.filter(user=request.user)
    membership = get_object_or_404(rows, pk=membership_id)
    if request.method != "POST":
        context = {"institution": institution, "membership": membership}
        return render(request, "institutions/membership_end.html", context)
    try:
        memberships.end_membership(membership, by=request.user, now=timezone.now())
        messages.success(request, f"{membership} has ended.")
    except DomainError as error:
        tell(request, error)
    if membership.user_id == request.user.pk and not services.is_member(request.user, institution):
        logout(request)  # leaving has ended every session
        messages.success(request, f"You have left {institution} and are signed out everywhere. Sign in again to go on.")
        return redirect("account_login")
    return redirect("institutions:people", slug)


@require_POST
def withdraw_invitation(request: SignedInRequest, slug: str, invitation_id: int) -> HttpResponse:
    """Take an invitation back."""
    institution = managed(request, slug)
    invitation = get_object_or_404(institution.invitations, pk=invitation_id)
    try:
        memberships.withdraw_invitation(invitation, by=request.user, now=timezone.now())
        messages.success(request, f"The invitation for {invitation.email} is withdrawn.")
    except DomainError as error:
        tell(request, error)
    return redirect("institutions:people", slug)


@require_POST
def resend_invitation(request: SignedInRequest, slug: str, invitation_id: int) -> HttpResponse:
    """Send an invitation again, with a new link and code."""
    institution = managed(request, slug)
    invitation = get_object_or_404(institution.invitations, pk=invitation_id)
    try:
        memberships.resend_invitation(invitation, by=request.user, now=timezone.now())
        messages.success(request, f"A new link and code are on their way to {invitation.email}; the old ones are dead.")
    except DomainError as error:
        tell(request, error)
    return redirect("institutions:people", slug)


@require_POST
def hand_over(request: SignedInRequest, slug: str) -> HttpResponse:
    """Make somebody else principal investigator and end one's own role."""
    institution = managed(request, slug)
    own = institution.memberships.current().filter(user=request.user, role__in=["principal_investigator", "steward"])
    form = HandOverForm(request.POST, institution=institution, leaving=request.user)
    if not form.is_valid():
        messages.error(request, "Choose who leads from now on, somebody who is here, and confirm that your role ends.")
        return redirect("institutions:people", slug)
    person = form.cleaned_data["person"]
    try:
        memberships.hand_over(own.select_related("institution")[0], to=person, by=request.user, now=timezone.now())
        messages.success(request, f"{person} is principal investigator of {institution}; your role has ended.")
    except DomainError as error:
        tell(request, error)
    left = not request.user.has_perm("institutions.view_file", institution)
    return redirect("institutions:mine") if left else redirect("institutions:people", slug)


@require_POST
def answer_join_request(request: SignedInRequest, slug: str, request_id: int) -> HttpResponse:
    """Accept or decline somebody who asks to join."""
    institution = managed(request, slug)
    row = get_object_or_404(institution.join_requests.select_related("institution"), pk=request_id)
    now, roles = timezone.now(), dict(Membership.Role.choices)
    try:
        if request.POST.get("answer") == "accept":
            role = request.POST.get("role") if request.POST.get("role") in roles else row.role
            joining.accept(row, role=str(role), by=request.user, now=now)
            messages.success(request, f"{row.person} belongs to {institution} now.")
        else:
            joining.decline(row, reason=request.POST.get("reason", "")[:2000], by=request.user, now=now)
            messages.success(request, f"{row.person} was told why not.")
    except DomainError as error:
        tell(request, error)
    return redirect("institutions:people", slug)


def code(request: SignedInRequest) -> HttpResponse:
    """Take the six digits of an invitation's mail."""
    form = CodeForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        emails = accounts.verified_emails(request.user)
        try:
            membership = memberships.accept_code(
                form.cleaned_data["code"], by=request.user, verified_emails=emails, now=timezone.now()
            )
            messages.success(
                request, f"You are now {membership.get_role_display().lower()} of {membership.institution}."
            )
            return redirect("institutions:onboarding", membership.institution.slug)
        except DomainError as error:
            form.add_error("code", str(error))
    context = {"form": form}
    return render(request, "institutions/invitation_code.html", context, status=422 if form.errors else 200)


@login_not_required
def invitation(request: HttpRequest, secret: str) -> HttpResponse:
    """Show an invitation; accept it on POST, so that a mail scanner that follows the link changes nothing."""
    row = memberships.invitation_of(secret, now=timezone.now())
    emails = accounts.verified_emails(request.user)
    if request.method == "POST" and request.user.is_authenticated:
        memberships.accept_invitation(secret, by=request.user, verified_emails=emails, now=timezone.now())
        messages.success(request, f"You are now {row.get_role_display().lower()} of {row.institution}.")
        return redirect("institutions:show", row.institution.slug)
    fits = row.email.lower() in {email.lower() for email in emails}
    context = {"invitation": row, "fits": fits}
    return render(request, "institutions/invitation_accept.html", context)
