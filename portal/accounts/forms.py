"""Forms about people."""

from django import forms

from portal.accounts.models import User


class SignupForm(forms.Form):
    """The one field that we ask beside e-mail and password."""

    name = forms.CharField(
        max_length=200,
        label="Your name",
        help_text="As it should stand under a signature, in any script.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )

    field_order = ["name", "email", "password1"]

    def signup(self, request: object, user: User) -> None:
        """The adapter has saved the name already."""


class DeviceForm(forms.Form):
    """The code that the kit shows."""

    code = forms.CharField(
        max_length=20,
        label="Code",
        help_text="Eight letters in two groups, as your terminal shows them.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
    )

    def clean_code(self) -> str:
        """People type small letters and leave the dash out."""
        letters = "".join(letter for letter in self.cleaned_data["code"].upper() if letter.isalpha())
        return f"{letters[:4]}-{letters[4:]}"


class ProfileForm(forms.ModelForm):
    """What a person may change here; addresses, password and second factors have pages of their own."""

    class Meta:
        model = User
        fields = ["name"]


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=100, label="What is it for?", help_text="For example: GPU server of the eye clinic."
    )
