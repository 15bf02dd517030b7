"""Pages of the data-use agreement: read, sign, receipt."""

import time
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from portal.accounts.requests import SignedInRequest
from portal.agreements import pdf, services
from portal.agreements.forms import SignForm
from portal.agreements.models import AgreementVersion, Signature
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.markdown import to_html
from portal.programmes.models import Programme

# What a fresh proof of identity is called on the receipt, by the name that allauth records it under.
PROOFS = {"password": "password", "totp": "authenticator app", "webauthn": "passkey", "recovery_codes": "recovery code"}


@require_GET
@login_not_required
def list_(request: HttpRequest) -> HttpResponse:
    """Show every version of the agreement and, to people of institutions, who has signed."""
    versions = AgreementVersion.objects.select_related("programme").order_by("programme__name", "-version")
    own = institutions.institutions_of(request.user).order_by("name") if request.user.is_authenticated else []
    current = {row.programme_id: row for row in reversed(versions)}
    context = {
        "versions": [(row, current[row.programme_id] == row) for row in versions],
        "own": [
            (row, agreement, services.signature_under(agreement, row), services.may_sign(request.user, row))
            for row in own
            for agreement in current.values()
        ],
    }
    return render(request, "agreements/agreement_list.html", context)


def _version(programme: str, version: int) -> AgreementVersion:
    rows = AgreementVersion.objects.select_related("programme")
    return get_object_or_404(rows, programme__slug=programme, version=version)


@require_GET
@login_not_required
def read(request: HttpRequest, programme: str, version: int) -> HttpResponse:
    """Show one version: anybody may read it before there is an account."""
    agreement = _version(programme, version)
    newest = services.current(agreement.programme)
    context = {
        "agreement": agreement,
        "html": to_html(agreement.text),
        "newest": newest,
        "is_current": newest == agreement,
    }
    return render(request, "agreements/agreement_read.html", context)


@require_GET
@login_not_required
def text(request: HttpRequest, programme: str, version: int) -> HttpResponse:
    """Send the exact bytes whose SHA-256 is signed."""
    agreement = _version(programme, version)
    return HttpResponse(agreement.text.encode(), content_type="text/markdown; charset=utf-8")


def _fresh_proof(request: SignedInRequest) -> str:
    """
    Return how the person just proved again who they are.

    Raises:
        NotAllowed: they did not; allauth lets an account pass that has neither password nor second factor.
    """
    since = time.time() - settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
    records = get_authentication_records(request, request.user)
    proofs = [record for record in records if record.get("reauthenticated") and record["at"] >= since]
    if not proofs:
        raise NotAllowed("A signature needs a fresh proof of who you are. Set a password or a passkey on your account.")
    return PROOFS[proofs[-1].get("type") or proofs[-1]["method"]]


def _to_sign(programme: str) -> AgreementVersion:
    """Return the version in force of a programme; of the first programme where none is named."""
    rows = Programme.objects.order_by("pk")
    row = get_object_or_404(rows, slug=programme) if programme else rows.first()
    agreement = services.current(row) if row else None
    if agreement is None:
        raise Http404("No agreement has been published.")
    return agreement


def sign(request: SignedInRequest, slug: str, programme: str = "") -> HttpResponse:
    """Show the exact text and, to the signing official, the place to sign."""
    institution = get_object_or_404(Institution.objects.visible_to(request.user), slug=slug)
    if not request.user.has_perm("institutions.view_file", institution):
        raise PermissionDenied(f"Only people of {institution} see this page.")
    agreement = _to_sign(programme)
    signature = services.signature_under(agreement, institution)
    if signature is not None:
        return redirect(signature)
    may_sign = services.may_sign(request.user, institution)
    form = SignForm(request.POST or None, agreement=agreement, signer=request.user)
    if request.method == "POST" and form.is_valid():
        return _sign(request, agreement, institution, form.cleaned_data["typed_name"])
    context = {
        "institution": institution,
        "agreement": agreement,
        "html": to_html(agreement.text),
        "meaning": services.MEANING,
        "may_sign": may_sign,
        "officials": institutions.people(institution, institutions.Role.SIGNING_OFFICIAL),
        "form": form,
    }
    return render(request, "agreements/agreement_sign.html", context, status=422 if form.errors else 200)


@reauthentication_required
def _sign(
    request: SignedInRequest, agreement: AgreementVersion, institution: Institution, typed_name: str
) -> HttpResponse:
    """Ask who the person is, again, then sign. allauth keeps the form meanwhile and calls the view once more."""
    signature = services.sign(
        agreement,
        institution,
        by=request.user,
        typed_name=typed_name,
        authentication=_fresh_proof(request),
        ip_address=get_adapter().get_client_ip(request),
        user_agent=request.META.get("HTTP_USER_AGENT", ""),  # of the form that was kept, as the address is
        now=timezone.now(),
    )
    messages.success(request, f"Signed. {institution} can contribute now.")
    return redirect(signature)


def _signature(code: str) -> Signature:
    rows = Signature.objects.select_related("agreement__programme", "institution", "signer")
    return get_object_or_404(rows, receipt_code=code)


@require_GET
@login_not_required
def receipt(request: HttpRequest, code: str) -> HttpResponse:
    """Show what was signed. The public sees no personal data beyond the role."""
    signature = _signature(code)
    context: dict[str, Any] = {
        "signature": signature,
        "agreement": signature.agreement,
        "text_matches": services.text_sha256(signature.agreement.text) == signature.text_sha256,
        "newest": services.current(signature.agreement.programme),
        "sees_more": request.user.has_perm("institutions.view_file", signature.institution),
    }
    return render(request, "agreements/receipt_show.html", context)


@require_GET
def receipt_pdf(request: SignedInRequest, code: str) -> HttpResponse:
    """Send the receipt as a PDF, with the name, to the institution's people and the consortium."""
    signature = _signature(code)
    if not request.user.has_perm("institutions.view_file", signature.institution):
        raise PermissionDenied("The PDF names the signer, so only the institution's people and the consortium get it.")
    filename = f"agreement-{signature.agreement.version}-{signature.institution.slug}.pdf"
    headers = {"Content-Disposition": f'inline; filename="{filename}"', "Cache-Control": "private, no-store"}
    return HttpResponse(pdf.receipt(signature), content_type="application/pdf", headers=headers)
