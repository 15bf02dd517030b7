"""The type of a request behind LoginRequiredMiddleware."""

from django.http import HttpRequest
from rest_framework.request import Request

from portal.accounts.models import User


class SignedInRequest(HttpRequest):
    """A request of somebody who is signed in. Only a name for the type checker: nothing creates it."""

    user: User


class SignedInApiRequest(Request):
    """The same for the API, behind IsAuthenticated."""

    user: User
