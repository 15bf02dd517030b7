"""The application and what concerns an institution's people."""

from typing import Any

from django import forms
from django.utils.functional import lazy

from portal.accounts.models import User
from portal.institutions import countries, ror, services
from portal.institutions.models import Institution, Membership

# Heading, why we ask, fields: the sections of the application form, in order.
SECTIONS = [
    (
        "Your institution",
        "Shown to the public once you are a member.",
        ["name", "local_name", "ror_id", "country", "city", "kind", "website"],
    ),
    (
        "What you hold and what you can run",
        "Decides which of the three kinds of contribution suits you. A guess is fine; so is “not known yet”.",
        ["image_count", "gpu", "expertise"],
    ),
    (
        "What may leave",
        "Your law and your ethics approval decide this, not we. Nothing is sent because of these answers.",
        ["images_may_leave", "synthetic_may_leave", "weights_may_leave", "regulation_note", "ethics_reference"],
    ),
]
WHY = {
    "name": "As on your letterhead, in Latin letters.",
    "local_name": "So that your own people recognise it. In any script; may stay empty.",
    "ror_id": "Tells apart institutions of the same name. Nine characters, as in ror.org/04cpxjv19; may stay empty.",
    "country": "The UN M49 region follows from it; the model must learn from every region.",
    "city": "Helps readers of the list to find you; may stay empty.",
    "website": "The board looks there when it decides; may stay empty.",
    "kind": "Hospitals, universities and companies sign different annexes of the agreement.",
    "image_count": "Colour fundus photographs you could train on. Leave it empty when you do not know.",
    "gpu": "Fine-tuning the generator takes hours on a GPU and days without one.",
    "expertise": "The kit is a command-line program; somebody has to run it.",
    "images_may_leave": "Without direct identifiers, under your ethics approval.",
    "synthetic_may_leave": "Images drawn by a model that you trained; no photograph among them.",
    "weights_may_leave": "The numbers of a model that you trained; they can still tell something about patients.",
    "regulation_note": "Laws, hospital rules or contracts that we must keep; may stay empty.",
    "ethics_reference": "Number of the approval or waiver; the first contribution needs it, the application does not.",
    "role": "Somebody else can be invited to the other roles later.",
}


class ProfileForm(forms.ModelForm):
    """The profile of an institution: an application, and later its changes."""

    country = forms.ChoiceField(choices=lazy(lambda: [("", "Choose a country"), *countries.choices()], list))

    class Meta:
        model = Institution
        fields = [name for _, _, names in SECTIONS for name in names]
        widgets = {"regulation_note": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].choices = [("", "Choose one"), *Institution.Kind.choices]
        self.fields["ror_id"].max_length = None
        self.fields["ror_id"].validators, self.fields["ror_id"].widget.attrs = [], {"autocomplete": "off"}
        for name, field in self.fields.items():
            field.help_text = WHY.get(name, "")

    def clean_ror_id(self) -> str:
        ror_id = ror.normalise(self.cleaned_data["ror_id"])
        if ror_id and not ror.is_valid(ror_id):
            raise forms.ValidationError(
                "This is not a ROR id: its check digits do not fit. Copy it from ror.org, or leave it empty."
            )
        return ror_id

    def sections(self) -> list[tuple[str, str, list[forms.BoundField]]]:
        """Return the headings, why we ask, and the bound fields below each."""
        rows = [(heading, why, [self[name] for name in names]) for heading, why, names in SECTIONS]
        if "role" in self.fields:
            rows.append(("You", "Whoever applies takes one role at once.", [self["role"]]))
        return rows

    def read_back(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return the headings and the answers below each, in words."""
        return [
            (heading, [(self.fields[name].label, self._answer(name)) for name in names])
            for heading, _, names in SECTIONS
        ]

    def _answer(self, name: str) -> str:
        value = getattr(self.instance, name)
        if name == "country":
            return countries.countries()[value].name
        choices = dict(getattr(self.fields[name], "choices", []))
        return str(choices.get(value, value)) if value not in {None, ""} else ""


class ApplicationForm(ProfileForm):
    """The first form: the profile and the applicant's own role. Whoever applies can manage what follows."""

    role = forms.ChoiceField(
        label="Your role",
        choices=[
            (Membership.Role.PRINCIPAL_INVESTIGATOR.value, "Principal investigator: leads the work and answers for it"),
            (Membership.Role.STEWARD.value, "Data steward: prepares and sends the contributions"),
        ],
    )


class InvitationForm(forms.Form):
    """Somebody new."""

    email = forms.EmailField(label="E-mail address", help_text="Only the person who can read this mailbox can accept.")
    role = forms.ChoiceField(choices=Membership.Role.choices)


class RoleForm(forms.Form):
    """One more role for somebody who is here."""

    person = forms.ModelChoiceField(queryset=User.objects.none(), empty_label="Choose a person")
    role = forms.ChoiceField(choices=Membership.Role.choices)

    def __init__(self, *args: Any, institution: Institution, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["person"].queryset = services.people(institution).order_by("name")  # type: ignore[attr-defined]


class FilterForm(forms.Form):
    """What the public list can be narrowed by; lives in the address."""

    q = forms.CharField(required=False, label="Name", max_length=100, widget=forms.SearchInput)
    country = forms.ChoiceField(
        required=False, choices=lazy(lambda: [("", "All countries"), *countries.choices()], list)
    )
