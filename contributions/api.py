"""Contributions and their uploads over the API; the upload page and the kit use the same addresses."""

from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from contributions import services
from contributions.models import Contribution, ContributionFile
from contributions.serializers import (
    AnnouncementSerializer,
    ChangeSerializer,
    ContributionSerializer,
    DraftSerializer,
    PartsSerializer,
    ReasonSerializer,
    SummarySerializer,
    UploadSerializer,
)
from portal import storage
from portal.accounts.models import User

PAGE_SIZE = 100


def _person(request: Request) -> User:
    assert isinstance(request.user, User)  # IsAuthenticated has let the request in
    return request.user


def _contribution(request: Request, pk: int) -> Contribution:
    rows = Contribution.objects.visible_to(_person(request)).select_related("institution", "base_model", "programme")
    return get_object_or_404(rows, pk=pk)


def _file(request: Request, pk: int, file_pk: int) -> ContributionFile:
    return get_object_or_404(_contribution(request, pk).files.select_related("contribution__institution"), pk=file_pk)


def _valid(form: Serializer) -> dict:
    form.is_valid(raise_exception=True)
    return form.validated_data


def _answer(contribution: Contribution, request: Request, status: int = 200) -> Response:
    return Response(ContributionSerializer(contribution, context={"request": request}).data, status=status)


@api_view(["GET", "POST"])
def contributions(request: Request) -> Response:
    """List what the person may see, newest first, or begin a contribution."""
    if request.method == "POST":
        given = _valid(DraftSerializer(data=request.data, context={"request": request}))
        contribution = services.draft(given.pop("institution"), **given, by=_person(request), now=timezone.now())
        return _answer(contribution, request, status=201)
    rows = Contribution.objects.visible_to(_person(request)).select_related("institution", "base_model")
    before = request.query_params.get("before", "")
    page = list((rows.filter(pk__lt=int(before)) if before.isdecimal() else rows)[: PAGE_SIZE + 1])
    more = len(page) > PAGE_SIZE
    following = request.build_absolute_uri(f"{request.path}?before={page[PAGE_SIZE - 1].pk}") if more else None
    results = SummarySerializer(page[:PAGE_SIZE], many=True, context={"request": request}).data
    return Response({"results": results, "next": following})


@api_view(["GET", "PATCH"])
def contribution(request: Request, pk: int) -> Response:
    """Show a contribution, or change a draft."""
    row = _contribution(request, pk)
    if request.method == "PATCH":
        row = services.change(row, **_valid(ChangeSerializer(data=request.data)), by=_person(request))
    return _answer(row, request)


@api_view(["POST"])
def submit(request: Request, pk: int) -> Response:
    """Send a contribution to the checks."""
    return _answer(services.submit(_contribution(request, pk), by=_person(request), now=timezone.now()), request)


@api_view(["POST"])
def withdraw(request: Request, pk: int) -> Response:
    """Take a contribution back."""
    row = _contribution(request, pk)
    reason = _valid(ReasonSerializer(data=request.data))["reason"]
    return _answer(services.withdraw(row, reason=reason, by=_person(request), now=timezone.now()), request)


@api_view(["POST"])
def files(request: Request, pk: int) -> Response:
    """Announce a file: 201, or 200 where the same file is known and its upload goes on."""
    row = _contribution(request, pk)
    given = _valid(AnnouncementSerializer(data=request.data))
    known = set(row.files.values_list("pk", flat=True))
    file = services.add_file(row, **given, by=_person(request), now=timezone.now())
    return Response(UploadSerializer(file).data, status=200 if file.pk in known else 201)


@api_view(["GET", "DELETE"])
def file(request: Request, pk: int, file_pk: int) -> Response:
    """Show a file with the parts that have arrived, or take it out of a draft."""
    row = _file(request, pk, file_pk)
    if request.method == "DELETE":
        services.remove_file(row, by=_person(request))
        return Response(status=204)
    return Response(UploadSerializer(row).data)


@api_view(["POST"])
def parts(request: Request, pk: int, file_pk: int) -> Response:
    """Sign up to 20 parts."""
    row = _file(request, pk, file_pk)
    wanted = [(part["number"], part["sha256"]) for part in _valid(PartsSerializer(data=request.data))["parts"]]
    urls = services.sign_parts(row, wanted, by=_person(request))
    return Response({"urls": urls, "expires_in_seconds": storage.SIGN_SECONDS})


@api_view(["POST"])
def complete(request: Request, pk: int, file_pk: int) -> Response:
    """Join the parts. Safe to repeat."""
    row = services.complete_file(_file(request, pk, file_pk), by=_person(request), now=timezone.now())
    return Response(UploadSerializer(row).data)


urlpatterns = [
    path("contributions", contributions, name="contributions"),
    path("contributions/<int:pk>", contribution, name="contribution"),
    path("contributions/<int:pk>/submit", submit),
    path("contributions/<int:pk>/withdraw", withdraw),
    path("contributions/<int:pk>/files", files, name="contribution_files"),
    path("contributions/<int:pk>/files/<int:file_pk>", file),
    path("contributions/<int:pk>/files/<int:file_pk>/parts", parts),
    path("contributions/<int:pk>/files/<int:file_pk>/complete", complete),
]
