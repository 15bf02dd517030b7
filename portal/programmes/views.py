"""Public pages of programmes: what each is, takes, asks to sign, and has reached."""

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from portal.accounts import services as accounts
from portal.programmes.models import CHECKS, KINDS, Programme


@require_GET
@login_not_required
def list_(request: HttpRequest) -> HttpResponse:
    """List every programme, the open ones first."""
    programmes = Programme.objects.order_by("-is_open", "name")
    rows = [{"programme": row, "kinds": [KINDS[kind] for kind in row.kinds]} for row in programmes]
    return render(request, "programmes/programme_list.html", {"rows": rows})


@require_GET
@login_not_required
def show(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one programme."""
    programme = get_object_or_404(Programme, slug=slug)
    base_models = list(programme.base_models.all())
    context = {
        "programme": programme,
        "kinds": [{"name": name, "offered": kind in programme.kinds} for kind, name in KINDS.items()],
        "checks": [name for number, name in CHECKS.items() if number in programme.checks],
        "base_models": base_models,
        "agreements": _agreements(programme),
        "figures": _figures(programme),
        "takes": programme.is_open and bool(base_models),
    }
    return render(request, "programmes/programme_show.html", context)


def _agreements(programme: Programme) -> list[Any]:
    """Return the version in force of each agreement. Agreements stand above programmes: by the reverse relation."""
    library = programme.agreements.prefetch_related("versions__agreement").order_by("pk")
    return [version for agreement in library for version in list(agreement.versions.all())[:1]]


def _figures(programme: Programme) -> dict[str, int]:
    approved = programme.contributions.filter(status="approved")
    return {
        "board": accounts.seated(programme).count(),
        "institutions": approved.order_by().values("institution").distinct().count(),
        "contributions": approved.count(),
        "tasks": programme.tasks.count(),
        "releases": programme.candidates.filter(releases__status="released").count(),
    }
