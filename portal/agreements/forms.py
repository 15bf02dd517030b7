"""Preparing, signing, declining and terminating."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from portal.accounts.proofs import ProofForm
from portal.agreements import duo, services, terms
from portal.agreements.cases import AUTOMATIC
from portal.agreements.models import AgreementVersion, Party, SigningRequest
from portal.agreements.rendering import Value, variables_of
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Membership

PURPOSES = "Training, evaluation and publication of models within the programme, for non-commercial research"
# What the form asks for each variable: label, help, why.
WORDS = {
    "covered": (_("Further hospitals"), "", ""),
    "institution": (_("Legal name of the institution"), _("As it stands in its register or statutes."), ""),
    "principal_investigator": (
        _("Principal investigator"),
        _("Signs first and answers for the science."),
        _("The agreement names one person. Give somebody the role first if the right name is not here."),
    ),
    "ethics_reference": (
        _("Ethics approval or waiver"),
        _("Committee, number and date; or the law by which none is needed."),
        _("A contribution without a legal basis cannot be used, and would have to be taken out of every corpus."),
    ),
    "kinds": (_("Kinds of contribution"), _("All that you may ever want to send; each remains your choice."), ""),
    "use_codes": (
        _("What it may be used for"),
        _("Codes of the Data Use Ontology: one permission, and what narrows it."),
        _("Machines read these codes, so that nobody uses your contribution for what you did not agree to."),
    ),
    "purposes": (_("Purposes, in words"), _("Narrow them if your approval is narrower."), ""),
    "transfer_limits": (
        _("Limits on transfer"),
        _("What must not leave your institution or country, and why. “None” is an answer."),
        "",
    ),
}


def label_of(name: str) -> str:
    """Return what a variable of a text is called on the pages."""
    return str(WORDS[name][0]) if name in WORDS else name.replace("_", " ").capitalize()


class PrepareForm(forms.Form):
    """The particulars that the text of one version needs, and the further hospitals under it."""

    def __init__(
        self, *args: Any, version: AgreementVersion, institution: Institution, before: SigningRequest | None, **kw: Any
    ) -> None:
        super().__init__(*args, **kw)
        self.institution, self.before = institution, before
        wanted = variables_of(version.text)
        self.names = [name for name in wanted if name not in AUTOMATIC]
        for name in self.names:
            self.fields[name] = self._field(name, version)
        if "covered" in wanted:
            self._add_covered()

    def _field(self, name: str, version: AgreementVersion) -> forms.Field:
        _label, help_text, why = WORDS.get(name, ("", "", ""))
        given: dict[str, Any] = {"label": label_of(name), "help_text": help_text, "initial": self._initial(name)}
        field: forms.Field
        if name == "principal_investigator":
            people = institutions.people(self.institution, Membership.Role.PRINCIPAL_INVESTIGATOR).order_by("name")
            field = forms.ChoiceField(choices=[(person.name, person.name) for person in people], **given)
        elif name == "kinds":
            kinds = [(kind, _(terms.KINDS[kind])) for kind in version.agreement.covers]
            field = forms.MultipleChoiceField(choices=kinds, widget=forms.CheckboxSelectMultiple, **given)
        elif name == "use_codes":
            codes = [(short, f"{short}: {term.plain}") for short, term in duo.TERMS.items()]
            field = forms.MultipleChoiceField(choices=codes, widget=forms.CheckboxSelectMultiple, **given)
        elif name in {"purposes", "transfer_limits"}:
            field = forms.CharField(max_length=1000, widget=forms.Textarea(attrs={"rows": 3}), **given)
        else:
            field = forms.CharField(max_length=250, **given)
        vars(field)["why"] = why
        return field

    def _initial(self, name: str) -> Any:
        """Return what was given last time, else what the profile says."""
        given = self.before.variables.get(name) if self.before else None
        if name == "kinds":
            signed = terms.kinds_of(self.before) if self.before else None
            return list(terms.KINDS) if signed is None else list(signed)
        if name == "use_codes":
            return (terms.codes_of(self.before) if self.before else []) or ["HMB", "NCU"]
        profile = {
            "institution": self.institution.name,
            "ethics_reference": self.institution.ethics_reference,
            "purposes": PURPOSES,
            "transfer_limits": self.institution.regulation_note,
        }
        return given or profile.get(name, "")

    def _add_covered(self) -> None:
        others = Institution.objects.filter(status=Status.MEMBER, country=self.institution.country)
        others = others.exclude(pk=self.institution.pk).order_by("name")
        if not others.exists():
            return
        before = self.before.covered.values_list("institution", flat=True) if self.before else []
        self.fields["covered"] = forms.ModelMultipleChoiceField(
            others,
            required=False,
            initial=list(before),
            label=_("Further hospitals under this agreement"),
            help_text=_("Members of your country for which your signing official may sign. Each is asked to confirm."),
            widget=forms.CheckboxSelectMultiple,
        )

    def clean_use_codes(self) -> list[str]:
        codes = self.cleaned_data["use_codes"]
        if problems := duo.conflicts(codes):
            raise forms.ValidationError(problems)
        return codes

    def variables(self) -> dict[str, Value]:
        """Return the values as they are written into the text."""
        values: dict[str, Value] = {name: self.cleaned_data[name] for name in self.names}
        if "kinds" in values:
            values["kinds"] = [terms.KINDS[kind] for kind in values["kinds"]]
        if "use_codes" in values:
            values["use_codes"] = duo.described(values["use_codes"])
        return values

    def covered(self) -> Sequence[Institution]:
        return list(self.cleaned_data.get("covered", []))


class SignForm(ProofForm):
    """A signature: authority, name, a fresh proof of who signs, and the hash of the text that was on the page."""

    text_sha256 = forms.CharField(widget=forms.HiddenInput)
    authority = forms.BooleanField()
    typed_name = forms.CharField(
        max_length=200,
        label=_("Your full name"),
        help_text=_("As it stands on your account. It is kept with the signature."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, case: SigningRequest, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.case, self.signer = case, self.request.user
        self.fields["text_sha256"].initial = case.text_sha256
        self.fields["authority"].label = services.AUTHORITY[party]

    def clean_typed_name(self) -> str:
        try:
            services.require_name(self.signer, self.cleaned_data["typed_name"])
        except services.NameMismatch as error:
            raise forms.ValidationError(str(error)) from error
        return self.cleaned_data["typed_name"]

    def clean_text_sha256(self) -> str:
        if self.cleaned_data["text_sha256"] != self.case.text_sha256:
            raise forms.ValidationError(_("The text was changed while you read. Read it again, then sign."))
        return self.case.text_sha256


class ReasonForm(forms.Form):
    """Why somebody declines."""

    reason = forms.CharField(
        max_length=2000,
        label=_("Why?"),
        help_text=_("One or two sentences. Everybody in this case reads them, and they stay on record."),
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class TerminateForm(ReasonForm):
    """Why, and the title typed, so that nobody terminates by a slip."""

    title = forms.CharField(max_length=200, label=_("Type the title of the agreement"))

    def __init__(self, *args: Any, case: SigningRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = case.agreement.title
        self.fields["title"].help_text = self.expected

    def clean_title(self) -> str:
        if self.cleaned_data["title"].strip().casefold() != self.expected.casefold():
            raise forms.ValidationError(_("That is not the title. Type it as it stands above."))
        return self.expected
