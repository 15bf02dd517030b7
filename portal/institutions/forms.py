"""The application and what concerns an institution's people."""

from typing import Any

from django import forms
from django.urls import reverse
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
# What to write, and why we ask, by field.
HINTS = {
    "name": (
        "As on your letterhead, in Latin letters.",
        "It stands in the public list and in every release you helped.",
    ),
    "local_name": ("In any script.", "Your own people recognise it, and the receipt of the agreement shows it."),
    "ror_id": ("Nine characters, as in ror.org/04cpxjv19.", "It tells apart institutions of the same name."),
    "country": ("The United Nations M49 region follows from it.", "The model must learn from every region."),
    "city": ("", "It helps readers of the list to find you."),
    "kind": ("", "Hospitals, universities and companies sign different annexes of the agreement."),
    "website": ("", "The board looks there when it decides."),
    "image_count": (
        "A guess is fine. Leave it empty when you do not know.",
        "It shows which regions are still missing.",
    ),
    "gpu": ("", "Fine-tuning the generator takes hours on a GPU and days without one."),
    "expertise": ("", "The kit is a command-line program; somebody has to run it."),
    "images_may_leave": ("Without direct identifiers.", "Photographs are the kind of contribution that needs no GPU."),
    "synthetic_may_leave": (
        "Drawn by a model that you trained; no photograph is among them.",
        "Synthetic images are the kind for sites that may send images but no weights.",
    ),
    "weights_may_leave": (
        "The numbers of a model that you trained.",
        "Weights move the least; still they can tell something about patients, so your rules may forbid it.",
    ),
    "regulation_note": ("Laws, rules or contracts that we must keep.", "The board reads it before it decides."),
    "ethics_reference": (
        "Number of the approval or waiver.",
        "The first contribution needs it; the application does not.",
    ),
    "role": (
        "You can invite people to the other roles later.",
        "Every institution needs somebody who manages its file.",
    ),
}


class ProfileForm(forms.ModelForm):
    """The profile of an institution: an application, and later its changes."""

    country = forms.ChoiceField(
        label="Country", choices=lazy(lambda: [("", "Choose a country"), *countries.choices()], list)
    )

    class Meta:
        model = Institution
        fields = [name for _, _, names in SECTIONS for name in names]
        widgets = {"regulation_note": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].choices = [("", "Choose one"), *Institution.Kind.choices]  # type: ignore[attr-defined]
        self.fields["ror_id"] = forms.CharField(label="ROR id", required=False, max_length=60)
        self.fields["country"].widget.attrs |= {
            "hx-get": reverse("institutions:region"),
            "hx-trigger": "change",
            "hx-target": "#region",
        }
        for name, field in self.fields.items():
            field.help_text, field.why = HINTS[name]  # type: ignore[attr-defined]

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

    def chosen_region(self) -> countries.Region | None:
        """Return the sub-region of the country that stands in the form."""
        country = countries.countries().get(self["country"].value() or "")
        return country.subregion if country else None

    def read_back(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return the headings and the answers below each, in words."""
        return [
            (heading, [(str(self.fields[name].label), self._answer(name)) for name in names])
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
    region = forms.ChoiceField(
        required=False,
        choices=lazy(lambda: [("", ""), *((code, row.name) for code, row in countries.subregions().items())], list),
        widget=forms.HiddenInput,
    )
