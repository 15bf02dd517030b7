"""Six digits that confirm an address as the link beside them does: five attempts, fifteen minutes, once."""

import hmac
import secrets
from datetime import datetime, timedelta
from http import HTTPStatus

from allauth.account.models import EmailAddress
from django.db.models import F
from django.utils.crypto import salted_hmac

from portal.accounts.models import EmailCode
from portal.errors import DomainError

LIFE = timedelta(minutes=15)
CODES_A_DAY = 10


class CodeRefused(DomainError):
    """The digits are not the ones of the mail, or they are over."""

    code = "code_refused"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


def _digest(digits: str) -> str:
    return salted_hmac("portal.accounts.email_code", digits, algorithm="sha256").hexdigest()


def issue(address: EmailAddress | None, *, now: datetime) -> tuple[EmailCode | None, str]:
    """
    Make a code for an address; those before it end. Return the row and the digits, which go out by mail only.

    Without an address, a decoy and no digits. After ten codes in a day, nothing: the link still works.
    """
    if address is None:
        return EmailCode.objects.create(digest=_digest(""), created_at=now, expires_at=now + LIFE), ""
    earlier = EmailCode.objects.filter(email_address=address)
    earlier.filter(used_at=None, expires_at__gt=now).update(expires_at=now)
    if earlier.filter(created_at__gt=now - timedelta(days=1)).count() >= CODES_A_DAY:
        return None, ""
    digits = f"{secrets.randbelow(10**6):06d}"
    row = EmailCode.objects.create(email_address=address, digest=_digest(digits), created_at=now, expires_at=now + LIFE)
    return row, digits


def redeem(code_id: int, digits: str, *, now: datetime) -> EmailAddress:
    """
    Return the address that the digits prove, once. Each call is one of five attempts, whatever comes of it.

    Raises:
        CodeRefused: wrong, too old, used, or tried too often. A decoy answers as a code with wrong digits does.
    """
    live = EmailCode.objects.filter(pk=code_id, used_at=None, expires_at__gt=now, attempts__lt=EmailCode.ATTEMPTS)
    if not live.update(attempts=F("attempts") + 1):
        raise CodeRefused("This code is over: used, older than 15 minutes, or mistyped five times. Ask for a new mail.")
    row = EmailCode.objects.select_related("email_address").get(pk=code_id)
    right = hmac.compare_digest(row.digest, _digest("".join(digits.split())))
    if not right or row.email_address is None:
        left = EmailCode.ATTEMPTS - row.attempts
        raise CodeRefused(f"These are not the six digits of the newest mail. You can try {left} more times.")
    if not EmailCode.objects.filter(pk=code_id, used_at=None).update(used_at=now):
        raise CodeRefused("This code was just used. Sign in.")
    return row.email_address


def tidy(*, now: datetime) -> None:
    """Delete codes that ended a day ago."""
    EmailCode.objects.filter(expires_at__lt=now - timedelta(days=1)).delete()
