"""The authenticator app of the embedded demonstration's own accounts; nowhere else."""

import time

from allauth.mfa import app_settings
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from allauth.mfa.utils import decrypt
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

DEMO_DOMAIN = "@demo.example"  # what the seed gives its accounts; no such mail exists (RFC 2606)


@require_GET
@never_cache
@login_not_required
def authenticator(request: HttpRequest) -> HttpResponse:
    """Show the codes that the demonstration's people would read from their telephones."""
    if not settings.MAILBOX_PAGE:
        raise Http404("Codes are on telephones here; there is no such page.")
    rows = Authenticator.objects.filter(type=Authenticator.Type.TOTP, user__email__endswith=DEMO_DOMAIN)
    counter, elapsed = divmod(int(time.time()), app_settings.TOTP_PERIOD)
    codes = [
        (row.user, format_hotp_value(hotp_value(decrypt(row.data["secret"]), counter)))
        for row in rows.select_related("user").order_by("user__email")
    ]
    context = {"codes": codes, "seconds_left": app_settings.TOTP_PERIOD - elapsed}
    return render(request, "notifications/authenticator.html", context)
