"""The ethics document over HTTP: announced, completed, downloaded. The bytes go between browser and store."""

import json

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError, note
from portal.institutions import documents, reviews
from portal.institutions.models import Document, Institution
from portal.institutions.views import managed, visible


def _refusal(request: HttpRequest, error: DomainError) -> JsonResponse:
    note(request, error)
    return JsonResponse({"code": error.code, "detail": str(error)}, status=error.status)


def _announced(request: HttpRequest) -> dict[str, object]:
    """Return name, size and hash from the body. Raises DocumentRefused where it is not what the page sends."""
    try:
        body = json.loads(request.body)
        return {"name": str(body["name"]), "size_bytes": int(body["size_bytes"]), "sha256": str(body["sha256"])}
    except (ValueError, TypeError, KeyError) as exc:
        raise documents.DocumentRefused("Send name, size_bytes and sha256 of the document as JSON.") from exc


@require_POST
def announce(request: SignedInRequest, slug: str) -> HttpResponse:
    """Announce a document; answer where the browser puts it."""
    institution = managed(request, slug)
    try:
        announced = _announced(request)
        document, url, headers = documents.announce(
            institution,
            name=str(announced["name"]),
            size_bytes=int(str(announced["size_bytes"])),
            sha256=str(announced["sha256"]),
            by=request.user,
            now=timezone.now(),
        )
    except DomainError as error:
        return _refusal(request, error)
    return JsonResponse({"id": document.pk, "url": url, "headers": headers}, status=201)


@require_POST
def complete(request: SignedInRequest, slug: str, document_id: int) -> HttpResponse:
    """Note that a document has arrived."""
    document = _of(managed(request, slug), document_id)
    try:
        documents.complete(document, by=request.user, now=timezone.now())
    except DomainError as error:
        return _refusal(request, error)
    return JsonResponse({"id": document.pk, "state": "stored", "version": document.version})


@require_GET
def download(request: SignedInRequest, slug: str, document_id: int) -> HttpResponse:
    """Send people of the institution and its reviewers to an address from which the document is saved."""
    institution = visible(request, slug)
    own = institution.memberships.current().filter(user=request.user).exists()
    if not own and not reviews.may_read(request.user, institution):
        raise PermissionDenied("Only people of the institution and its reviewers read the ethics document.")
    document = get_object_or_404(institution.documents.filter(state=Document.State.STORED), pk=document_id)
    response = HttpResponseRedirect(documents.sign_download(document, by=request.user))
    response.headers["Cache-Control"] = "no-store"
    return response


def _of(institution: Institution, document_id: int) -> Document:
    return get_object_or_404(institution.documents.select_related("institution"), pk=document_id)
