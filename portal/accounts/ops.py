"""Pages of the operators: who has an account, who holds which role in the consortium, which accounts look alike."""

from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_GET

from portal.accounts import orcid, services
from portal.accounts.forms import AppointForm
from portal.accounts.models import ConsortiumRole, User
from portal.accounts.requests import SignedInRequest
from portal.accounts.standing import BINDING_MEMBERSHIPS, BINDING_ROLES, FACTORS
from portal.errors import DomainError, tell

PAGE_SIZE = 50


def _require_reader(request: SignedInRequest) -> None:
    if not services.has_role(request.user, "operator", "auditor"):
        raise PermissionDenied("Operators and auditors see who has an account.")


def _require_operator(request: SignedInRequest) -> None:
    if not services.has_role(request.user, "operator"):
        raise PermissionDenied("Only operators appoint people and end their roles.")


@require_GET
def people(request: SignedInRequest) -> HttpResponse:
    """List the accounts with roles and second factor, and those that look like one person."""
    _require_reader(request)
    return _page(request, AppointForm())


def _page(request: SignedInRequest, form: AppointForm) -> HttpResponse:
    query, after = request.GET.get("q", "").strip()[:200], request.GET.get("after", "")
    rows = _accounts(query)
    if after.isdecimal():
        rows = rows.filter(pk__gt=int(after[:18]))
    found = list(rows[: PAGE_SIZE + 1])
    orcids = orcid.orcids_of(found)
    context = {
        "people": [(person, orcids.get(person.pk, "")) for person in found[:PAGE_SIZE]],
        "after": found[PAGE_SIZE - 1].pk if len(found) > PAGE_SIZE else 0,
        "q": query,
        "query": urlencode({"q": query}) if query else "",
        "alike": services.look_alikes(),
        "form": form,
        "may_change": services.has_role(request.user, "operator"),
        "roles": ConsortiumRole.objects.current().select_related("user", "programme").order_by("role", "user__name"),
    }
    return render(request, "accounts/people.html", context, status=422 if form.errors else 200)


def _accounts(query: str) -> QuerySet[User]:
    factors = Authenticator.objects.filter(user=OuterRef("pk"), type__in=FACTORS)
    binding = User.objects.filter(
        Q(consortium_roles__ended_at=None, consortium_roles__role__in=BINDING_ROLES)
        | Q(memberships__ended_at=None, memberships__role__in=BINDING_MEMBERSHIPS),
        pk=OuterRef("pk"),
    )
    rows = User.objects.filter(erased_at=None).annotate(enrolled=Exists(factors), binds=Exists(binding)).order_by("pk")
    current = Prefetch("consortium_roles", ConsortiumRole.objects.current(), to_attr="roles_now")
    rows = rows.prefetch_related(current)
    return rows.filter(Q(name__icontains=query) | Q(email__icontains=query)) if query else rows


def appoint(request: SignedInRequest) -> HttpResponse:
    """Give somebody a role in the consortium."""
    _require_operator(request)
    form = AppointForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, form)
    person, role = form.cleaned_data["email"], form.cleaned_data["role"]
    row = services.appoint(person, role, by=request.user, now=timezone.now())
    messages.success(request, f"{person} is now {row.get_role_display().lower()}.")
    return redirect("people")


def end_role(request: SignedInRequest, role_id: int) -> HttpResponse:
    """End a role in the consortium, after asking."""
    _require_operator(request)
    role = get_object_or_404(ConsortiumRole.objects.current().select_related("user", "programme"), pk=role_id)
    if request.method != "POST":
        return render(request, "accounts/role_end.html", {"role": role})
    try:
        services.end_role(role, by=request.user, now=timezone.now())
        messages.success(request, f"{role} has ended.")
    except DomainError as error:
        tell(request, error)
    return redirect("people")
