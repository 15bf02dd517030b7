"""The operator's page of the outbox: what waits, what failed and why. Auditors read; operators act."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Min, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from portal.audit.people import named_all
from portal.notifications import outbox
from portal.notifications.forms import OutboxFilter
from portal.notifications.inbox import SignedIn
from portal.notifications.lifecycle import State
from portal.notifications.models import OutboxMessage

PAGE_SIZE = 50


def _require_reader(request: HttpRequest) -> None:
    if not request.user.has_perm("notifications.view_outbox"):
        raise PermissionDenied("The outbox is read by operators and auditors.")


def _totals() -> dict[str, object]:
    """Return how many wait, are being tried again, came back and were given up, and since when the oldest waits."""
    pending = Q(state=State.PENDING)
    unsent = OutboxMessage.objects.exclude(state=State.SENT)
    return unsent.aggregate(
        waiting=Count("pk", filter=pending & Q(attempts=0)),
        failing=Count("pk", filter=pending & Q(attempts__gt=0)),
        bounced=Count("pk", filter=Q(state=State.BOUNCED)),
        dead=Count("pk", filter=Q(state=State.DEAD)),
        oldest=Min("created_at", filter=pending),
    )


@require_GET
@never_cache
def outbox_list(request: HttpRequest) -> HttpResponse:
    """List what has not arrived, newest first, by keyset."""
    _require_reader(request)
    form = OutboxFilter(request.GET)
    wanted = form.cleaned_data if form.is_valid() else {"state": "", "channel": ""}
    rows, before = OutboxMessage.objects.select_related("webhook"), request.GET.get("before", "")
    rows = rows.filter(state=wanted["state"]) if wanted["state"] else rows.exclude(state=State.SENT)
    if wanted["channel"]:
        rows = rows.filter(channel=wanted["channel"])
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    found = list(rows.order_by("-pk")[: PAGE_SIZE + 1])
    for row, subject in zip(found, named_all([row.subject for row in found]), strict=True):
        row.subject = subject
    query = request.GET.copy()
    query.pop("before", None)
    totals = _totals()
    context = {
        "form": form,
        "rows": found[:PAGE_SIZE],
        "before": found[PAGE_SIZE - 1].pk if len(found) > PAGE_SIZE else 0,
        "query": query.urlencode(),
        "filtered": any(query.values()),
        "totals": totals,
        "oldest_seconds": (timezone.now() - totals["oldest"]).total_seconds() if totals["oldest"] else None,  # type: ignore[operator]
        "may_change": request.user.has_perm("notifications.change_outbox"),
        "body_days": outbox.BODY_KEPT.days,
    }
    return render(request, "notifications/outbox.html", context, status=422 if form.errors else 200)


@require_POST
def retry(request: SignedIn, pk: int) -> HttpResponse:
    """Send one message again."""
    _require_reader(request)
    outbox.retry(get_object_or_404(OutboxMessage, pk=pk), by=request.user, now=timezone.now())
    messages.success(request, _("The message is on its way again."))
    return redirect("outbox:list")


@require_POST
def give_up(request: SignedIn, pk: int) -> HttpResponse:
    """Stop trying one message."""
    _require_reader(request)
    outbox.give_up(get_object_or_404(OutboxMessage, pk=pk), by=request.user, now=timezone.now())
    messages.success(request, _("The message is given up. You can send it again from this list."))
    return redirect("outbox:list")
