"""The type of a request behind LoginRequiredMiddleware."""

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request

from portal.accounts.models import User
from portal.accounts.standing import Standing


class SignedInRequest(HttpRequest):
    """A request of somebody who is signed in. Only a name for the type checker: nothing creates it."""

    user: User
    standing: Standing  # by portal.accounts.gate
    htmx: HtmxDetails


def person_of(request: Request) -> User:
    """Return who makes an API request. Raises NotAuthenticated where the view is open and nobody is signed in."""
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user


class SignedInApiRequest(Request):
    """The same for the API, behind IsAuthenticated."""

    user: User
