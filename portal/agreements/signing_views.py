"""The page on which a person signs: the exact text, what the signature means, who one is, again."""

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from portal.accounts.requests import SignedInRequest
from portal.agreements import services
from portal.agreements.forms import SignForm
from portal.agreements.models import Party, SigningRequest
from portal.agreements.reading import clauses
from portal.agreements.views import case_of, route


def sign(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show the exact text and, to whoever's turn it is, the place to sign. A late link shows the case instead."""
    case = case_of(request, pk)
    party = services.next_party(case)
    if party is None or case.signatures.filter(signer=request.user).exists():
        return redirect(case)
    may_sign = services.may_sign(request.user, case)
    form = SignForm(request.POST or None, request=request, case=case, party=party)
    if request.method == "POST" and not may_sign:
        raise services.NotYourTurn(f"{party.label} signs next, and that is not you.", next_url=case.get_absolute_url())
    if request.method == "POST" and form.is_valid():
        return _sign(request, case, party, form)
    context = {
        "case": case,
        "agreement_version": case.agreement_version,
        "clauses": clauses(case.text, case.agreement_version.side_notes),
        "party": party,
        "meaning": services.MEANING[party],
        "may_sign": may_sign,
        "stops": route(case),
        "form": form,
    }
    return render(request, "agreements/case_sign.html", context, status=422 if form.errors else 200)


def _sign(request: SignedInRequest, case: SigningRequest, party: Party, form: SignForm) -> HttpResponse:
    services.sign(
        case,
        by=request.user,
        typed_name=form.cleaned_data["typed_name"],
        authority=services.AUTHORITY[party],
        authentication=form.methods,
        ip_address=get_adapter().get_client_ip(request),
        user_agent=request.META.get("HTTP_USER_AGENT", ""),
        now=timezone.now(),
    )
    case.refresh_from_db()
    following = services.next_party(case)
    after = f"Next: {following.label.lower()}." if following else "The agreement is in force."
    messages.success(request, f"Signed. {after}")
    return redirect(case if following else case.receipt_url)
