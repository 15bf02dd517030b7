"""What is asked of who proposes a motion, by kind. `asked()` returns the subject and what the service takes."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from contributions.models import Contribution
from governance.benchmarks.models import Task
from governance.board.effects import CONSEQUENCES
from governance.releases.models import Release
from portal.accounts.models import User
from portal.agreements.models import Agreement
from portal.programmes.models import Programme


class Proposal(forms.Form):
    """One subject, and the rest."""

    subject_field: str

    def asked(self) -> tuple[Any, dict[str, Any]]:
        given = dict(self.cleaned_data)
        return given.pop(self.subject_field), given


def _reason() -> forms.CharField:
    help_text = _("The board votes on it, and it is published with the decision.")
    return forms.CharField(
        max_length=4000, label=_("Why"), help_text=help_text, widget=forms.Textarea(attrs={"rows": 4})
    )


class RetractionForm(Proposal):
    subject_field = "release"
    release = forms.ModelChoiceField(Release.objects.filter(status="released"), label=_("Release"))
    reason = _reason()


class SettlementForm(Proposal):
    subject_field = "contribution"
    contribution = forms.ModelChoiceField(
        Contribution.objects.filter(
            status="withdrawn", decided_at__isnull=False, corpus_parts__isnull=False
        ).distinct(),
        label=_("Withdrawn contribution"),
        help_text=_("Those that a corpus holds."),
    )
    consequence = forms.ChoiceField(choices=CONSEQUENCES.items(), widget=forms.RadioSelect, label=_("What follows"))
    reason = _reason()


class VersionForm(Proposal):
    subject_field = "agreement"
    agreement = forms.ModelChoiceField(Agreement.objects.select_related("programme"), label=_("Agreement"))
    text = forms.CharField(
        label=_("The whole new text"),
        widget=forms.Textarea(attrs={"rows": 24, "class": "code"}),
        help_text=_("Markdown, with the same variables as now. Copy the text in force from its page and change it."),
    )
    change_note = forms.CharField(max_length=500, label=_("What is new, in a sentence"))
    is_material = forms.BooleanField(required=False, label=_("Those who signed before must sign this one"))
    deletion_days = forms.IntegerField(
        min_value=0,
        max_value=365,
        label=_("Days to delete withdrawn files"),
        help_text=_("As the new text says; the portal deletes them by then. 0: the text does not say so."),
    )


class TaskForm(Proposal):
    subject_field = "task"
    task = forms.ModelChoiceField(Task.objects.filter(adopted_at__isnull=True), label=_("Task"))
    reason = _reason()


class SeatForm(Proposal):
    subject_field = "person"
    email = forms.EmailField(label=_("E-mail of the person"), help_text=_("Of an account here."))
    role = forms.ChoiceField(choices=[("board_member", _("Board member")), ("chair", _("Chair"))], label=_("Seat"))
    programme = forms.ModelChoiceField(
        Programme.objects.order_by("name"), required=False, empty_label=_("Every programme"), label=_("Of")
    )
    term_ends_on = forms.DateField(label=_("Last day of the term"), widget=forms.DateInput(attrs={"type": "date"}))
    reason = _reason()

    def clean_email(self) -> str:
        email = self.cleaned_data["email"]
        self.person = User.objects.filter(email__iexact=email, is_active=True).first()
        if self.person is None:
            raise forms.ValidationError(_("No account has this address. Ask the person to sign up first."))
        return email

    def asked(self) -> tuple[Any, dict[str, Any]]:
        given = {name: value for name, value in self.cleaned_data.items() if name != "email"}
        return self.person, given
