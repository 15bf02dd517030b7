"""Proving an address: the digits of the mail, and the mail once more. Strangers cannot tell who has an account."""

from datetime import timedelta
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.models import EmailConfirmationHMAC
from allauth.account.views import confirm_email
from allauth.core import ratelimit
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from portal.accounts import email_codes
from portal.accounts.mails import ADDRESS_MAIL
from portal.accounts.models import EmailCode
from portal.notifications.models import OutboxMessage

RESEND_AFTER = timedelta(seconds=60)


class CodeForm(forms.Form):
    """The digits as people type them: with a space in the middle, or without."""

    code = forms.RegexField(
        r"^\s*\d{3}\s*\d{3}\s*$",
        label="Code",
        help_text="Six digits, in the mail beside the link. They work for 15 minutes, in this browser.",
        error_messages={"invalid": "The code has six digits and nothing else."},
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "maxlength": "9"}),
    )


@never_cache
@login_not_required
def email_code(request: HttpRequest) -> HttpResponse:
    """Confirm an address by the digits of the mail. GET shows the form; POST goes allauth's own way."""
    form = CodeForm(request.POST or None)
    waiting = request.session.get(ADDRESS_MAIL)
    if request.method == "POST" and form.is_valid():
        try:
            address = email_codes.redeem((waiting or {}).get("code", 0), form.cleaned_data["code"], now=timezone.now())
        except email_codes.CodeRefused as refused:
            form.add_error("code", str(refused))
        else:
            request.session.pop(ADDRESS_MAIL, None)
            return confirm_email(request, key=EmailConfirmationHMAC(address).key)
    context = {"form": form, "waiting": waiting}
    return render(request, "accounts/email_code.html", context, status=422 if form.errors else 200)


@require_POST
@login_not_required
def send_again(request: HttpRequest) -> HttpResponse:
    """Send the mail that this browser waits for once more, a minute after the last one."""
    waiting = request.session.get(ADDRESS_MAIL)
    if not waiting:
        messages.info(request, _("This browser waits for no mail. Sign in: that sends a new one."))
        return redirect("account_login")
    last = OutboxMessage.objects.filter(pk=waiting["message"]).first()
    too_early = last is not None and timezone.now() - last.created_at < RESEND_AFTER
    if too_early or not ratelimit.consume(request, action="confirm_email", key=waiting["email"]):
        messages.warning(request, _("A mail left less than a minute ago. Wait a moment, then ask again."))
    else:
        _send(request, waiting)
        messages.success(request, _("A new mail is on its way. The code of the one before works no more."))
    return redirect("account_email_verification_sent")


def _send(request: HttpRequest, waiting: dict[str, Any]) -> None:
    """Send what was sent before: a link, or to the owner of an account the news that somebody tried."""
    code = EmailCode.objects.select_related("email_address").filter(pk=waiting["code"]).first()
    address = code.email_address if code is not None else None
    if address is not None and not address.verified:
        address.send_confirmation(request, signup=True)
    else:
        get_adapter(request).send_account_already_exists_mail(waiting["email"])
