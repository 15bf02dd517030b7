"""How django-allauth fits our accounts."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from portal.accounts.models import User


class AccountAdapter(DefaultAccountAdapter):
    """Keep the person's name from the sign-up form."""

    def save_user(self, request: HttpRequest, user: User, form: object, commit: bool = True) -> User:
        user.name = form.cleaned_data["name"]  # type: ignore[attr-defined]
        return super().save_user(request, user, form, commit)
