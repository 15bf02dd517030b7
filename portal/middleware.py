"""Small middlewares: content security policy, the methods of pages, bearer tokens, domain errors."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

from portal.accounts import services as accounts
from portal.errors import DomainError, error_response

Handler = Callable[[HttpRequest], HttpResponse]


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
