"""Pages on the way in: the second factor that a role needs, the terms of the site."""

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from portal.accounts import terms
from portal.accounts.models import SiteTerms
from portal.accounts.requests import SignedInRequest
from portal.accounts.standing import BINDING_MEMBERSHIPS, BINDING_ROLES, standing_of

BACK = "after_second_factor"  # in the session: where the person wanted to go


def _next(request: HttpRequest, default: str) -> str:
    """Return where the person wanted to go, if it is a page of ours."""
    url = request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(url, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return url if ours else default


def second_factor(request: SignedInRequest) -> HttpResponse:
    """Say why the role needs a second factor and where to set one up; once there is one, go on."""
    standing = standing_of(request.user)
    if standing.has_second_factor:
        return redirect(request.session.pop(BACK, "") or reverse("mfa_index"))
    if "next" in request.GET:
        request.session[BACK] = _next(request, "")
    roles = request.user.consortium_roles.current().filter(role__in=BINDING_ROLES)
    memberships = request.user.memberships.current().filter(role__in=BINDING_MEMBERSHIPS)
    context = {
        "forced": standing.needs_second_factor,
        "roles": roles,
        "memberships": memberships.select_related("institution"),
    }
    return render(request, "accounts/second_factor.html", context)


class AcceptForm(forms.Form):
    agree = forms.BooleanField(label=_("I have read these terms and I accept them."))
    version = forms.IntegerField(widget=forms.HiddenInput)


def accept_terms(request: SignedInRequest) -> HttpResponse:
    """Show the terms in force and accept them, then go on to where the person wanted to go."""
    row, next_url = terms.current(), _next(request, reverse("home"))
    if row is None or row.acceptances.filter(user=request.user).exists():
        return redirect(next_url)
    form = AcceptForm(request.POST or None, initial={"version": row.version})
    if request.method == "POST" and form.is_valid():
        read = get_object_or_404(SiteTerms, version=form.cleaned_data["version"])
        terms.accept(read, by=request.user, now=timezone.now())
        return redirect(next_url)
    earlier = request.user.terms_acceptances.exists()
    context = {"terms": row, "form": form, "next": next_url, "earlier": earlier}
    return render(request, "accounts/terms_accept.html", context, status=422 if form.errors else 200)


@require_GET
@login_not_required
def read_terms(request: HttpRequest, version: int | None = None) -> HttpResponse:
    """Show the terms in force, or an earlier version."""
    newest = terms.current()
    row = newest if version is None else get_object_or_404(SiteTerms, version=version)
    context = {"terms": row, "newest": newest, "versions": SiteTerms.objects.order_by("-version")}
    return render(request, "accounts/terms.html", context)
