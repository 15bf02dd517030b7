"""What operators see of the object store: is every file still what was registered, what is left over, who uses it."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from contributions import holds, incidents, room
from jobs import fixity, leftovers
from jobs.lifecycle import LIVE
from jobs.models import Inspection, Run
from jobs.ops_views import READERS
from jobs.views import require
from portal.accounts import services as accounts
from portal.accounts.requests import SignedInRequest

BUCKETS = {
    "quarantine": gettext_lazy("What sites have sent, until it is checked and copied; ethics documents."),
    "vault": gettext_lazy("Checked contributions with their evidence, base models, data sets, candidates."),
    "releases": gettext_lazy("Released files, and the checkpoints of the log, which nobody can delete."),
}
LEFTOVERS = {
    "upload": gettext_lazy("Parts of uploads that no draft continues"),
    "copy": gettext_lazy("Files in quarantine whose checked copy is in the vault"),
    "unknown": gettext_lazy("Objects in quarantine that belong to nothing"),
    "stray": gettext_lazy("Objects in vault or releases that belong to nothing; these are never removed from here"),
}


@require_GET
def show(request: SignedInRequest) -> HttpResponse:
    """Show what the last look through the store found, and what each institution uses."""
    require(request, *READERS)
    live = Run.objects.filter(kind=Run.Kind.INSPECT, status__in=LIVE).first()
    newest = fixity.newest()
    left = _leftovers(newest)
    context = {
        "live": live,
        "verified": fixity.newest(verification=True),
        "newest": newest,
        "buckets": _buckets(newest),
        "leftovers": left,
        "removable": sum(row["count"] - row["removed"] for row in left if row["is_removable"]),
        "rooms": room.rooms(),
        "room_requests": room.waiting(),
        "holds": holds.current(),
        "isolations": incidents.current(),
        "may_read_why": accounts.has_role(request.user, "operator", "auditor"),  # the chair decides without it
        "may_act": accounts.has_role(request.user, "operator"),
    }
    return render(request, "jobs/_storage.html" if request.htmx else "jobs/storage.html", context)


def _buckets(inspection: Inspection | None) -> list[dict[str, Any]]:
    found = inspection.buckets if inspection else {}
    return [{"name": name, "text": text, **found[name]} for name, text in BUCKETS.items() if name in found]


def _leftovers(inspection: Inspection | None) -> list[dict[str, Any]]:
    found = inspection.leftovers if inspection else {}
    return [
        {"text": text, "is_removable": kind in leftovers.REMOVED, **found[kind]}
        for kind, text in LEFTOVERS.items()
        if kind in found
    ]


@require_POST
def verify(request: SignedInRequest) -> HttpResponse:
    """Queue the verification of every stored file."""
    return _told(request, fixity.queue(by=request.user, now=timezone.now()), wanted="verify")


@require_http_methods(["GET", "POST"])
def clear(request: SignedInRequest) -> HttpResponse:
    """Ask, then queue the removal of what is left over in quarantine."""
    require(request, "operator")
    if request.method == "GET":
        rows = [row for row in _leftovers(fixity.newest()) if row["is_removable"]]
        return render(request, "jobs/storage_clear.html", {"leftovers": rows})
    return _told(request, fixity.queue(verify=False, clear=True, by=request.user, now=timezone.now()), wanted="clear")


def _told(request: SignedInRequest, run: Run, *, wanted: str) -> HttpResponse:
    """Say what begins: only one look goes through the store at a time, and another may be under way."""
    if run.inputs[wanted]:
        messages.success(request, _("%(run)s begins; runs that check contributions go first.") % {"run": run})
    else:
        messages.warning(request, _("%(run)s is under way. Ask again when it has ended.") % {"run": run})
    return redirect("ops:storage")
