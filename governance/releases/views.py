"""The catalogue of released models, the licence, the downloads."""

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_safe

from contributions.corpora import services as corpora
from governance.releases import answers, services
from governance.releases.forms import AcceptForm, SiteAnswerForm
from governance.releases.lifecycle import NOT_PUBLIC, Status
from governance.releases.models import License, LicenseAcceptance, Release
from portal.accounts.models import User
from portal.accounts.requests import SignedInRequest
from portal.errors import error_response
from portal.institutions.models import Institution

AUTHOR = "Global RETFound Consortium"


@login_not_required
@require_GET
def list_(request: HttpRequest) -> HttpResponse:
    """Show the released models; proposals only to who may see them."""
    rows = Release.objects.visible_to(request.user).select_related("candidate__programme", "license")
    return render(request, "releases/release_list.html", {"releases": rows})


def _release(request: HttpRequest | SignedInRequest, slug: str) -> Release:
    rows = Release.objects.visible_to(request.user).select_related("candidate__corpus", "license")
    return get_object_or_404(rows, slug=slug)


@login_not_required
@require_GET
def show(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a model: card, evaluation, lineage, files, how to download."""
    return page(request, _release(request, slug))


def page(
    request: HttpRequest, release: Release, *, answered: tuple[Institution, SiteAnswerForm] | None = None
) -> HttpResponse:
    """Answer the page of a model; `answered` is the form of an institution that needs another look."""
    acceptance = services.acceptance_of(request.user, release)
    context = {
        "release": release,
        "is_boards": release.status in NOT_PUBLIC and _is_boards(request, release),
        "own_answers": _own_answers(request, release, answered),
        "counts": answers.public_count(release),
        "acceptance": acceptance,
        "files": _files(release, linked=acceptance is not None and release.status == Status.RELEASED),
        "is_complete": release.files.filter(name="SHA256SUMS").exists(),
        **_commands(request, release),
        "card": _card(release),
        **_evaluations(release),
        **_lineage(release),
    }
    return render(request, "releases/release_show.html", context, status=422 if answered else 200)


def _is_boards(request: HttpRequest, release: Release) -> bool:
    """Test if the reader reads all that the board reads of a release that is not public."""
    return Release.objects.read_by_the_board(request.user).filter(pk=release.pk).exists()


def field_ids(institution: Institution) -> str:
    """Return the ids of the fields of an institution's form: who manages two has two of them on the page."""
    return f"answer-{institution.pk}_%s"


def _own_answers(
    request: HttpRequest, release: Release, answered: tuple[Institution, SiteAnswerForm] | None
) -> list[tuple[answers.Line, SiteAnswerForm]]:
    """Return what the reader's institutions said of a release that is not public, each with the form to say it."""
    if not isinstance(request.user, User) or release.status not in NOT_PUBLIC:
        return []
    filled = dict([answered] if answered else [])
    return [(line, filled.get(line.institution) or _form_of(line)) for line in answers.lines_of(request.user, release)]


def _form_of(line: answers.Line) -> SiteAnswerForm:
    given = {"answer": line.answer.answer, "reason": line.answer.reason} if line.answer else None
    return SiteAnswerForm(initial=given, auto_id=field_ids(line.institution))


def _files(release: Release, *, linked: bool) -> list[dict[str, object]]:
    """Return the files for the page; a link only for who may follow it."""
    return [
        {
            "name": file.name,
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "url": reverse("releases:download", args=[release.slug, file.name]) if linked else "",
        }
        for file in release.files.all()
    ]


def _commands(request: HttpRequest, release: Release) -> dict[str, str]:
    """Return what a person copies: for curl (it resumes, and checks the hashes), for the kit, for a paper."""
    names = [f"-O {request.build_absolute_uri(f'/dl/{release.slug}/{file.name}')}" for file in release.files.all()]
    curl = ['curl -fL -C - -H "Authorization: Bearer $GRF_TOKEN"', *names]
    page = request.build_absolute_uri(release.get_absolute_url())
    year = (release.released_at or release.proposed_at).year
    return {
        "curl_command": " \\\n    ".join(curl) + "\nsha256sum -c SHA256SUMS --ignore-missing",
        "kit_command": f"consortium login --url {request.build_absolute_uri('/')}\n"
        f"consortium download {release.slug} --out {release.slug}",
        "citation": f"{AUTHOR} ({year}). {release} [model weights]. {release.license.spdx_id}. {page}",
        "bibtex": _bibtex(release, year, page),
    }


def _bibtex(release: Release, year: int, page: str) -> str:
    fields = {
        "author": f"{{{AUTHOR}}}",  # braces of its own: one name, not first and last
        "title": str(release),
        "year": str(year),
        "url": page,
        "note": f"{release.license.spdx_id}, SHA-256 {release.candidate.sha256}",
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
    return "@misc{" + ",\n".join([release.slug, *lines]) + "\n}"


def _card(release: Release) -> str:
    """Return the card as the page shows it: without the front matter for machines, and the title the page has."""
    body = release.card.split("---\n", 2)[-1] if release.card.startswith("---") else release.card
    title, _, rest = body.lstrip().partition("\n")
    return rest if title.startswith("# ") else body


def _evaluations(release: Release) -> dict[str, object]:
    """Return the newest evaluation on each task, the figures to draw, and the curves by task."""
    newest = release.candidate.evaluations.select_related("task__dataset").order_by("task_id", "-run_id")
    rows = sorted(newest.distinct("task_id"), key=lambda row: row.task.position)
    scored = [row for row in rows if row.auroc is not None]
    return {
        "evaluations": rows,
        "cells": [row.cell for row in scored],
        "regions": [(row, row.groups["region"]) for row in scored if "region" in row.groups],
        "curves": {row.task.name: row.report["roc"] for row in scored[:3] if row.report["roc"]},
    }


def _lineage(release: Release) -> dict[str, object]:
    """Return what the model was trained on: the parts of its corpus, the data sets to credit, the institutions."""
    corpus = release.candidate.corpus
    if corpus is None:  # baselines have none, and are never released: a database constraint
        return {}
    parts = list(
        corpus.parts.select_related("dataset", "contribution__institution__merged_into", "contribution__base_model")
    )
    return {
        "corpus": corpus,
        "parts": parts,
        "datasets": [part.dataset for part in parts if part.dataset],
        "credited": corpora.credits_of(corpus),
    }


@login_not_required
@require_GET
def license_(request: HttpRequest, spdx_id: str) -> HttpResponse:
    """Show a licence text, verbatim, with its hash."""
    license = get_object_or_404(License, spdx_id=spdx_id)
    context = {"license": license, "releases": license.releases.filter(status=Status.RELEASED)}
    return render(request, "releases/license_show.html", context)


def accept(request: SignedInRequest, slug: str) -> HttpResponse:
    """Accept the licence of a release."""
    release = _release(request, slug)
    initial = {"typed_name": request.user.name, "license_sha256": release.license.sha256}
    form = AcceptForm(request.POST or None, initial=initial)
    if form.is_valid():
        facts = {name: value for name, value in form.cleaned_data.items() if name != "agree"}
        channel = LicenseAcceptance.Channel.BROWSER
        services.accept_license(release, **facts, channel=channel, by=request.user, now=timezone.now())
        messages.success(request, f"You accepted {release.license.spdx_id} for {release}. The files are below.")
        return redirect(release)
    accepted = services.acceptance_of(request.user, release)
    context = {"release": release, "form": form, "acceptance": accepted}
    return render(request, "releases/license_accept.html", context, status=422 if form.errors else 200)


def _sign_in_first(request: HttpRequest) -> HttpResponse:
    """Answer 401: problem+json for curl, a page with the way to sign in for a browser."""
    response = error_response(request, services.NotSignedIn(request.path))
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


@login_not_required  # answers 401 itself: curl wants a status, not a sign-in page
@require_safe
def download(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Check the rights, count, and redirect to a short-lived address. HEAD is answered here: S3 would refuse it."""
    if not request.user.is_authenticated:
        return _sign_in_first(request)
    release = get_object_or_404(Release.objects.exclude(status__in=NOT_PUBLIC), slug=slug)
    file = release.files.filter(name=name).first()
    if file is None:
        raise Http404(f"{release} has no file {name}.")
    if request.method == "HEAD":
        services.require_download(release, by=request.user)
        headers = {"Content-Length": str(file.size_bytes), "Accept-Ranges": "bytes", "ETag": f'"{file.sha256}"'}
        return HttpResponse(headers=headers)
    response = HttpResponseRedirect(services.sign_download(file, by=request.user, now=timezone.now()))
    response.status_code = 307
    response.headers["Cache-Control"] = "no-store"
    return response
