"""
Refused attempts on record: one event for each request of a signed-in person that a rule or a right turned down.

Here and not in the services, whose transaction the refusal has rolled back; the event has one of its own, afterwards.
Nobody's refusals are kept: anybody could fill the log with them. Neither are those of a form sent from another site
(the check before the view): whose attempt that was is what nobody knows.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError

REFUSED = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}
READING = {"GET", "HEAD", "OPTIONS", "TRACE"}
LARGEST_ID = 2**63 - 1
log = logging.getLogger(__name__)


class on_record:
    """Write `attempt.refused` once the answer stands, unless the service has written a refusal of its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if getattr(request, "is_attempt", False):
            _keep(request, response)
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        """Mark what is an attempt: the address exists, it was asked to change something, the form is ours."""
        request.is_attempt = request.method not in READING  # type: ignore[attr-defined]


def _keep(request: HttpRequest, response: HttpResponse) -> None:
    error: DomainError | None = getattr(request, "refused_by", None)
    status = response.status_code if error is None else error.status  # a page may lead back and say it there
    user = request.user
    if status not in REFUSED or not isinstance(user, User) or (error is not None and error.on_record):
        return
    try:
        _write(user, _facts(request, int(status), error))
    except Exception:  # the answer to the person matters more; whoever runs the site reads this
        log.exception("A refused attempt is not on record.")


@transaction.atomic
def _write(user: User, facts: dict[str, Any]) -> None:
    audit.record("attempt.refused", user, by=user, **facts)


def _facts(request: HttpRequest, status: int, error: DomainError | None) -> dict[str, Any]:
    """Return what was tried: never the body or the query; of the address only its name and the numbers in it."""
    match = request.resolver_match
    assert match is not None  # process_view has run
    given = {name: value for name, value in match.kwargs.items() if isinstance(value, int) and value <= LARGEST_ID}
    return {
        "method": request.method,
        "route": match.view_name if match.url_name else match.route,
        "status": status,
        "code": error.code if error is not None else "",
        **({"ids": given} if given else {}),
    }
