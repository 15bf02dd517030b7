"""Pages for reading an agreement before and after it is signed: anybody may, without an account."""

from itertools import zip_longest
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import get_language_info
from django.views.decorators.http import require_GET

from portal.agreements import diff
from portal.agreements.lifecycle import ONCE_ACTIVE
from portal.agreements.models import AgreementTranslation, AgreementVersion, SigningRequest
from portal.agreements.reading import clauses

FIRST_AGREEMENT = "data-use-agreement"  # what the addresses of 0.1.0 meant, when a programme had one agreement


def _version(programme: str, agreement: str, version: int) -> AgreementVersion:
    rows = AgreementVersion.objects.select_related("agreement__programme")
    names = {"agreement__programme__slug": programme, "agreement__slug": agreement}
    return get_object_or_404(rows, **names, version=version)


def _translation(version: AgreementVersion, language: str) -> AgreementTranslation | None:
    """Return the translation asked for; None for the binding text."""
    if language in ("", version.language):
        return None
    return get_object_or_404(version.translations, language=language)


def _languages(version: AgreementVersion, shown: str) -> list[dict[str, Any]]:
    codes = [version.language, *version.translations.values_list("language", flat=True)]
    names = {code: get_language_info(code)["name_local"].capitalize() for code in codes}
    return [
        {"code": code, "name": name, "is_shown": code == shown, "binds": code == version.language}
        for code, name in names.items()
    ]


def _signed_before(request: HttpRequest, version: AgreementVersion) -> int | None:
    """Return the number of the version that the reader's institution signed last, if it was another one."""
    if not request.user.is_authenticated:
        return None
    own = request.user.memberships.current().values("institution")
    cases = SigningRequest.objects.filter(
        agreement=version.agreement,
        institution__in=own,
        status__in=ONCE_ACTIVE,
        agreement_version__version__lt=version.version,
    )
    return cases.order_by("-agreement_version__version").values_list("agreement_version__version", flat=True).first()


@require_GET
@login_not_required
def read(request: HttpRequest, programme: str, agreement: str, version: int) -> HttpResponse:
    """Show one version with its side notes, in the binding language or in a translation."""
    row = _version(programme, agreement, version)
    translation = _translation(row, request.GET.get("language", ""))
    shown = translation or row
    versions = list(row.agreement.versions.defer("text", "side_notes"))
    context = {
        "agreement_version": row,
        "agreement": row.agreement,
        "translation": translation,
        "clauses": clauses(shown.text, shown.side_notes),
        "language": shown.language,
        "languages": _languages(row, shown.language),
        "binding_name": get_language_info(row.language)["name_translated"],
        "versions": list(zip_longest(versions, [row.version for row in versions[1:]])),
        "newest": versions[0],
        "signed_before": _signed_before(request, row),
    }
    return render(request, "agreements/agreement_read.html", context)


@require_GET
@login_not_required
def text(request: HttpRequest, programme: str, agreement: str, version: int, language: str = "") -> HttpResponse:
    """Send the exact bytes of a version or of a translation."""
    row = _version(programme, agreement, version)
    shown = _translation(row, language) or row
    return HttpResponse(shown.text.encode(), content_type="text/markdown; charset=utf-8")


@require_GET
@login_not_required
def changes(request: HttpRequest, programme: str, agreement: str, version: int, old: int) -> HttpResponse:
    """Show what a version changes against an earlier one, word by word."""
    new, before = _version(programme, agreement, version), _version(programme, agreement, old)
    if before.version >= new.version:
        raise Http404("Only a later version has changes against an earlier one.")
    blocks = diff.compare(before.text, new.text)
    between = new.agreement.versions.filter(version__gt=old, version__lte=version).order_by("version")
    context = {
        "agreement_version": new,
        "old": before,
        "agreement": new.agreement,
        "stretches": diff.folded(blocks),
        "counts": diff.counts(blocks),
        "notes": list(between.defer("text", "side_notes")),
    }
    return render(request, "agreements/agreement_changes.html", context)


@require_GET
@login_not_required
def moved(request: HttpRequest, programme: str, version: int) -> HttpResponse:
    """Redirect an address of 0.1.0, which named no agreement."""
    return redirect("agreements:read", programme, FIRST_AGREEMENT, version, permanent=True)


@require_GET
@login_not_required
def text_moved(request: HttpRequest, programme: str, version: int) -> HttpResponse:
    """Redirect an address of 0.1.0, which named no agreement."""
    return redirect("agreements:text", programme, FIRST_AGREEMENT, version, permanent=True)
