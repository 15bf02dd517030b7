"""A person's own pages: the inbox, how to hear of each kind, deadlines, webhooks. A GET changes nothing."""

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import F, Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from portal.notifications import calendar, outbox, services, webhooks
from portal.notifications.forms import InboxFilter, PreferencesForm, WebhookForm
from portal.notifications.models import Notification, OutboxMessage, Webhook

PAGE_SIZE = 30


class SignedIn(HttpRequest):
    """A request behind LoginRequiredMiddleware. Only a name for the type checker."""

    user: AbstractBaseUser  # type: ignore[assignment]


def _own(request: SignedIn) -> QuerySet[Notification]:
    """Return the entries of who asks: nobody obtains another's."""
    mails = OutboxMessage.objects.filter(channel=OutboxMessage.Channel.MAIL)
    return Notification.objects.filter(recipient_id=request.user.pk).prefetch_related(
        Prefetch("deliveries", queryset=mails, to_attr="mails")
    )


@require_GET
@never_cache
def inbox(request: SignedIn) -> HttpResponse:
    """List what one was told, newest first, by keyset; of one kind with ?type=."""
    form = InboxFilter(request.GET)
    type = form.cleaned_data["type"] if form.is_valid() else ""
    rows, before = _own(request), request.GET.get("before", "")
    if type:
        rows = rows.filter(type=type)
    if before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    found = list(rows.order_by("-pk")[: PAGE_SIZE + 1])
    context = {
        "form": form,
        "rows": services.with_names(found[:PAGE_SIZE]),
        "before": found[PAGE_SIZE - 1].pk if len(found) > PAGE_SIZE else 0,
        "type": type,
        "query": f"type={type}" if type else "",
        "now": timezone.now(),
        "bounced": outbox.bounced_address(request.user),
    }
    return render(request, "notifications/inbox.html", context, status=422 if form.errors else 200)


def open_(request: SignedIn, pk: int) -> HttpResponse:
    """Go to the page an entry is about. By POST it is read then; by GET, as a mail scanner does, nothing changes."""
    row = get_object_or_404(_own(request), pk=pk)
    if request.method == "POST":
        services.mark_read(row, now=timezone.now())
    return redirect(row.path)


@require_POST
def mark(request: SignedIn, pk: int) -> HttpResponse:
    """Mark one entry as read or, with unread=1, as unread."""
    row = get_object_or_404(_own(request), pk=pk)
    if request.POST.get("unread"):
        services.mark_unread(row)
    else:
        services.mark_read(row, now=timezone.now())
    return _back(request)


@require_POST
def mark_all(request: SignedIn) -> HttpResponse:
    """Mark everything, or everything of one kind, as read."""
    form = InboxFilter(request.POST)
    type = form.cleaned_data["type"] if form.is_valid() else ""
    count = services.mark_all_read(request.user, type=type, now=timezone.now())
    text = ngettext("%(count)d entry is marked as read.", "%(count)d entries are marked as read.", count)
    messages.success(request, text % {"count": count})
    return _back(request)


def _back(request: SignedIn) -> HttpResponse:
    """Return to the list as it was filtered."""
    form = InboxFilter({"type": request.POST.get("back", "")})
    type = form.cleaned_data["type"] if form.is_valid() else ""
    response = redirect("inbox:list")
    if type:
        response["Location"] += f"?type={type}"
    return response


@require_GET
def deadline(request: SignedIn, pk: int) -> HttpResponse:
    """Send an entry's deadline as a calendar file."""
    row = get_object_or_404(_own(request), pk=pk)
    if row.deadline_at is None:
        raise Http404("This entry has no deadline.")
    headers = {
        "Content-Disposition": f'attachment; filename="deadline-{row.pk}.ics"',
        "Cache-Control": "private, no-store",
    }
    return HttpResponse(calendar.deadline(row), content_type="text/calendar; charset=utf-8", headers=headers)


def settings(request: SignedIn) -> HttpResponse:
    """Choose, per kind: by mail at once, in one mail a day, or only in the inbox."""
    form = PreferencesForm(request.POST or None, initial=services.preferences(request.user))
    if request.method == "POST" and form.is_valid():
        services.prefer(request.user, form.cleaned_data)
        messages.success(request, _("Your choice is saved."))
        return redirect("inbox:settings")
    context = {"form": form, "bounced": outbox.bounced_address(request.user)}
    return render(request, "notifications/settings.html", context, status=422 if form.errors else 200)


@never_cache
def own_webhooks(request: SignedIn) -> HttpResponse:
    """List one's endpoints; add one, its secret shown once, in this answer and nowhere else."""
    form = WebhookForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return _add(request, form)
    return _webhook_page(request, form)


@reauthentication_required
def _add(request: SignedIn, form: WebhookForm) -> HttpResponse:
    """Ask who the person is, again: whoever finds an open browser reads along nowhere."""
    try:
        webhook = webhooks.add(request.user, url=form.cleaned_data["url"], now=timezone.now())
    except webhooks.WebhookRefused as refused:
        form.add_error("url", str(refused))
        return _webhook_page(request, form)
    return _webhook_page(request, WebhookForm(), secret=webhooks.secret_of(webhook))


def _webhook_page(request: SignedIn, form: WebhookForm, *, secret: str = "") -> HttpResponse:
    rows = Webhook.objects.filter(owner_id=request.user.pk).order_by(F("disabled_at").asc(nulls_first=True), "-pk")
    context = {"form": form, "secret": secret, "webhooks": rows[:50], "limit": webhooks.LIMIT}
    return render(request, "notifications/webhooks.html", context, status=422 if form.errors else 200)


@require_POST
def test_webhook(request: SignedIn, pk: int) -> HttpResponse:
    """Send a test message to one's endpoint."""
    webhook = get_object_or_404(Webhook, owner_id=request.user.pk, pk=pk)
    webhooks.send_test(webhook, now=timezone.now())
    messages.success(request, _("The test is on its way. Reload this page in a moment to see what came of it."))
    return redirect("inbox:webhooks")


@require_POST
def disable_webhook(request: SignedIn, pk: int) -> HttpResponse:
    """Disable one's endpoint, once the person has confirmed it."""
    webhook = get_object_or_404(Webhook, owner_id=request.user.pk, pk=pk)
    if "confirm" not in request.POST:
        return render(request, "notifications/webhook_disable.html", {"webhook": webhook})
    webhooks.disable(webhook, by=request.user, because="You disabled it.", now=timezone.now())
    messages.success(request, _("The endpoint is disabled. Its secret signs nothing any more."))
    return redirect("inbox:webhooks")
