"""Accepting a licence; what an institution says of a release."""

from typing import Any

from django import forms

from governance.releases.models import SiteAnswer

Answer = SiteAnswer.Answer


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


class SiteAnswerForm(forms.Form):
    """Whether an institution approves of a release, or objects and why."""

    answer = forms.ChoiceField(
        choices=[(Answer.APPROVES, "It approves of the release"), (Answer.OBJECTS, "It objects to the release")],
        widget=forms.RadioSelect,
        label="What does your institution say?",
    )
    reason = forms.CharField(
        required=False,
        max_length=4000,
        label="Reason",
        help_text="Needed for an objection. The board, operators and auditors read it, no other institution does.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("answer") == Answer.OBJECTS and not cleaned.get("reason"):
            self.add_error("reason", "Say in a sentence why your institution objects: the board reads it.")
        return cleaned
