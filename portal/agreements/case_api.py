"""API: signing cases. They are prepared, sent, declined, withdrawn and terminated here; signed only on their page."""

from typing import Any, NoReturn

from django.http import QueryDict
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts import scopes
from portal.accounts.requests import person_of
from portal.agreements import services
from portal.agreements.case_serializers import (
    CaseDetailSerializer,
    CaseFilterSerializer,
    CaseSerializer,
    CoverSerializer,
    DeclineCaseSerializer,
    EffectsSerializer,
    PrepareSerializer,
    TerminateCaseSerializer,
)
from portal.agreements.forms import PrepareForm
from portal.agreements.lifecycle import OPEN
from portal.agreements.models import Agreement, SigningRequest
from portal.errors import NotAllowed
from portal.institutions.api_access import with_file
from portal.institutions.models import Institution
from portal.openapi import operation, page_of, valid
from portal.paging import BEFORE, page

GROUP = "Agreements"


def _case(request: Request, case_id: int) -> SigningRequest:
    """Return a case that the person may see."""
    rows = SigningRequest.objects.select_related(
        "institution", "agreement_version__agreement__programme", "agreement__programme"
    )
    return get_object_or_404(rows.visible_to(request.user), pk=case_id)


def _answer(request: Request, case: SigningRequest, status: int = 200) -> Response:
    """Answer with the case as it is now."""
    row = _case(request, case.pk)
    return Response(CaseDetailSerializer(row, context={"request": request}).data, status=status)


def _step(name: str, summary: str, takes: Any = None, description: str = "") -> Any:
    """Describe a step of a case: it answers with the case as it is afterwards."""
    answers = CaseDetailSerializer
    return operation("POST", name, summary, group=GROUP, takes=takes, answers=answers, description=description)


@operation(
    "GET",
    "list_cases",
    "List the signing cases that you may see, newest first.",
    group=GROUP,
    answers=page_of(CaseSerializer),
    query=[CaseFilterSerializer, BEFORE],
)
@operation(
    "POST",
    "prepare_case",
    "Write the exact text that the institution is to sign, as a draft; a draft that is there is written anew.",
    group=GROUP,
    takes=PrepareSerializer,
    answers=CaseDetailSerializer,
    status=201,
)
@api_view(["GET", "POST"])
def cases(request: Request) -> Response:
    """List the cases, or prepare one."""
    if request.method == "POST":
        return _prepare(request)
    given = valid(CaseFilterSerializer(data=request.query_params))
    rows = SigningRequest.objects.visible_to(request.user).defer("text", "variables", "agreement_version__text")
    rows = rows.select_related("institution", "agreement_version__agreement__programme")
    if "institution" in given:
        rows = rows.filter(institution__slug=given["institution"])
    if "status" in given:
        rows = rows.filter(status=given["status"])
    return page(request, rows, CaseSerializer, filters=CaseFilterSerializer)


def _prepare(request: Request) -> Response:
    given = valid(PrepareSerializer(data=request.data))
    institution = with_file(request, given["institution"])
    if not services.may_prepare(person_of(request), institution):
        raise NotAllowed(f"Only a principal investigator, data steward or signing official of {institution} can do it.")
    published = Agreement.objects.filter(versions__isnull=False).select_related("programme").distinct()
    agreement = get_object_or_404(published, programme__slug=given["programme"], slug=given["agreement"])
    form = _form(agreement, institution, given)
    case = services.prepare(
        agreement,
        institution,
        variables=form.variables(),
        covered=form.covered(),
        by=person_of(request),
        now=timezone.now(),
    )
    return _answer(request, case, status=201)


def _form(agreement: Agreement, institution: Institution, given: dict[str, Any]) -> PrepareForm:
    """Check the particulars by the rules of the page."""
    version = services.newest_of(agreement)
    assert version is not None  # only published agreements are obtained
    data = QueryDict(mutable=True)
    for name, value in given["variables"].items():
        data.setlist(name, [str(row) for row in value] if isinstance(value, list) else [str(value)])
    keys = dict(Institution.objects.filter(slug__in=given["covered"], status="member").values_list("slug", "pk"))
    data.setlist("covered", [str(keys.get(slug, 0)) for slug in given["covered"]])
    form = PrepareForm(data, version=version, institution=institution, before=None)
    unknown = sorted(set(given["variables"]) - set(form.names))
    if unknown:
        raise serializers.ValidationError(
            {"variables": {name: ["The text has no place for this."] for name in unknown}}
        )
    if given["covered"] and "covered" not in form.fields:
        raise serializers.ValidationError(
            {"covered": ["The text has no place for further hospitals, or none is here."]}
        )
    if not form.is_valid():
        errors: dict[str, Any] = {name: list(texts) for name, texts in form.errors.items()}
        covered = errors.pop("covered", None)
        raise serializers.ValidationError(
            {**({"variables": errors} if errors else {}), **({"covered": covered} if covered else {})}
        )
    return form


@operation(
    "GET",
    "show_case",
    "Show a case: its exact text, who has signed, who is next, what you can do.",
    group=GROUP,
    answers=CaseDetailSerializer,
)
@api_view(["GET"])
def case(request: Request, case_id: int) -> Response:
    """Show a case."""
    return Response(CaseDetailSerializer(_case(request, case_id), context={"request": request}).data)


@_step("send_case", "Send a draft to its signers. Sending again changes nothing.")
@api_view(["POST"])
def send(request: Request, case_id: int) -> Response:
    """Send a draft to its signers."""
    return _answer(request, services.send(_case(request, case_id), by=person_of(request), now=timezone.now()))


@_step("decline_case", "Refuse to sign, with a reason: the case ends.", DeclineCaseSerializer)
@api_view(["POST"])
def decline(request: Request, case_id: int) -> Response:
    """Refuse to sign."""
    row = _case(request, case_id)
    if row.status in OPEN and not services.may_decline(person_of(request), row):
        raise NotAllowed(f"Only those who are to sign {row} can decline it.", next_url=row.get_absolute_url())
    reason = valid(DeclineCaseSerializer(data=request.data))["reason"]
    return _answer(request, services.decline(row, by=person_of(request), reason=reason, now=timezone.now()))


@_step("withdraw_case", "Take a case back before the last signature.")
@api_view(["POST"])
def withdraw(request: Request, case_id: int) -> Response:
    """Take a case back."""
    return _answer(request, services.withdraw(_case(request, case_id), by=person_of(request), now=timezone.now()))


@operation(
    "GET",
    "show_termination_effects",
    "List what ends and what stays when the agreement is terminated now, and after which day; changes nothing.",
    group=GROUP,
    answers=EffectsSerializer,
)
@_step(
    "terminate_case",
    "End an agreement in force, with a reason: for the institution at once, for the consortium with notice.",
    TerminateCaseSerializer,
    "Read what it does first, with GET; then send the title back with the reason.",
)
@api_view(["GET", "POST"])
def terminate(request: Request, case_id: int) -> Response:
    """List what a termination does, or end an agreement in force."""
    row, by = _case(request, case_id), person_of(request)
    if not services.may_terminate(by, row):
        raise NotAllowed(f"You cannot terminate {row}: its signers and the consortium's can.")
    now = timezone.now()
    if request.method == "GET":
        ends_on = services.notice_until(row, by=by, now=now)
        effects = services.effects_of_termination(row, reader=by)
        document = {"title": row.agreement.title, "ends_on": ends_on, "effects": effects}
        return Response(EffectsSerializer(document).data)
    given = valid(TerminateCaseSerializer(data=request.data))
    if given["title"].strip().casefold() != row.agreement.title.casefold():
        raise serializers.ValidationError({"title": ["That is not the title of the agreement."]})
    return _answer(request, services.terminate(row, by=by, reason=given["reason"], now=now))


@operation(
    "POST",
    "confirm_cover",
    "Agree, for a further hospital, to stand under the agreement. Confirming again changes nothing.",
    group=GROUP,
    answers=CoverSerializer,
)
@api_view(["POST"])
def confirm_cover(request: Request, case_id: int, cover_id: int) -> Response:
    """Confirm for a further hospital."""
    rows = _case(request, case_id).covered.select_related("institution", "request")
    cover = services.confirm_cover(get_object_or_404(rows, pk=cover_id), by=person_of(request), now=timezone.now())
    return Response(CoverSerializer(cover, context={"request": request}).data)


@operation(
    "POST",
    "sign_case",
    "Refuse: a program cannot sign. next_url is the page on which a person does.",
    group=GROUP,
    status=None,
    description="Always 403 with the code signing_needs_a_person, for a token and for a session alike: a signature "
    "needs a fresh proof of who signs (21 CFR 11.200), which only the page takes.",
)
@api_view(["POST"])
def sign(request: Request, case_id: int) -> NoReturn:
    """Refuse to sign, whoever asks and whether or not there is such a case."""
    raise scopes.no_person(request.path)


ONE = "agreements/cases/<int:case_id>"
urlpatterns = [
    path("agreements/cases", cases, name="cases"),
    path(ONE, case, name="case"),
    path(f"{ONE}/send", send, name="case_send"),
    path(f"{ONE}/sign", sign, name="case_sign"),
    path(f"{ONE}/decline", decline, name="case_decline"),
    path(f"{ONE}/withdraw", withdraw, name="case_withdraw"),
    path(f"{ONE}/terminate", terminate, name="case_terminate"),
    path(f"{ONE}/covered/<int:cover_id>/confirm", confirm_cover, name="confirm_cover"),
]
