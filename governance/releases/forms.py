"""Accepting a licence."""

from django import forms


class AcceptForm(forms.Form):
    license_sha256 = forms.CharField(widget=forms.HiddenInput)
    typed_name = forms.CharField(
        max_length=200, label="Your name", widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    institution_name = forms.CharField(
        max_length=250,
        label="Institution",
        help_text="Or “independent”.",
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    purpose = forms.CharField(
        label="Non-commercial purpose",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One sentence. It is kept with your acceptance and is not published.",
    )
    agree = forms.BooleanField(label="I have read the licence and accept it.")
