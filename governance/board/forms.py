"""The declaration, the review, the ballot, notes, and the proposal of a release."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from governance.board.ballots import MAX_CONDITIONS
from governance.board.models import Comment, Declaration, Motion, Review, Vote
from governance.board.reviews import ANSWERS, QUESTIONS
from governance.releases import services as releases
from governance.releases.models import License, Release
from portal.accounts.proofs import ProofForm


def _reason(label: Any, help_text: Any, *, rows: int = 3, required: bool = True) -> forms.CharField:
    widget = forms.Textarea(attrs={"rows": rows})
    return forms.CharField(label=label, help_text=help_text, widget=widget, required=required, max_length=4000)


class DeclarationForm(forms.Form):
    """None, or an interest with which one stays, or stepping aside."""

    RECUSE = "recuse"

    answer = forms.ChoiceField(
        choices=[*Declaration.Answer.choices, (RECUSE, _("I step aside from this motion"))],
        widget=forms.RadioSelect,
        label=_("Do you have an interest in the outcome?"),
    )
    note = _reason(
        _("Which interest?"),
        _("Needed unless you have none. For example: I wrote a paper with the applicant in 2023."),
        required=False,
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("answer") in {"stay", self.RECUSE} and not cleaned.get("note", "").strip():
            self.add_error("note", _("Say in a sentence which interest you declare."))
        return cleaned


class VoteForm(ProofForm):
    """A ballot, with a fresh proof of who casts it."""

    choice = forms.ChoiceField(choices=Vote.Choice, widget=forms.RadioSelect, label=_("Your vote"))
    reason = _reason(
        _("Reason"),
        _("Needed unless you vote for. It goes on record with your name when the ballot closes."),
        required=False,
    )
    conditions = _reason(
        _("Conditions of your approval"),
        _("One a line. When the motion is carried each becomes a task of the institution, due in 90 days."),
        required=False,
    )

    def __init__(self, *args: Any, motion: Motion, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if motion.kind not in {Motion.Kind.ADMIT_INSTITUTION, Motion.Kind.APPROVE_CONTRIBUTION}:
            del self.fields["conditions"]

    def clean_conditions(self) -> list[str]:
        texts = [line.strip() for line in self.cleaned_data["conditions"].splitlines() if line.strip()]
        if len(texts) > MAX_CONDITIONS:
            raise forms.ValidationError(_("Give at most ten conditions."))
        return texts

    def clean(self) -> dict[str, Any]:
        chosen = self.cleaned_data.get("choice")
        if chosen in {"against", "abstain"} and not self.cleaned_data.get("reason", "").strip():
            self.add_error("reason", _("Say why in a sentence."))
        if chosen in {"against", "abstain"} and self.cleaned_data.get("conditions"):
            self.add_error("conditions", _("Conditions go with a vote for."))
        return super().clean()  # the proof last, when everything else is right

    def said(self) -> dict[str, Any]:
        """Return what `cast_vote` takes."""
        return {
            name: self.cleaned_data[name] for name in ("choice", "reason", "conditions") if name in self.cleaned_data
        }


class TieForm(ProofForm):
    """The chair's decision of a tie."""

    choice = forms.ChoiceField(
        choices=[("for", _("For"))] + [("against", _("Against"))], widget=forms.RadioSelect, label=_("You decide")
    )
    reason = _reason(_("Reason"), _("It goes on record and decides the motion at once."))


class RecusalForm(forms.Form):
    reason = _reason(
        _("Which interest do you declare?"), _("For example: I have been asked to join their team."), rows=2
    )


class ReviewForm(forms.Form):
    """The reviewer's checklist and recommendation."""

    recommendation = forms.ChoiceField(
        choices=Review.Recommendation, widget=forms.RadioSelect, label=_("What do you recommend?")
    )
    note = _reason(_("Why"), _("The board reads it. If you return it for changes, the institution does too."), rows=4)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, question in QUESTIONS.items():
            self.fields[name] = forms.ChoiceField(choices=ANSWERS.items(), widget=forms.RadioSelect, label=question)
        self.order_fields([*QUESTIONS, "recommendation", "note"])

    def answers(self) -> dict[str, str]:
        """Return what was answered, by question."""
        return {name: self.cleaned_data[name] for name in QUESTIONS}


class CommentForm(forms.Form):
    audience = forms.ChoiceField(choices=Comment.Audience, widget=forms.RadioSelect, label=_("Who reads it?"))
    text = _reason(_("Your note"), "")


class NoteForm(forms.Form):
    """A text with which something is done: a reply, a return, a taking back, a report."""

    text = _reason(_("Your note"), "")


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
