"""The catalogue of released models, the licence, the downloads."""

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_safe

from governance.releases import services
from governance.releases.forms import AcceptForm
from governance.releases.lifecycle import Status
from governance.releases.models import License, LicenseAcceptance, Release
from portal.errors import PROBLEM_JSON, problem


@login_not_required
@require_GET
def list_(request: HttpRequest) -> HttpResponse:
    """Show the released models; proposals only to who may see them."""
    rows = Release.objects.visible_to(request.user).select_related("candidate", "license").prefetch_related("files")
    return render(request, "releases/release_list.html", {"releases": rows})


def _release(request: HttpRequest, slug: str) -> Release:
    rows = Release.objects.visible_to(request.user).select_related("candidate__corpus", "license")
    return get_object_or_404(rows, slug=slug)


@login_not_required
@require_GET
def show(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a model: card, evaluation, lineage, files, how to download."""
    release = _release(request, slug)
    candidate = release.candidate
    evaluations = (
        candidate.evaluations.select_related("task__dataset").order_by("task_id", "-run_id").distinct("task_id")
    )
    context = {
        "release": release,
        "evaluations": sorted(evaluations, key=lambda row: row.task.position),
        "parts": candidate.corpus.parts.select_related("dataset", "contribution__institution")
        if candidate.corpus
        else [],
        "acceptance": services.acceptance_of(request.user, release),
        "card": release.card.split("---\n", 2)[-1] if release.card.startswith("---") else release.card,
    }
    return render(request, "releases/release_show.html", context)


@login_not_required
@require_GET
def license_(request: HttpRequest, spdx_id: str) -> HttpResponse:
    """Show a licence text, verbatim, with its hash."""
    return render(request, "releases/license_show.html", {"license": get_object_or_404(License, spdx_id=spdx_id)})


def accept(request: HttpRequest, slug: str) -> HttpResponse:
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
    return render(request, "releases/license_accept.html", {"release": release, "form": form, "acceptance": accepted})


@login_not_required  # answers 401 itself: curl wants a status, not a sign-in page
@require_safe
def download(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Check the rights, count, and redirect to a short-lived address. HEAD is answered here: S3 would refuse it."""
    if not request.user.is_authenticated:
        body = problem(status=401, code="not_signed_in", detail="Sign in, or send `Authorization: Bearer <token>`.")
        return JsonResponse(body, status=401, content_type=PROBLEM_JSON, headers={"WWW-Authenticate": "Bearer"})
    release = get_object_or_404(Release.objects.exclude(status__in=[Status.PROPOSED, Status.DECLINED]), slug=slug)
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
