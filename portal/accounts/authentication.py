"""API authentication by personal token."""

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from portal.accounts import scopes, services
from portal.accounts.gate import require_second_factor
from portal.accounts.models import ApiToken, User


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`."""

    def authenticate(self, request: HttpRequest) -> tuple[User, ApiToken] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header.lower().startswith("bearer "):
            return None
        token = services.token_of_bearer(header)
        if token is None:
            raise AuthenticationFailed("This token is unknown, expired or revoked. Run `consortium login`.")
        request.user = token.user  # who it is stays known where the token may not do this: the refusal is on record
        require_second_factor(token.user)
        scopes.require(token, method=request.method or "", path=request.path)
        return token.user, token

    def authenticate_header(self, request: HttpRequest) -> str:
        return "Bearer"
