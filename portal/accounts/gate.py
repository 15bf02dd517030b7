"""What must be done before any other page opens: a second factor for binding roles, new terms of the site."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.accounts.standing import standing_of
from portal.errors import DomainError, error_response, wants_json

# Views that stay open: by name, or by the beginning of one. Signing in and out, one's own account, what anybody reads.
OPEN = (
    *("account_", "mfa_", "usersessions_", "openid_connect_", "socialaccount_"),
    *("accounts:profile", "accounts:second_factor", "terms", "healthz", "readyz", "notifications:", "log:"),
)


class SecondFactorRequired(DomainError):
    """The person holds a role that binds others and has no second factor yet."""

    code = "second_factor_required"
    status = HTTPStatus.FORBIDDEN

    def __init__(self) -> None:
        super().__init__(
            _("Your role needs a second factor on your account, and there is none yet. Set one up, then try again."),
            next_url=reverse("accounts:second_factor"),
        )


def require_second_factor(user: User) -> None:
    """Raise SecondFactorRequired where the person owes one: for requests that come with a token."""
    if standing_of(user).owes_second_factor:
        raise SecondFactorRequired


class gate:
    """Send a signed-in person who owes something to the page where it is done. `request.standing` is what they owe."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if not request.user.is_authenticated:
            return None
        signed_in = cast(SignedInRequest, request)
        standing = signed_in.standing = standing_of(signed_in.user)
        name = request.resolver_match.view_name if request.resolver_match else ""
        if name.startswith(OPEN):
            return None
        if standing.owes_second_factor:
            return _second_factor(request)
        if standing.owes_terms and not wants_json(request):
            return _go(request, "terms_accept")
        return None


def _second_factor(request: HttpRequest) -> HttpResponse:
    if not wants_json(request):
        return _go(request, "accounts:second_factor")
    return error_response(request, SecondFactorRequired())


def _go(request: HttpRequest, name: str) -> HttpResponse:
    """Go to a page that leads back here; what was posted is not kept."""
    path = request.get_full_path() if request.method == "GET" else reverse("home")
    url = f"{reverse(name)}?{urlencode({'next': path})}"
    if request.headers.get("HX-Request"):  # a fragment cannot show a whole page
        return HttpResponse(headers={"HX-Redirect": url})
    return redirect(url)
