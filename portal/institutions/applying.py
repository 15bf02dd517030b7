"""Pages of the application: find your institution, people, profile, read back and send."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from portal import malware
from portal.accounts.requests import SignedInRequest
from portal.errors import DomainError, NotAllowed, tell
from portal.institutions import (
    advice,
    countries,
    documents,
    joining,
    onboarding,
    profile,
    registry,
    reviews,
    ror,
    services,
)
from portal.institutions.forms import BeginForm, InvitationForm, JoinForm, ProfileForm
from portal.institutions.lifecycle import ENDED, Status, is_editable
from portal.institutions.models import Institution
from portal.institutions.views import described, managed
from portal.institutions.vocabulary import UNKNOWABLE

STEPS = ["Find your institution", "People", "Profile", "Read back and send"]


@require_GET
def apply(request: SignedInRequest) -> HttpResponse:
    """Find the institution: here already, in the registry, or typed by hand. Typing swaps the answers only."""
    text = request.GET.get("q", "").strip()[:200]
    context = {"q": text, "steps": STEPS, **_found(text)}
    if request.htmx and not request.htmx.boosted:
        return render(request, "institutions/_found.html", context)
    context["drafts"] = services.institutions_of(request.user).filter(status=Status.DRAFT)
    return render(request, "institutions/institution_apply.html", context)


def _found(text: str) -> dict[str, Any]:
    """Return the members and the registry's organisations that a text names."""
    if not text:
        return {"members": [], "organisations": []}
    members = Institution.objects.filter(status=Status.MEMBER)
    key = registry.key_of(text)
    here = [row for row in members.order_by("name") if _names(row, key)][:8] if key else []
    known = {row.ror_id for row in here}
    rows = [row for row in registry.search(text) if row.ror_id not in known]
    return {
        "members": [(row, _country(row.country)) for row in here],
        "organisations": [(r, _country(r.country)) for r in rows],
    }


def _names(institution: Institution, key: str) -> bool:
    words = f" {registry.words_of([institution.name, institution.local_name])}"
    return all(f" {word}" in words for word in key.split())


def _country(alpha2: str) -> str:
    country = countries.countries().get(alpha2)
    return country.name if country else ""


def begin(request: SignedInRequest) -> HttpResponse:
    """Begin an application as a draft, from the registry's entry or by hand."""
    form = BeginForm(request.POST if request.method == "POST" else None, initial=_prefilled(request))
    twin: Institution | None = None
    if request.method == "POST" and form.is_valid():
        try:
            institution = services.start_application(by=request.user, now=timezone.now(), **form.cleaned_data)
            return redirect("institutions:team", institution.slug)
        except services.AlreadyHere as error:
            form.add_error("ror_id" if isinstance(error, services.RorIdTaken) else "name", str(error))
            twin = error.institution
    context = {
        "form": form,
        "steps": STEPS,
        "twin": twin,
        "offer": joining.offer(twin, request.user) if twin else "",
        "warned": twin is not None or form["is_another"].value(),
    }
    return render(request, "institutions/institution_begin.html", context, status=422 if form.errors else 200)


def _prefilled(request: HttpRequest) -> dict[str, Any]:
    row = registry.by_id(ror.normalise(request.GET.get("ror", "")))
    if row is None:
        return {"name": request.GET.get("name", "")[:250]}
    return {name: getattr(row, name) for name in ("ror_id", "name", "local_name", "country", "city", "website")}


def ask(request: SignedInRequest, slug: str) -> HttpResponse:
    """Ask an institution's managers for a role; one that is not public only with the offer that was made."""
    institution = _joinable(request, slug)
    form = JoinForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        joining.ask(institution, **form.cleaned_data, by=request.user, now=timezone.now())
        messages.success(request, f"The managers of {institution} have your request. They answer, not the consortium.")
        return redirect("institutions:mine")
    context = {"institution": institution, "form": form, "offer": request.GET.get("offer", "")}
    return render(request, "institutions/institution_ask.html", context, status=422 if form.errors else 200)


def _joinable(request: SignedInRequest, slug: str) -> Institution:
    offered = joining.offered(request.GET.get("offer", ""), request.user)
    institution = get_object_or_404(Institution.objects.exclude(status__in=ENDED), slug=slug)
    if institution.status != Status.MEMBER and institution.pk != offered:
        raise Http404
    return institution


@require_GET
def team(request: SignedInRequest, slug: str) -> HttpResponse:
    """Step 2: who is here, who is invited, and who is still missing."""
    institution = managed(request, slug)
    held = set(institution.memberships.current().values_list("role", flat=True))
    context = {
        "institution": institution,
        "steps": STEPS,
        "standing": onboarding.standing(institution),
        "memberships": institution.memberships.current().select_related("user").order_by("user__name", "pk"),
        "lacking": [role.label for role in services.Role if role not in held and role != services.Role.MEMBER],
        "invitations": institution.invitations.filter(accepted_at=None, withdrawn_at=None),
        "now": timezone.now(),
        "invitation_form": InvitationForm(initial={"role": request.GET.get("role", "")}),
    }
    return render(request, "institutions/institution_team.html", context)


def edit(request: SignedInRequest, slug: str) -> HttpResponse:
    """Step 3: the profile. Without JavaScript the button saves; what is wrong keeps its message, the rest is saved."""
    institution = managed(request, slug)
    if not is_editable(Status(institution.status)):
        return _fixed(request, institution)
    form = ProfileForm(request.POST if request.method == "POST" else None, institution=institution)
    if request.method == "POST":
        is_valid = form.is_valid()
        _save(request, institution, form)
        if is_valid and not form.errors:
            messages.success(request, "The profile is saved.")
            name = "institutions:show" if institution.status == Status.MEMBER else "institutions:review"
            return redirect(name, slug)
    context = described(institution) | {
        "form": form,
        "steps": STEPS,
        "standing": onboarding.standing(institution),
        "comments": reviews.comments_on(institution),
        "review": reviews.latest(institution),
        "documents": institution.documents.select_related("uploaded_by"),
        "max_bytes": documents.MAX_BYTES,
        "is_scanned": malware.is_wanted(),
        "unknowable": UNKNOWABLE,
    }
    return render(request, "institutions/institution_edit.html", context, status=422 if form.errors else 200)


def _fixed(request: SignedInRequest, institution: Institution) -> HttpResponse:
    tell(request, NotAllowed(f"The profile is fixed: {institution.get_status_display().lower()}."))
    return redirect(institution)


def _save(request: SignedInRequest, institution: Institution, form: ProfileForm) -> None:
    """Write what is valid and changed; a refusal becomes a message at its field."""
    try:
        services.change_profile(institution, by=request.user, marks=form.marks(), **form.changes())
    except services.RorIdTaken as error:
        form.add_error("ror_id", str(error))


@require_POST
def save_field(request: SignedInRequest, slug: str, field: str) -> HttpResponse:
    """Save one field as it is left; answer what stands beside it: the time, or what is wrong."""
    institution = managed(request, slug)
    if field not in profile.FIELDS:
        raise Http404
    if not is_editable(Status(institution.status)):
        raise NotAllowed(f"The profile is fixed: {institution.get_status_display().lower()}. Reload the page.")
    form = ProfileForm(request.POST, institution=institution, only=[field])
    if form.is_valid():
        _save_one(request, institution, form, field)
    context: dict[str, Any] = {"errors": form.errors.get(field, []), "saved_at": timezone.now(), "field": field}
    return render(request, "institutions/_saved.html", context)


def _save_one(request: SignedInRequest, institution: Institution, form: ProfileForm, field: str) -> None:
    marks = {field: field in request.POST.getlist("unknown")}
    try:
        services.change_profile(institution, by=request.user, marks=marks, **{field: form.cleaned_data[field]})
    except services.RorIdTaken as error:
        form.add_error(field, str(error))


@require_GET
def review(request: SignedInRequest, slug: str) -> HttpResponse:
    """Step 4: read the application back, with advice and what is missing, before it is sent."""
    institution = managed(request, slug)
    if institution.status not in {Status.DRAFT, Status.RETURNED}:
        return redirect(institution)
    context = described(institution) | {
        "steps": STEPS,
        "sections": read_back(institution),
        "advice": advice.recommend(institution),
        "missing": onboarding.missing(institution),
        "standing": onboarding.standing(institution),
        "has_investigator": services.people(institution, services.Role.PRINCIPAL_INVESTIGATOR).exists(),
    }
    return render(request, "institutions/institution_review.html", context)


def read_back(institution: Institution) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the anchor and heading of each section and its answers in words."""
    return [
        (anchor, heading, [_answer(institution, name) for name in names])
        for anchor, heading, _, names in profile.SECTIONS
    ]


def _answer(institution: Institution, name: str) -> tuple[str, str]:
    return profile.label(name), profile.in_words(name, getattr(institution, name), unknown=institution.unknown)


@require_POST
def submit(request: SignedInRequest, slug: str) -> HttpResponse:
    """Send the application."""
    institution = managed(request, slug)
    try:
        services.apply(institution, by=request.user, now=timezone.now())
        messages.success(request, "The application is sent. A reviewer looks at it, the board votes, a mail tells you.")
    except DomainError as error:
        tell(request, error)
    return redirect("institutions:onboarding", slug)
