"""Receipts: the public proof, and for the parties the whole of it."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from portal.accounts.requests import SignedInRequest
from portal.agreements import pdf, receipts
from portal.agreements.models import SigningRequest
from portal.signing import canonical

TONES = {receipts.State.ACTIVE: "good", receipts.State.EXPIRING: "warn"}
PRIVATE = {"Cache-Control": "private, no-store"}


def _public(code: str) -> SigningRequest:
    return get_object_or_404(receipts.receipted(), receipt_code=code)


def _own(request: HttpRequest, code: str) -> SigningRequest:
    """Return the case to people of its institutions and of the consortium; nobody else learns that it is there."""
    return get_object_or_404(receipts.receipted().visible_to(request.user), receipt_code=code)


def _document(document: dict[str, object], filename: str, headers: dict[str, str]) -> HttpResponse:
    """Send a receipt in the bytes that were signed, but for the signature itself."""
    disposition = {"Content-Disposition": f'inline; filename="{filename}"'}
    return HttpResponse(canonical(document), content_type="application/json", headers=disposition | headers)


@require_GET
@login_not_required
def show(request: HttpRequest, code: str) -> HttpResponse:
    """Show what was signed, by which institution, when and in which state; no personal data beyond the roles."""
    case = _public(code)
    now = timezone.now()
    state = receipts.state_of(case, now=now)
    context = {
        "case": case,
        "agreement": case.agreement,
        "agreement_version": case.agreement_version,
        "signatures": list(case.signatures.all()),
        "covered": case.covered.filter(confirmed_at__isnull=False).select_related("institution"),
        "state": state,
        "tone": TONES.get(state, "ended"),
        "text_matches": receipts.text_matches(case),
        "chain_holds": receipts.chain_holds(case),
        "looked_at": now,
        "key": receipts.keys()["keys"][0],
        "sees_more": receipts.receipted().visible_to(request.user).filter(pk=case.pk).exists(),
    }
    return render(request, "agreements/receipt_show.html", context)


@require_GET
@login_not_required
def public_json(request: HttpRequest, code: str) -> HttpResponse:
    """Send the receipt without personal data, signed."""
    document = receipts.public_form(_public(code), now=timezone.now())
    return _document(document, f"receipt-{code}.json", {"Cache-Control": "no-store"})


@require_GET
def full_json(request: SignedInRequest, code: str) -> HttpResponse:
    """Send the receipt with text and signatures, signed."""
    document = receipts.full_form(_own(request, code), now=timezone.now())
    return _document(document, f"receipt-{code}-full.json", PRIVATE)


@require_GET
def text(request: SignedInRequest, code: str) -> HttpResponse:
    """Send the exact bytes that are signed, also before; they name people: only parties and consortium get them."""
    case = get_object_or_404(SigningRequest.objects.visible_to(request.user), receipt_code=code)
    return HttpResponse(case.text.encode(), content_type="text/markdown; charset=utf-8", headers=PRIVATE)


@require_GET
def receipt_pdf(request: SignedInRequest, code: str) -> HttpResponse:
    """Send text and signatures as a PDF."""
    case = _own(request, code)
    filename = f"{case.agreement.slug}-{case.agreement_version.version}-{case.institution.slug}.pdf"
    headers = PRIVATE | {"Content-Disposition": f'inline; filename="{filename}"'}
    return HttpResponse(pdf.receipt(case), content_type="application/pdf", headers=headers)


@require_GET
@login_not_required
def keys(request: HttpRequest) -> HttpResponse:
    """Send the public key with which anyone verifies a receipt."""
    return JsonResponse(receipts.keys())
