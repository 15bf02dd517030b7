"""django-allauth's mails: our words and frame, through the outbox; the session remembers which it asked for."""

from typing import Any

from allauth.account.models import EmailConfirmationHMAC
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from portal.accounts import email_codes
from portal.accounts.models import User
from portal.notifications import mail, services
from portal.notifications.models import OutboxMessage
from portal.notifications.types import Type

# Mails that a page waits for: where in the session it finds them. The answer is the same whether an account exists.
ADDRESS_MAIL, RESET_MAIL = "address_mail", "reset_mail"
WAITED_FOR: dict[str, str] = {
    "account/email/email_confirmation": ADDRESS_MAIL,
    "account/email/email_confirmation_signup": ADDRESS_MAIL,
    "account/email/account_already_exists": ADDRESS_MAIL,
    "account/email/password_reset_key": RESET_MAIL,
    "account/email/unknown_account": RESET_MAIL,
}
# The one button of a mail: the first of these that allauth gives.
BUTTONS = {
    "activate_url": "Confirm this address",
    "password_reset_url": "Choose a new password",
    "signup_url": "Create an account",
}


def put(request: HttpRequest | None, template_prefix: str, email: str, context: dict[str, Any]) -> OutboxMessage:
    """Put one of allauth's mails in the outbox."""
    place = WAITED_FOR.get(template_prefix, "")
    code_id, digits = _code(context.get("key", "")) if place == ADDRESS_MAIL else (0, "")
    words = {"email": email, **context}
    subject = " ".join(render_to_string(f"{template_prefix}_subject.txt", words).split())
    url, label = _button(context)
    body = mail.frame(
        render_to_string(f"{template_prefix}_message.txt", words).strip(),
        subject=subject,
        url=url,
        label=label,
        code=digits,
        why="You get this because somebody gave this address to the portal, or because it is that of your account.",
    )
    user = context.get("user") or User.objects.filter(email__iexact=email).first()
    message = services.put(email, type=Type.ACCOUNT, subject=subject, text=body.text, html=body.html, user=_saved(user))
    session = getattr(request, "session", None)
    if place and session is not None:
        session[place] = {"message": message.pk, "code": code_id, "email": email}
    return message


def _saved(user: AbstractBaseUser | None) -> AbstractBaseUser | None:
    return user if user is not None and user.pk else None


def _code(link_key: str) -> tuple[int, str]:
    """Make the digits beside a confirmation link. Without a link (the address has an account) they open nothing."""
    confirmation = EmailConfirmationHMAC.from_key(link_key) if link_key else None
    row, digits = email_codes.issue(confirmation.email_address if confirmation else None, now=timezone.now())
    return (row.pk, digits) if row is not None else (0, "")


def _button(context: dict[str, Any]) -> tuple[str, str]:
    for name, label in BUTTONS.items():
        if context.get(name):
            return context[name], label
    return mail.absolute(reverse("accounts:profile")), "Look at your account"
