"""Declaring an interest, and its end."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from governance.board.models import Interest
from portal.institutions.models import Institution


class InterestForm(forms.Form):
    nature = forms.ChoiceField(choices=Interest.Nature, label=_("What kind of tie"))
    institution = forms.ModelChoiceField(
        Institution.objects.exclude(status="draft").order_by("name"),
        required=False,
        empty_label=_("None of them"),
        label=_("With an institution here"),
        help_text=_("You are recused from what concerns it."),
    )
    organisation = forms.CharField(
        max_length=200, required=False, label=_("Or with somebody else"), help_text=_("A company, a funder, a person.")
    )
    note = forms.CharField(max_length=500, label=_("In a sentence"), help_text=_("The register is public."))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if bool(given.get("institution")) == bool(given.get("organisation")):
            self.add_error("organisation", _("Choose an institution, or name somebody else; one of the two."))
        return given


class EndForm(forms.Form):
    ended_on = forms.DateField(label=_("Ended on"), widget=forms.DateInput(attrs={"type": "date"}))
