"""The type of a request behind LoginRequiredMiddleware."""

from django.http import HttpRequest

from portal.accounts.models import User


class SignedInRequest(HttpRequest):
    """A request of somebody who is signed in. Only a name for the type checker: nothing creates it."""

    user: User
