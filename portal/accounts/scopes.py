"""What a token may do: less than its person, and never sign."""

import re
from http import HTTPStatus

from rest_framework.request import Request

from portal.accounts.models import ApiToken
from portal.errors import DomainError
from portal.scopes import WIDTH, scope_of

SIGNING = re.compile(r"/(sign|countersign|vote)/?$")
SIGN_PAGE = re.compile(r"/api/v1(/agreements/cases/\d+/sign)/?$")  # the page has the same address without /api/v1


class ScopeMissing(DomainError):
    """The token may not do this."""

    code = "scope_missing"
    status = HTTPStatus.FORBIDDEN


class SigningNeedsAPerson(DomainError):
    """A program cannot sign or vote."""

    code = "signing_needs_a_person"
    status = HTTPStatus.FORBIDDEN


def require(token: ApiToken, *, method: str, path: str) -> None:
    """Raise unless a request with this token may use the method on the address."""
    scope = scope_of(path, method)
    if scope != "read" and SIGNING.search(path):
        raise no_person(path)
    if WIDTH.index(token.scope) < WIDTH.index(scope):
        raise ScopeMissing(
            f"This token may: {token.get_scope_display().lower()}. Make one with a wider scope on the page of your "
            "API tokens, or do it in the browser.",
            next_url="/account/tokens/",
        )


def require_person(request: Request) -> None:
    """Raise SigningNeedsAPerson where the request came with a token: call it wherever somebody signs or votes."""
    if isinstance(request.auth, ApiToken):
        raise no_person(request.path)


def no_person(path: str) -> SigningNeedsAPerson:
    """Return the refusal of a signature over the API, with the page where a person gives it."""
    page = SIGN_PAGE.fullmatch(path)
    return SigningNeedsAPerson(
        "A program cannot sign or vote: it cannot prove who sits at the keyboard. Do it in the browser.",
        next_url=f"{page[1]}/" if page else "",
    )
