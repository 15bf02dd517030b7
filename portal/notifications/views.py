"""The mailbox page of the embedded demonstration; nowhere else."""

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from portal.notifications.models import Mail

PAGE_SIZE = 30


def _require_page() -> None:
    if not settings.MAILBOX_PAGE:
        raise Http404("Mail leaves by a mail server here; there is no mailbox page.")


@require_GET
@never_cache
@login_not_required
def mailbox(request: HttpRequest) -> HttpResponse:
    """List what the portal has mailed, newest first; of one recipient with ?to=, older than one with ?before=."""
    _require_page()
    rows = Mail.objects.order_by("-pk")
    recipient, before = request.GET.get("to", "").strip(), request.GET.get("before", "")
    if recipient:
        rows = rows.filter(recipient__icontains=recipient)
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    mails = list(rows[: PAGE_SIZE + 1])
    context = {
        "mails": mails[:PAGE_SIZE],
        "recipient": recipient,
        "before": mails[PAGE_SIZE - 1].pk if len(mails) > PAGE_SIZE else 0,
    }
    return render(request, "notifications/mailbox.html", context)


@require_GET
@never_cache
@login_not_required
def mail(request: HttpRequest, mail_id: int) -> HttpResponse:
    """Show one message, its links ready to click."""
    _require_page()
    return render(request, "notifications/mail_show.html", {"mail": get_object_or_404(Mail, pk=mail_id)})
