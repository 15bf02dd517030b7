"""Errors of the domain: a sentence for the reader, a code for the machine; as pages and as problem+json."""

from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from rest_framework import exceptions as drf
from rest_framework.response import Response

PROBLEM_JSON = "application/problem+json"


class DomainError(Exception):
    """
    A rule of the domain refused.

    Subclasses live beside the function that raises them and set `code` (snake_case) and `status` (HTTP).
    The message says what happened, to what, and what to do next; `next_url` is where to do it. A service that has put
    the refusal on record itself sets `on_record`, so that it is not there twice (portal/refusals.py).
    """

    code = "refused"
    status = HTTPStatus.CONFLICT
    on_record = False

    def __init__(self, message: str, *, next_url: str = "") -> None:
        super().__init__(message)
        self.next_url = next_url


class NotAllowed(DomainError):
    """The person may see the object and may not do this to it."""

    code = "not_allowed"
    status = HTTPStatus.FORBIDDEN


def problem(*, status: int, code: str, detail: str, next_url: str = "", **extra: Any) -> dict[str, Any]:
    """Return a problem document (RFC 9457, section 3) with our `code` and `next_url`."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        "next_url": next_url,
        **extra,
    }


def problem_response(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception of an API view into problem+json; None lets Django answer 500."""
    from rest_framework.views import set_rollback  # noqa: PLC0415 -- it loads our authentication, which needs this file

    body = _problem_of(exc)
    if body is None:
        return None
    note(context["request"]._request, exc)
    set_rollback()
    headers = {"WWW-Authenticate": "Bearer"} if body["status"] == HTTPStatus.UNAUTHORIZED else {}
    return Response(body, status=body["status"], content_type=PROBLEM_JSON, headers=headers)


def _problem_of(exc: Exception) -> dict[str, Any] | None:
    if isinstance(exc, DomainError):
        return problem(status=exc.status, code=exc.code, detail=str(exc), next_url=exc.next_url)
    if isinstance(exc, Http404):
        return problem(status=404, code="not_found", detail="There is no such object, or you may not see it.")
    if isinstance(exc, PermissionDenied):
        return problem(status=403, code="not_allowed", detail=str(exc) or "You may not do this.")
    if isinstance(exc, drf.NotAuthenticated | drf.AuthenticationFailed):
        return problem(status=401, code="not_signed_in", detail=str(exc.detail), next_url=reverse("accounts:tokens"))
    if isinstance(exc, drf.ValidationError):
        return problem(status=400, code="invalid", detail="Some fields need another look.", errors=exc.detail)
    if isinstance(exc, drf.APIException):
        return problem(status=exc.status_code, code=str(exc.default_code), detail=str(exc.detail))
    return None


def wants_json(request: HttpRequest) -> bool:
    """Test if the answer should be problem+json rather than a page."""
    return (
        request.path.startswith(("/api/v1/", "/log/proofs/"))
        or request.path.startswith("/dl/")
        and "text/html" not in request.headers.get("Accept", "")
        or "HTTP_AUTHORIZATION" in request.META
    )


def note(request: HttpRequest, exc: Exception) -> None:
    """Keep on the request which rule refused it; every edge that answers a domain error by itself calls this."""
    if isinstance(exc, DomainError):
        request.refused_by = exc  # type: ignore[attr-defined]


def tell(request: HttpRequest, exc: DomainError) -> None:
    """Show a refusal on the page that comes next, for views that lead back to where the person was."""
    note(request, exc)
    messages.error(request, str(exc))


def error_response(request: HttpRequest, exc: DomainError) -> HttpResponse:
    """Answer a domain error that reached the edge: problem+json for machines, a page with a way on for people."""
    note(request, exc)
    if wants_json(request):
        body = problem(status=exc.status, code=exc.code, detail=str(exc), next_url=exc.next_url)
        return JsonResponse(body, status=exc.status, content_type=PROBLEM_JSON)
    return render(request, "portal/domain_error.html", {"error": exc}, status=exc.status)
