"""The page of an institution's signing keys."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError
from portal.institutions import signing_keys
from portal.institutions.forms import RevokeKeyForm, SigningKeyForm
from portal.institutions.models import Institution
from portal.institutions.views import visible


def keys(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the keys; a signing official registers another."""
    institution = visible(request, slug)
    if not request.user.has_perm("institutions.view_file", institution):
        raise PermissionDenied(f"Only people of {institution} see its signing keys.")
    may_register = signing_keys.may_register(request.user, institution)
    if request.method == "POST" and not may_register:
        raise PermissionDenied(f"Only a signing official of {institution} registers keys.")
    form = SigningKeyForm(request.POST or None, request=request)
    if request.method == "POST" and form.is_valid() and _register(request, institution, form):
        return redirect("institutions:keys", slug)
    context = {
        "institution": institution,
        "keys": institution.signing_keys.select_related("registered_by", "revoked_by"),
        "form": form,
        "new_command": f"consortium keys new --institution {slug}",
        "may_register": may_register,
        "may_revoke": signing_keys.may_revoke(request.user, institution),
    }
    return render(request, "institutions/key_list.html", context, status=422 if form.errors else 200)


def _register(request: SignedInRequest, institution: Institution, form: Any) -> bool:
    """Register what the form holds; what is wrong with it stands at its field."""
    given = {name: form.cleaned_data[name] for name in ("registration", "label")}
    try:
        key = signing_keys.register(institution, **given, by=request.user, now=timezone.now())
    except (signing_keys.KeyRefused, signing_keys.KeyKnown) as error:
        form.add_error("registration", str(error))
        return False
    messages.success(request, f"The key {key.fingerprint[:16]} is registered. The kit can sign with it from now on.")
    return True


def revoke(request: SignedInRequest, slug: str, key_id: int) -> HttpResponse:
    """Revoke a key, after asking why."""
    institution = visible(request, slug)
    if not signing_keys.may_revoke(request.user, institution):
        raise PermissionDenied(f"Only people who act for {institution} revoke its keys.")
    key = get_object_or_404(institution.signing_keys.in_force(), pk=key_id)
    form = RevokeKeyForm(request.POST or None)
    if form.is_valid():
        try:
            signing_keys.revoke(key, **form.cleaned_data, by=request.user, now=timezone.now())
            messages.success(request, f"The key {key.fingerprint[:16]} is revoked.")
        except DomainError as error:
            messages.error(request, str(error))
        return redirect("institutions:keys", slug)
    context = {"institution": institution, "key": key, "form": form}
    return render(request, "institutions/key_revoke.html", context, status=422 if form.errors else 200)
