"""Small middlewares: numbers of requests, content security policy, methods, read-only, bearer tokens, errors."""

import json
import re
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from jobs import maintenance, metrics
from portal.accounts import services as accounts
from portal.errors import DomainError, error_response
from portal.logging import request_id

Handler = Callable[[HttpRequest], HttpResponse]


def request_numbers(get_response: Handler) -> Handler:
    """Give each request a number (or keep its proxy's), for the log and the answer; count it and its time."""

    def middleware(request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        number = given if re.fullmatch(r"[A-Za-z0-9-]{8,64}", given) else uuid.uuid4().hex
        token, began = request_id.set(number), time.perf_counter()
        try:
            response = get_response(request)
        finally:
            request_id.reset(token)
        response.headers["X-Request-ID"] = number
        view = request.resolver_match.view_name if request.resolver_match else ""
        metrics.observe(request.method or "", view, response.status_code, time.perf_counter() - began)
        return response

    return middleware


class sign_in_first(LoginRequiredMiddleware):
    """
    Send who is not signed in to the page to sign in; from a form, back to its page, not to where it was sent.

    A fragment cannot show a whole page, and leaving the page by itself would lose what is typed on it: page.js tells.
    """

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponseBase | None:
        answer = super().process_view(request, view, args, kwargs)
        if answer is not None and request.headers.get("HX-Request"):
            url = redirect_to_login(_ours(request, "HX-Current-URL") or reverse("home")).url
            return HttpResponse(status=401, headers={"HX-Trigger": json.dumps({"signed-out": {"url": url}})})
        if answer is None or request.method in {"GET", "HEAD"}:
            return answer
        messages.warning(request, "You had been signed out, so nothing was saved. Sign in, then send it once more.")
        return redirect_to_login(_ours(request, "Referer") or request.path)


def _ours(request: HttpRequest, header: str) -> str:
    """Return path and query of the page of ours that a header names, or an empty text."""
    url = request.headers.get(header, "")
    if not url_has_allowed_host_and_scheme(url, {request.get_host()}):
        return ""
    parts = urlsplit(url)
    return urlunsplit(("", "", parts.path, parts.query, ""))


class ReadOnly(DomainError):
    """The site is read-only for a while."""

    code = "read_only"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class read_only:
    """Refuse what would change something while the site is read-only; signing in and out and the switch stay open."""

    OPEN = ("account_", "mfa_", "ops:maintenance", "notifications:")

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if request.method in {"GET", "HEAD", "OPTIONS"} or (message := maintenance.message()) is None:
            return None
        if request.resolver_match and request.resolver_match.view_name.startswith(self.OPEN):
            return None
        sentence = f"The site is read-only for a while, and nothing was changed. {message} Try again later."
        response = error_response(request, ReadOnly(sentence))
        response.headers["Retry-After"] = "300"
        return response


def content_security_policy(get_response: Handler) -> Handler:
    """Send a policy under which a page loads nothing of anybody else's, and no inline script or style."""
    store = settings.S3_PUBLIC_URL
    policy = "; ".join(
        [
            "default-src 'self'",
            f"img-src 'self' data: {store}",
            f"connect-src 'self' {settings.LIVE_URL} {store}".replace("  ", " "),
            "object-src 'none'",
            "base-uri 'none'",
            f"form-action 'self' {store} {_orcid()}".rstrip(),  # a form of ours leads to its sign-in page
            "frame-ancestors 'none'",
        ]
    )

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware


FORM_METHODS = ["GET", "HEAD", "OPTIONS", "POST"]


def pages_take_forms(get_response: Handler) -> Handler:
    """Answer 405 to PUT, PATCH and DELETE outside the API: Django's form views would take a PUT for an empty form."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method not in FORM_METHODS and not request.path.startswith("/api/v1/"):
            return HttpResponseNotAllowed(FORM_METHODS)
        return get_response(request)

    return middleware


def _orcid() -> str:
    """Return ORCID's origin where signing in with it is set up."""
    parts = urlsplit(settings.ORCID_ISSUER)
    return f"{parts.scheme}://{parts.netloc}" if settings.ORCID_CLIENT_ID else ""


def bearer_token(get_response: Handler) -> Handler:
    """Sign a request in by `Authorization: Bearer` on the download addresses, where curl has no session."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/dl/") and "HTTP_AUTHORIZATION" in request.META:
            user = accounts.user_of_bearer(request.META["HTTP_AUTHORIZATION"])
            if user is not None:
                request.user = user
        return get_response(request)

    return middleware


class domain_errors:
    """Turn a DomainError that a view let through into a page or problem+json."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return error_response(request, exception) if isinstance(exception, DomainError) else None
