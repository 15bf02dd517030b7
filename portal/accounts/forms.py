"""Forms about people."""

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.forms import EditWebAuthnForm
from django import forms
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from portal.accounts import services, terms, traces
from portal.accounts.models import ApiToken, ConsortiumRole, User
from portal.accounts.proofs import ProofForm


class SignupForm(forms.Form):
    """What we ask beside e-mail and password: a name, and that the terms of the site are accepted."""

    name = forms.CharField(
        max_length=200,
        label="Your name",
        help_text="As it should stand under a signature, in any script.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )

    agree = forms.BooleanField(label="I accept the terms of the site and its code of conduct.")

    field_order = ["name", "email", "password1", "agree"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.terms = terms.current()
        if self.terms is None:  # a portal that is being set up
            del self.fields["agree"]
        else:
            link = format_html('<a href="{}" target="_blank">Read them</a>: they are short.', reverse("terms"))
            self.fields["agree"].help_text = link

    def signup(self, request: HttpRequest, user: User) -> None:
        """Keep the acceptance; the adapter has saved the name already."""
        if self.terms is not None:
            terms.accept(self.terms, by=user, now=timezone.now())


class DeviceForm(forms.Form):
    """The code that the kit shows: by RFC 8628's name for it, as a second factor's is `code`."""

    user_code = forms.CharField(
        max_length=20,
        label="Code",
        help_text="Eight letters in two groups, as your terminal shows them.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
    )

    def clean_user_code(self) -> str:
        """People type small letters and leave the dash out."""
        letters = "".join(letter for letter in self.cleaned_data["user_code"].upper() if letter.isalpha())
        return f"{letters[:4]}-{letters[4:]}"


class ProfileForm(forms.ModelForm):
    """What a person may change here; addresses, password and second factors have pages of their own."""

    class Meta:
        model = User
        fields = ["name"]


class TokenForm(ProofForm):
    """A new token: whoever finds an open browser gets none."""

    name = forms.CharField(
        max_length=100, label="What is it for?", help_text="For example: GPU server of the eye clinic."
    )
    scope = forms.ChoiceField(
        label="What may it do?",
        choices=ApiToken.Scope,
        initial=ApiToken.Scope.CONTRIBUTE,
        widget=forms.RadioSelect,
        help_text="No token can sign or vote.",
    )
    days = forms.TypedChoiceField(
        label="For how long?", coerce=int, choices=[(days, f"{days} days") for days in services.TOKEN_LIVES], initial=30
    )


class EraseForm(ProofForm):
    """The last question before an account is erased."""

    email = forms.CharField(
        max_length=254,
        label="Your e-mail address",
        help_text="Type it to show that you mean this account.",
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    agree = forms.BooleanField(label="I understand that this cannot be undone.")

    def clean_email(self) -> str:
        given = self.cleaned_data["email"].strip().lower()
        if given != self.request.user.email.lower():
            raise forms.ValidationError(f"Type the address of this account: {self.request.user.email}.")
        return given


class AppointForm(forms.Form):
    """A consortium role for somebody who has an account."""

    email = forms.EmailField(label="E-mail address of the account")
    role = forms.ChoiceField(label="Role", choices=ConsortiumRole.Role)
    confirm = forms.BooleanField(label="The board has decided this, or the rules of the consortium provide for it.")

    def clean_email(self) -> User:
        person = User.objects.filter(email__iexact=self.cleaned_data["email"], is_active=True).first()
        if person is None:
            raise forms.ValidationError("No open account has this address. Ask the person to create one first.")
        return person

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        person, role = given.get("email"), given.get("role")
        held = ConsortiumRole.objects.current().everywhere().filter(role=role)  # not the seats of one programme
        if person is not None and role is not None and held.filter(user=person).exists():
            self.add_error("role", f"{person} holds this role already.")
        elif role == ConsortiumRole.Role.CHAIR and held.exists():
            self.add_error("role", "There is a chair. End that role first: the board has one chair.")
        return given


class PasskeyNameForm(EditWebAuthnForm):
    """allauth's own form for the name of a passkey; it has no signal, so the change is put on record here."""

    @transaction.atomic
    def save(self) -> Authenticator:
        authenticator = super().save()
        traces.record("account.factor_renamed", authenticator.user, type=authenticator.type)
        return authenticator
