"""How django-allauth fits our accounts."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from portal.accounts import mails
from portal.accounts.models import User


class AccountAdapter(DefaultAccountAdapter):
    """Keep the person's name from the sign-up form."""

    def save_user(self, request: HttpRequest, user: User, form: object, commit: bool = True) -> User:
        user.name = form.cleaned_data["name"]  # type: ignore[attr-defined]
        return super().save_user(request, user, form, commit)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Put the mail in the outbox: a mail server that is down delays it and loses nothing."""
        mails.put(self.request, template_prefix, email, context)
