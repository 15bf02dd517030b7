"""API authentication by personal token."""

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from portal.accounts import services
from portal.accounts.models import User


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`."""

    def authenticate(self, request: HttpRequest) -> tuple[User, str] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header.lower().startswith("bearer "):
            return None
        user = services.user_of_bearer(header)
        if user is None:
            raise AuthenticationFailed("This token is unknown, expired or revoked. Run `consortium login`.")
        return user, "token"

    def authenticate_header(self, request: HttpRequest) -> str:
        return "Bearer"
