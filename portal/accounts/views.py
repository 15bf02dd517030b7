"""Pages of one's own account. Sign-in, addresses, password and second factors are allauth's."""

from allauth.usersessions.internal import flows
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from portal.accounts import orcid, proofs, services
from portal.accounts.forms import DeviceForm, ProfileForm, TokenForm
from portal.accounts.models import DeviceLogin
from portal.accounts.proofs import ProofForm
from portal.accounts.requests import SignedInRequest
from portal.notifications import outbox


def profile(request: SignedInRequest) -> HttpResponse:
    """Show one's account, and change the name."""
    form = ProfileForm(request.POST or None, initial={"name": request.user.name})
    if request.method == "POST" and form.is_valid():
        services.rename(request.user, name=form.cleaned_data["name"])
        messages.success(request, "Your name is saved.")
        return redirect("accounts:profile")
    context = {
        "form": form,
        "memberships": request.user.memberships.current().select_related("institution"),
        "consortium_roles": request.user.consortium_roles.current(),
        "has_second_factor": proofs.has_second_factor(request.user),
        "orcid": orcid.orcid_of(request.user),
        "sessions": UserSession.objects.filter(user=request.user).count(),
        "live_tokens": request.user.api_tokens.filter(revoked_at=None, expires_at__gt=timezone.now()).count(),
        "accepted": request.user.terms_acceptances.select_related("terms").first(),
        "bounced": outbox.bounced_address(request.user),
    }
    return render(request, "accounts/profile.html", context, status=422 if form.errors else 200)


@never_cache
@sensitive_post_parameters("password", "code")
def tokens(request: SignedInRequest) -> HttpResponse:
    """List one's API tokens; make one, shown once, in this answer and nowhere else."""
    form = TokenForm(request.POST or None, request=request)
    if request.method == "POST" and form.is_valid():
        given = {name: form.cleaned_data[name] for name in ("name", "scope", "days")}
        token = services.create_token(request.user, **given, now=timezone.now())
        return _token_page(request, TokenForm(request=request), new_token=token)
    return _token_page(request, form)


def _token_page(request: SignedInRequest, form: TokenForm, *, new_token: str = "") -> HttpResponse:
    context = {
        "form": form,
        "new_token": new_token,
        "tokens": request.user.api_tokens.order_by("-pk")[:50],
        "now": timezone.now(),
    }
    return render(request, "accounts/token_list.html", context, status=422 if form.errors else 200)


@require_POST
def revoke_token(request: SignedInRequest, token_id: int) -> HttpResponse:
    """End one of one's own tokens."""
    token = get_object_or_404(request.user.api_tokens, pk=token_id)
    services.revoke_token(token, by=request.user, now=timezone.now())
    messages.success(request, f"The token “{token.name}” is ended. What held it is signed out.")
    return redirect("accounts:tokens")


def device(request: SignedInRequest) -> HttpResponse:
    """Let a kit sign in (RFC 8628): GET shows who asks, POST answers, with a proof as for a token."""
    code = request.POST.get("user_code") or request.GET.get("user_code")
    form = DeviceForm({"user_code": code} if code else None)
    login = None
    if form.is_bound and form.is_valid():
        login = services.waiting_device_login(form.cleaned_data["user_code"], now=timezone.now())
        if login is None:
            form.add_error("user_code", "No kit waits with this code. It is too old, used, or mistyped.")
    answer = request.POST.get("answer")
    proof = ProofForm(request.POST if answer == "approve" else None, request=request)
    if login is not None and (answer == "deny" or proof.is_valid()):
        return _answer(request, login, approve=answer == "approve")
    context = {"form": form, "login": login, "proof": proof, "days": services.TOKEN_DAYS}
    has_errors = form.errors or (login and proof.errors)
    return render(request, "accounts/device_approve.html", context, status=422 if has_errors else 200)


def _answer(request: SignedInRequest, login: DeviceLogin, *, approve: bool) -> HttpResponse:
    services.answer_device_login(login.user_code, approve=approve, by=request.user, now=timezone.now())
    context = {"login": login, "approved": approve}
    return render(request, "accounts/device_answered.html", context)


@require_POST
def end_session(request: SignedInRequest, session_id: int) -> HttpResponse:
    """End one of one's own sessions, in whatever browser it is."""
    session = get_object_or_404(UserSession, pk=session_id, user=request.user)
    flows.sessions.end_sessions(request, [session])
    messages.success(request, "That browser is signed out.")
    return redirect("usersessions_list")
