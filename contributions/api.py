"""Contributions and their uploads over the API; the upload page and the kit use the same addresses."""

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from contributions import attestations, deletion, embargo, holds, incidents, services
from contributions.models import Attestation, Contribution, ContributionFile
from contributions.serializers import (
    AnnouncementSerializer,
    AttestationSerializer,
    ChangeSerializer,
    CompletionSerializer,
    ContributionSerializer,
    ContributionSummarySerializer,
    DraftSerializer,
    EmbargoSerializer,
    IsolateSerializer,
    PartsSerializer,
    ReasonSerializer,
    SignedPartsSerializer,
    UploadSerializer,
)
from portal import storage
from portal.accounts.requests import person_of
from portal.openapi import operation, page_of, valid
from portal.paging import BEFORE, page

GROUP = "Contributions and uploads"


def _contribution(request: Request, pk: int) -> Contribution:
    rows = Contribution.objects.visible_to(person_of(request)).select_related("institution", "base_model", "programme")
    return get_object_or_404(rows, pk=pk)


def _file(request: Request, pk: int, file_pk: int) -> ContributionFile:
    shown = incidents.shown_files(_contribution(request, pk), person_of(request))
    return get_object_or_404(shown.select_related("contribution__institution"), pk=file_pk)


def _answer(contribution: Contribution, request: Request, status: int = 200) -> Response:
    return Response(ContributionSerializer(contribution, context={"request": request}).data, status=status)


@operation(
    "GET",
    "list_contributions",
    "List the contributions that you may see, newest first.",
    group=GROUP,
    answers=page_of(ContributionSummarySerializer),
    query=[BEFORE],
)
@operation(
    "POST",
    "begin_contribution",
    "Begin a contribution as a draft.",
    group=GROUP,
    takes=DraftSerializer,
    answers=ContributionSerializer,
    status=201,
    description="Needs no agreement yet: submitting does.",
)
@api_view(["GET", "POST"])
def contributions(request: Request) -> Response:
    """List what the person may see, newest first, or begin a contribution."""
    if request.method == "POST":
        given = valid(DraftSerializer(data=request.data, context={"request": request}))
        contribution = services.draft(given.pop("institution"), **given, by=person_of(request), now=timezone.now())
        return _answer(contribution, request, status=201)
    rows = Contribution.objects.visible_to(person_of(request)).select_related("institution", "base_model")
    return page(request, rows, ContributionSummarySerializer)


@operation(
    "GET",
    "show_contribution",
    "Show a contribution with its files, checks and what you can do.",
    group=GROUP,
    answers=ContributionSerializer,
)
@operation(
    "PATCH",
    "change_contribution",
    "Change the title, the training card or the embargo of a draft.",
    group=GROUP,
    takes=ChangeSerializer,
    answers=ContributionSerializer,
)
@api_view(["GET", "PATCH"])
def contribution(request: Request, pk: int) -> Response:
    """Show a contribution, or change a draft."""
    row = _contribution(request, pk)
    if request.method == "PATCH":
        given = valid(ChangeSerializer(data=request.data))
        row = services.change(row, **given, by=person_of(request), now=timezone.now())
    return _answer(row, request)


@operation("POST", "submit_contribution", "Send a draft to the checks.", group=GROUP, answers=ContributionSerializer)
@api_view(["POST"])
def submit(request: Request, pk: int) -> Response:
    """Send a contribution to the checks."""
    return _answer(services.submit(_contribution(request, pk), by=person_of(request), now=timezone.now()), request)


@operation(
    "POST",
    "withdraw_contribution",
    "Take a contribution back, with a reason.",
    group=GROUP,
    takes=ReasonSerializer,
    answers=ContributionSerializer,
)
@api_view(["POST"])
def withdraw(request: Request, pk: int) -> Response:
    """Take a contribution back."""
    row = _contribution(request, pk)
    reason = valid(ReasonSerializer(data=request.data))["reason"]
    return _answer(services.withdraw(row, reason=reason, by=person_of(request), now=timezone.now()), request)


@operation(
    "POST",
    "change_contribution_embargo",
    "Have the embargo on a submitted contribution end earlier, or lift it. It cannot be undone.",
    group=GROUP,
    takes=EmbargoSerializer,
    answers=ContributionSerializer,
)
@api_view(["POST"])
def change_embargo(request: Request, pk: int) -> Response:
    """Make an embargo earlier, or lift it."""
    row = _contribution(request, pk)
    day = valid(EmbargoSerializer(data=request.data))["embargo_until"]
    return _answer(embargo.change(row, day=day, by=person_of(request), now=timezone.now()), request)


@operation(
    "POST",
    "delete_contribution_files",
    "Have the files of a rejected, returned or withdrawn contribution deleted at once. It cannot be undone.",
    group=GROUP,
    answers=ContributionSerializer,
)
@api_view(["POST"])
def delete_files(request: Request, pk: int) -> Response:
    """Have the files of a closed contribution deleted."""
    return _answer(deletion.ask(_contribution(request, pk), by=person_of(request), now=timezone.now()), request)


@operation(
    "POST",
    "hold_contribution_files",
    "Hold the files of a contribution back from deletion, with a reason. For operators.",
    group=GROUP,
    takes=ReasonSerializer,
    answers=ContributionSerializer,
)
@api_view(["POST"])
def hold(request: Request, pk: int) -> Response:
    """Hold the files back from deletion."""
    row, by = _contribution(request, pk), person_of(request)
    holds.require_may_act(by, row)
    holds.place(row, **valid(ReasonSerializer(data=request.data)), by=by, now=timezone.now())
    return _answer(row, request)


@operation(
    "POST",
    "release_contribution_files",
    "Release the files of a contribution from a hold, with a reason. For operators.",
    group=GROUP,
    takes=ReasonSerializer,
    answers=ContributionSerializer,
)
@api_view(["POST"])
def release(request: Request, pk: int, hold_pk: int) -> Response:
    """Release the files from a hold."""
    row, by = _contribution(request, pk), person_of(request)
    holds.require_may_act(by, row)
    held = get_object_or_404(row.holds, pk=hold_pk)
    holds.release(held, **valid(ReasonSerializer(data=request.data)), by=by, now=timezone.now())
    return _answer(row, request)


@operation(
    "POST",
    "isolate_contribution",
    "Isolate a contribution that may hold what must not be sent, with what was found. For operators.",
    group=GROUP,
    takes=IsolateSerializer,
    answers=ContributionSerializer,
)
@api_view(["POST"])
def isolate(request: Request, pk: int) -> Response:
    """Isolate a contribution."""
    row, by = _contribution(request, pk), person_of(request)
    incidents.require_may_act(by, row)
    given = valid(IsolateSerializer(data=request.data))
    concerned = list(row.files.filter(pk__in=given["files"]))
    if len(concerned) != len(set(given["files"])):
        raise Http404
    incidents.isolate(row, reason=given["reason"], files=concerned, by=by, now=timezone.now())
    return _answer(_contribution(request, pk), request)


@operation(
    "POST",
    "lift_contribution_isolation",
    "Lift an isolation that was a mistake, with a reason. For operators.",
    group=GROUP,
    takes=ReasonSerializer,
    answers=ContributionSerializer,
)
@api_view(["POST"])
def lift(request: Request, pk: int, isolation_pk: int) -> Response:
    """Lift an isolation."""
    row, by = _contribution(request, pk), person_of(request)
    incidents.require_may_act(by, row)
    standing = get_object_or_404(row.isolations, pk=isolation_pk)
    incidents.lift(standing, **valid(ReasonSerializer(data=request.data)), by=by, now=timezone.now())
    return _answer(row, request)


@operation(
    "POST",
    "delete_isolated_contribution_files",
    "Have the files of an isolated contribution deleted after the incident. It cannot be undone.",
    group=GROUP,
    answers=ContributionSerializer,
    description="For operators and the institution's stewards, once both have what they need to report it. What was in "
    "use is taken out of it.",
)
@api_view(["POST"])
def delete_isolated_files(request: Request, pk: int, isolation_pk: int) -> Response:
    """Have the files of an isolated contribution deleted."""
    row, by = _contribution(request, pk), person_of(request)
    incidents.require_may_delete(by, row)
    incidents.delete_files(get_object_or_404(row.isolations, pk=isolation_pk), by=by, now=timezone.now())
    return _answer(_contribution(request, pk), request)


@operation(
    "POST",
    "replace_contribution",
    "Begin the corrected contribution of a rejected, returned or withdrawn one.",
    group=GROUP,
    answers=ContributionSerializer,
    status=201,
)
@api_view(["POST"])
def replace(request: Request, pk: int) -> Response:
    """Begin the corrected contribution of a rejected, returned or withdrawn one."""
    row = services.replace(_contribution(request, pk), by=person_of(request), now=timezone.now())
    return _answer(row, request, status=201)


@operation(
    "POST",
    "announce_file",
    "Announce a file by name, size and the SHA-256 of its parts.",
    group=GROUP,
    takes=AnnouncementSerializer,
    answers=UploadSerializer,
    status=201,
    also={200: UploadSerializer},
    description="201, or 200 where the same file is known and its upload goes on.",
)
@api_view(["POST"])
def files(request: Request, pk: int) -> Response:
    """Announce a file: 201, or 200 where the same file is known and its upload goes on."""
    row = _contribution(request, pk)
    given = valid(AnnouncementSerializer(data=request.data))
    known = set(row.files.values_list("pk", flat=True))
    file = services.add_file(row, **given, by=person_of(request), now=timezone.now())
    return Response(UploadSerializer(file).data, status=200 if file.pk in known else 201)


@operation(
    "PUT",
    "attest_contribution",
    "Add the signature or the privacy report to a draft.",
    group=GROUP,
    takes=AttestationSerializer,
    answers=ContributionSerializer,
    description="`kind`: signature or privacy. The body is what the kit's `sign` or `privacy` wrote; another of the "
    "same kind takes its place.",
)
@api_view(["PUT"])
def attest(request: Request, pk: int, kind: str) -> Response:
    """Keep a signed statement with a draft."""
    if kind not in Attestation.Kind.values:
        raise Http404
    row = _contribution(request, pk)
    envelope = valid(AttestationSerializer(data=request.data))
    attestations.attest(row, kind=kind, envelope=envelope, by=person_of(request), now=timezone.now())
    return _answer(row, request)


@operation("GET", "show_file", "Show a file with the parts that have arrived.", group=GROUP, answers=UploadSerializer)
@operation("DELETE", "remove_file", "Take a file out of a draft.", group=GROUP, status=204)
@api_view(["GET", "DELETE"])
def file(request: Request, pk: int, file_pk: int) -> Response:
    """Show a file with the parts that have arrived, or take it out of a draft."""
    row = _file(request, pk, file_pk)
    if request.method == "DELETE":
        services.remove_file(row, by=person_of(request))
        return Response(status=204)
    return Response(UploadSerializer(row).data)


@operation(
    "POST",
    "sign_parts",
    "Get addresses for up to 20 parts; PUT each part there.",
    group=GROUP,
    takes=PartsSerializer,
    answers=SignedPartsSerializer,
)
@api_view(["POST"])
def parts(request: Request, pk: int, file_pk: int) -> Response:
    """Sign up to 20 parts."""
    row = _file(request, pk, file_pk)
    wanted = [(part["number"], part["sha256"]) for part in valid(PartsSerializer(data=request.data))["parts"]]
    urls = services.sign_parts(row, wanted, by=person_of(request))
    return Response({"urls": urls, "expires_in_seconds": storage.SIGN_SECONDS})


@operation(
    "POST",
    "complete_file",
    "Join the parts of a file. Safe to repeat.",
    group=GROUP,
    takes=CompletionSerializer,
    answers=UploadSerializer,
)
@api_view(["POST"])
def complete(request: Request, pk: int, file_pk: int) -> Response:
    """Join the parts. Safe to repeat."""
    row, sha256 = _file(request, pk, file_pk), valid(CompletionSerializer(data=request.data))["sha256"]
    row = services.complete_file(row, sha256=sha256, by=person_of(request), now=timezone.now())
    return Response(UploadSerializer(row).data)


urlpatterns = [
    path("contributions", contributions, name="contributions"),
    path("contributions/<int:pk>", contribution, name="contribution"),
    path("contributions/<int:pk>/submit", submit, name="contribution_submit"),
    path("contributions/<int:pk>/withdraw", withdraw, name="contribution_withdraw"),
    path("contributions/<int:pk>/holds", hold, name="contribution_hold"),
    path("contributions/<int:pk>/holds/<int:hold_pk>/release", release, name="contribution_release"),
    path("contributions/<int:pk>/isolations", isolate, name="contribution_isolate"),
    path("contributions/<int:pk>/isolations/<int:isolation_pk>/lift", lift, name="contribution_lift"),
    path(
        "contributions/<int:pk>/isolations/<int:isolation_pk>/delete-files",
        delete_isolated_files,
        name="contribution_delete_isolated_files",
    ),
    path("contributions/<int:pk>/embargo", change_embargo, name="contribution_embargo"),
    path("contributions/<int:pk>/delete-files", delete_files, name="contribution_delete_files"),
    path("contributions/<int:pk>/replace", replace, name="contribution_replace"),
    path("contributions/<int:pk>/attestations/<slug:kind>", attest, name="contribution_attestation"),
    path("contributions/<int:pk>/files", files, name="contribution_files"),
    path("contributions/<int:pk>/files/<int:file_pk>", file),
    path("contributions/<int:pk>/files/<int:file_pk>/parts", parts),
    path("contributions/<int:pk>/files/<int:file_pk>/complete", complete),
]
