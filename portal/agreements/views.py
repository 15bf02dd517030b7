"""Pages of agreements: the list, preparing one, the case and what ends it. Signing is in signing_views.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from portal.accounts.requests import SignedInRequest
from portal.accounts.services import has_role
from portal.agreements import actions, services, terms
from portal.agreements.forms import PrepareForm, ReasonForm, TerminateForm, label_of
from portal.agreements.lifecycle import OPEN, Status
from portal.agreements.models import Agreement, AgreementVersion, Party, Signature, SigningRequest
from portal.agreements.rendering import variables_of
from portal.agreements.standing import next_url
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.institutions import services as institutions
from portal.institutions.models import Institution

PAGE_SIZE = 50
SIGN_WITHIN_DAYS = 14  # what the page shows as the target date of each signature


@dataclass(frozen=True)
class Stop:
    """One signer on the case's way: who it is, and the signature or the people who can give it."""

    party: Party
    signature: Signature | None
    people: Sequence[str]
    is_next: bool


@dataclass(frozen=True)
class Row:
    """One agreement of one institution in the list."""

    institution: Institution
    agreement: Agreement
    version: AgreementVersion
    place: services.Standing
    url: str
    changes_url: str


# The list and the cases


@require_GET
@login_not_required
def list_(request: HttpRequest) -> HttpResponse:
    """Show, to people of institutions, where these stand; and to everybody the texts."""
    versions = list(
        AgreementVersion.objects.select_related("agreement__programme")
        .defer("text", "side_notes")
        .order_by("agreement__programme__name", "agreement", "-version")
    )
    newest: dict[int, AgreementVersion] = {}
    for row in versions:
        newest.setdefault(row.agreement_id, row)
    own = list(institutions.institutions_of(request.user).order_by("name")) if request.user.is_authenticated else []
    context = {
        "versions": [(row, newest[row.agreement_id] == row) for row in versions],
        "rows": _rows(own, newest, now=timezone.now()),
        "own": own,
        "countersigns": services.signs_for_consortium(request.user),
        "sees_cases": request.user.is_authenticated and request.user.consortium_roles.current().exists(),
    }
    return render(request, "agreements/agreement_list.html", context)


def _rows(own: list[Institution], newest: dict[int, AgreementVersion], *, now: datetime) -> list[Row]:
    agreements = [version.agreement for version in newest.values()]
    places = services.standings(own, agreements, now=now) if own else {}
    return [
        _row(party, newest[agreement.pk], places[party.pk, agreement.pk]) for party in own for agreement in agreements
    ]


def _row(party: Institution, version: AgreementVersion, place: services.Standing) -> Row:
    agreement, case = version.agreement, place.request
    signed = case.agreement_version.version if case and case.activated_at else version.version
    changes = reverse("agreements:changes", args=[agreement.programme.slug, agreement.slug, version.version, signed])
    here = case.get_absolute_url() if case and case.institution_id == party.pk else next_url(party, agreement, place)
    return Row(party, agreement, version, place, here, changes if signed < version.version else "")


@require_GET
def cases(request: SignedInRequest) -> HttpResponse:
    """List the cases that the person may see, newest first."""
    rows = SigningRequest.objects.visible_to(request.user).defer("text", "variables", "agreement_version__text")
    rows = rows.select_related("institution", "agreement_version__agreement__programme")
    before = request.GET.get("before", "")
    page = list((rows.filter(pk__lt=int(before[:18])) if before.isdecimal() else rows)[: PAGE_SIZE + 1])
    context = {
        "cases": page[:PAGE_SIZE],
        "more": page[PAGE_SIZE - 1].pk if len(page) > PAGE_SIZE else None,
        "before": before,
    }
    return render(request, "agreements/case_list.html", context)


@require_GET
def countersign(request: SignedInRequest) -> HttpResponse:
    """List what waits for the consortium's signature, the longest wait first."""
    if not services.signs_for_consortium(request.user) and not has_role(request.user, "operator", "auditor"):
        raise PermissionDenied("Only signatories of the consortium, operators and auditors see this list.")
    rows = SigningRequest.objects.filter(status=Status.SIGNING).defer("text", "variables", "agreement_version__text")
    rows = rows.select_related("institution", "agreement_version__agreement__programme", "agreement")
    rows = rows.annotate(signed=Count("signatures"), signed_last=Max("signatures__signed_at"))
    now = timezone.now()
    waiting = [
        (case, case.signed_last or case.status_since, (now - (case.signed_last or case.status_since)).days)
        for case in rows
        if case.agreement.signing_order[case.signed :][:1] == [Party.CONSORTIUM]
    ]
    context = {"waiting": sorted(waiting, key=lambda row: row[1]), "within": SIGN_WITHIN_DAYS}
    return render(request, "agreements/countersign.html", context)


# Preparing


def _party(request: SignedInRequest, slug: str) -> Institution:
    institution = get_object_or_404(Institution.objects.visible_to(request.user), slug=slug)
    if not institutions.is_member(request.user, institution):
        raise PermissionDenied(f"Only people of {institution} see this page.")
    return institution


def _agreement(programme: str, slug: str) -> Agreement:
    """Return the agreement that is meant; where none is named, the first of the (first) programme."""
    rows = Agreement.objects.filter(versions__isnull=False).select_related("programme").distinct()
    rows = rows.filter(programme__slug=programme) if programme else rows
    rows = rows.filter(slug=slug) if slug else rows
    found = rows.order_by("programme", "pk").first()
    if found is None:
        raise Http404("No such agreement has been published.")
    return found


@require_GET
def sign(request: SignedInRequest, slug: str, programme: str = "", agreement: str = "") -> HttpResponse:
    """Lead to where an institution's agreement is taken further: the case on its way, or the page to prepare one."""
    institution, row = _party(request, slug), _agreement(programme, agreement)
    on_its_way = SigningRequest.objects.filter(institution=institution, agreement=row, status__in=OPEN).first()
    if on_its_way is not None:
        return redirect(on_its_way)
    place = services.standing(institution, row, now=timezone.now())
    if place.request is not None and place.state == services.State.ACTIVE:
        return redirect(place.request)
    return redirect("agreements:prepare", institution.slug, row.programme.slug, row.slug)


def prepare(request: SignedInRequest, slug: str, programme: str, agreement: str) -> HttpResponse:
    """Ask for the particulars, and write the exact text from them."""
    institution, row = _party(request, slug), _agreement(programme, agreement)
    version = services.newest_of(row)
    assert version is not None  # _agreement returns only published ones
    before = SigningRequest.objects.filter(institution=institution, agreement=row).exclude(status="withdrawn").first()
    data = request.POST if request.method == "POST" else None
    form = PrepareForm(data, version=version, institution=institution, before=before)
    may_prepare = services.may_prepare(request.user, institution)
    if request.method == "POST" and not may_prepare:
        raise NotAllowed(f"Only a principal investigator, data steward or signing official of {institution} can do it.")
    if request.method == "POST" and form.is_valid():
        case = services.prepare(
            row,
            institution,
            variables=form.variables(),
            covered=form.covered(),
            by=request.user,
            now=timezone.now(),
        )
        return redirect(case)
    context = {
        "form": form,
        "institution": institution,
        "agreement_version": version,
        "agreement": row,
        "place": services.standing(institution, row, now=timezone.now()),
        "before": before,
        "may_prepare": may_prepare,
        "is_member": institution.status == "member",
    }
    return render(request, "agreements/agreement_prepare.html", context, status=422 if form.errors else 200)


# The case


def case_of(request: SignedInRequest, pk: int) -> SigningRequest:
    """Return a case that the person may see."""
    rows = SigningRequest.objects.select_related(
        "institution", "agreement_version__agreement__programme", "agreement__programme", "renews"
    )
    return get_object_or_404(rows.visible_to(request.user), pk=pk)


@require_GET
def case(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show where a case stands: who has signed, who is next, what one can do."""
    row = case_of(request, pk)
    now = timezone.now()
    stops = route(row)
    since = max([row.status_since, *(stop.signature.signed_at for stop in stops if stop.signature)])
    place = services.standing(row.institution, row.agreement, now=now)
    newest = services.newest_of(row.agreement)
    context = {
        "case": row,
        "agreement_version": row.agreement_version,
        "stops": stops,
        "since": since if row.status in OPEN else row.status_since,
        "target": since + timedelta(days=SIGN_WITHIN_DAYS) if row.status == Status.SIGNING else _last_day(row),
        "is_open": row.status in OPEN,
        "next_party": services.next_party(row),
        "place": place if place.request == row else None,
        "newest": newest if newest and newest.version > row.agreement_version.version else None,
        "actions": actions.available(row, request.user, now=now),
        "obstacles": services.obstacles(row) if row.status == Status.DRAFT else [],
        "covered": [
            (cover, actions.of_cover(cover, request.user))
            for cover in row.covered.select_related("institution", "request")
        ],
        "particulars": _particulars(row),
        "timeline": audit.with_sentences(audit.of(row).order_by("pk")),
    }
    return render(request, "agreements/case_show.html", context)


def _last_day(row: SigningRequest) -> date | None:
    return row.last_day if row.activated_at or row.status == Status.DRAFT else None


def route(row: SigningRequest) -> list[Stop]:
    """Return the signers of a case in their order."""
    signed = {signature.role: signature for signature in row.signatures.all()}
    following = services.next_party(row)
    return [
        Stop(
            party,
            signed.get(party),
            [] if party in signed else sorted(services.signers(row, party).values_list("name", flat=True)),
            party == following,
        )
        for party in services.order_of(row)
    ]


def _particulars(row: SigningRequest) -> list[tuple[str, str]]:
    """Return what was filled in, in the order of the text; its last day is shown by itself."""
    wanted = [name for name in variables_of(row.agreement_version.text) if name != "expires_on"]
    return [(label_of(name), terms.written(row, name)) for name in wanted if name in row.variables]


@require_POST
def send(request: SignedInRequest, pk: int) -> HttpResponse:
    """Send a draft to its signers."""
    row = services.send(case_of(request, pk), by=request.user, now=timezone.now())
    messages.success(request, "Sent. The first signer has been told; you see here who is next.")
    return redirect(row)


@require_POST
def confirm(request: SignedInRequest, pk: int, cover_pk: int) -> HttpResponse:
    """Agree, for a further hospital, to stand under the agreement."""
    row = case_of(request, pk)
    cover = get_object_or_404(row.covered.select_related("institution"), pk=cover_pk)
    services.confirm_cover(cover, by=request.user, now=timezone.now())
    messages.success(request, f"Confirmed. {cover.institution} stands under this agreement once it is in force.")
    return redirect(row)


def decline(request: SignedInRequest, pk: int) -> HttpResponse:
    """Refuse to sign, with a reason."""
    row = case_of(request, pk)
    form = ReasonForm(request.POST or None)
    if row.status in OPEN and not services.may_decline(request.user, row):
        raise NotAllowed(f"Only those who are to sign {row} can decline it.", next_url=row.get_absolute_url())
    if form.is_valid():
        services.decline(row, by=request.user, reason=form.cleaned_data["reason"], now=timezone.now())
        messages.success(request, "Declined. Everybody in this case has been told why.")
        return redirect(row)
    return render(
        request, "agreements/case_decline.html", {"case": row, "form": form}, status=422 if form.errors else 200
    )


def withdraw(request: SignedInRequest, pk: int) -> HttpResponse:
    """Take a case back, after asking."""
    row = case_of(request, pk)
    if not services.may_withdraw(request.user, row):
        raise NotAllowed(f"Only people who prepare agreements of {row.institution} can withdraw it.")
    if request.method == "POST":
        services.withdraw(row, by=request.user, now=timezone.now())
        messages.success(request, "Withdrawn. You can prepare it again with other particulars.")
        return redirect(row)
    return render(request, "agreements/case_withdraw.html", {"case": row})


def terminate(request: SignedInRequest, pk: int) -> HttpResponse:
    """End an agreement in force: first what it does, then the title typed."""
    row = case_of(request, pk)
    if not services.may_terminate(request.user, row):
        raise NotAllowed(f"You cannot terminate {row}: its signers and the consortium's can.")
    now = timezone.now()
    ends_on = services.notice_until(row, by=request.user, now=now)
    form = TerminateForm(request.POST or None, case=row)
    if form.is_valid():
        services.terminate(row, by=request.user, reason=form.cleaned_data["reason"], now=now)
        done = f"Notice is given: it is in force until {ends_on:%-d %B %Y}." if ends_on else "Terminated."
        messages.success(request, f"{done} Everybody whom it concerns has been told why.")
        return redirect(row)
    effects = services.effects_of_termination(row, reader=request.user)
    context = {"case": row, "form": form, "ends_on": ends_on, "effects": effects}
    return render(request, "agreements/case_terminate.html", context, status=422 if form.errors else 200)


@require_GET
def expiry_ics(request: SignedInRequest, pk: int) -> HttpResponse:
    """Send the last day of an agreement for the reader's calendar."""
    row = case_of(request, pk)
    if row.last_day is None:
        raise Http404("This agreement does not expire.")
    headers = {"Content-Disposition": f'attachment; filename="agreement-{row.pk}.ics"', "Cache-Control": "private"}
    return HttpResponse(services.ics(row, now=timezone.now()), content_type="text/calendar", headers=headers)
