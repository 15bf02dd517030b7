"""Signing."""

from typing import Any

from django import forms

from portal.accounts.models import User
from portal.agreements import services
from portal.agreements.models import AgreementVersion


class SignForm(forms.Form):
    """A signature: name, authority, and the hash of the text that was on the page."""

    text_sha256 = forms.CharField(widget=forms.HiddenInput)
    typed_name = forms.CharField(
        max_length=200,
        label="Your full name",
        help_text="As it stands on your account. It is kept with the signature.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    agree = forms.BooleanField(label="I have read the text above, I have authority to sign, and I sign.")

    def __init__(self, *args: Any, agreement: AgreementVersion, signer: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agreement, self.signer = agreement, signer
        self.fields["text_sha256"].initial = agreement.sha256

    def clean_typed_name(self) -> str:
        try:
            services.require_name(self.signer, self.cleaned_data["typed_name"])
        except services.NameMismatch as error:
            raise forms.ValidationError(str(error)) from error
        return self.cleaned_data["typed_name"]

    def clean_text_sha256(self) -> str:
        if self.cleaned_data["text_sha256"] != self.agreement.sha256:
            raise forms.ValidationError("A newer text was published while you read. Read it, then sign that one.")
        return self.agreement.sha256
