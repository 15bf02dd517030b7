"""How django-allauth fits our accounts."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from allauth.usersessions.models import UserSession
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from portal import live
from portal.accounts import crypto, mails, traces
from portal.accounts.models import ERASED_DOMAIN, User


class AccountAdapter(DefaultAccountAdapter):
    """Keep the person's name from the sign-up form."""

    def save_user(self, request: HttpRequest, user: User, form: object, commit: bool = True) -> User:
        user.name = form.cleaned_data["name"]  # type: ignore[attr-defined]
        return super().save_user(request, user, form, commit)

    def clean_email(self, email: str) -> str:
        """Refuse an address that is kept for somebody's erasure, which would fail on whoever has it."""
        if email.lower().endswith(f"@{ERASED_DOMAIN}"):
            raise ValidationError(_("No mail reaches this address. Give one that you read."))
        return super().clean_email(email)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Put the mail in the outbox: a mail server that is down delays it and loses nothing."""
        mails.put(self.request, template_prefix, email, context)

    @transaction.atomic
    def logout(self, request: HttpRequest) -> None:
        """Sign out; open pages of the person learn it."""
        user = request.user
        if isinstance(user, User):
            traces.record("account.signed_out", user)
            live.recheck(user.pk)
        super().logout(request)

    @transaction.atomic
    def set_password(self, user: User, password: str) -> None:
        """Set it; every other session ends by it, and its open pages learn it."""
        super().set_password(user, password)
        traces.record("account.password_changed", user)
        live.recheck(user.pk)


class SessionsAdapter(DefaultUserSessionsAdapter):
    """Ending a session closes its live pages too."""

    @transaction.atomic
    def end_sessions(self, sessions: list[UserSession]) -> None:
        """End them; the one that asks signs out by it and is on record as that."""
        others = [session for session in sessions if not session.is_current()]
        super().end_sessions(sessions)
        if others:
            traces.record("account.session_ended", others[0].user, sessions=len(others))
        for user_id in {session.user_id for session in sessions}:
            live.recheck(user_id)


class MFAAdapter(DefaultMFAAdapter):
    """Keep the secrets of second factors encrypted."""

    def encrypt(self, text: str) -> str:
        return crypto.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return crypto.decrypt(encrypted_text)
