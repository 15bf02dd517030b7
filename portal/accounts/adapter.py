"""How django-allauth fits our accounts."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from allauth.usersessions.models import UserSession
from django.http import HttpRequest

from portal import live
from portal.accounts import crypto, mails
from portal.accounts.models import User


class AccountAdapter(DefaultAccountAdapter):
    """Keep the person's name from the sign-up form."""

    def save_user(self, request: HttpRequest, user: User, form: object, commit: bool = True) -> User:
        user.name = form.cleaned_data["name"]  # type: ignore[attr-defined]
        return super().save_user(request, user, form, commit)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Put the mail in the outbox: a mail server that is down delays it and loses nothing."""
        mails.put(self.request, template_prefix, email, context)

    def logout(self, request: HttpRequest) -> None:
        """Sign out; open pages of the person learn it."""
        user_id = request.user.pk
        super().logout(request)
        if user_id is not None:
            live.recheck(user_id)

    def set_password(self, user: User, password: str) -> None:
        """Set it; every other session ends by it, and its open pages learn it."""
        super().set_password(user, password)
        live.recheck(user.pk)


class SessionsAdapter(DefaultUserSessionsAdapter):
    """Ending a session closes its live pages too."""

    def end_sessions(self, sessions: list[UserSession]) -> None:
        super().end_sessions(sessions)
        for user_id in {session.user_id for session in sessions}:
            live.recheck(user_id)


class MFAAdapter(DefaultMFAAdapter):
    """Keep the secrets of second factors encrypted."""

    def encrypt(self, text: str) -> str:
        return crypto.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return crypto.decrypt(encrypted_text)
