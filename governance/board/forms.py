"""The ballot, the recusal, the proposal of a release."""

from typing import Any

from django import forms

from governance.board.models import Vote
from governance.releases import services as releases
from governance.releases.models import License, Release


class VoteForm(forms.Form):
    choice = forms.ChoiceField(choices=Vote.Choice, widget=forms.RadioSelect, label="Your vote")
    reason = forms.CharField(
        required=False,
        label="Reason",
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Needed unless you vote for. It goes on record with your name.",
    )

    def clean(self) -> dict[str, str]:
        cleaned = super().clean() or {}
        if cleaned.get("choice") in {"against", "abstain"} and not cleaned.get("reason", "").strip():
            self.add_error("reason", "Say why in a sentence.")
        return cleaned


class RecusalForm(forms.Form):
    reason = forms.CharField(
        label="Which interest do you declare?",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="For example: I wrote a paper with the applicant in 2025.",
    )


class ProposalForm(forms.Form):
    name = forms.CharField(max_length=120, help_text="Of the model, as it will be cited.")
    version = forms.CharField(max_length=20)
    license = forms.ModelChoiceField(License.objects.order_by("pk"), empty_label=None, label="Licence")
    card = forms.CharField(
        label="Model card",
        widget=forms.Textarea(attrs={"rows": 24, "class": "code"}),
        help_text="Markdown with the Hugging Face front matter. Drafted from what is on record.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        slug = releases.slug_of(cleaned.get("name", ""), cleaned.get("version", ""))
        if Release.objects.filter(slug=slug).exists():
            self.add_error("version", f"There is a release {slug} already. Give another version.")
        return cleaned
