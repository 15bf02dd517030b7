"""The application, field by field, and what concerns an institution's people."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.forms.models import fields_for_model
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import lazy

from portal.accounts.models import User
from portal.accounts.proofs import ProofForm
from portal.institutions import countries, options, profile, ror, services
from portal.institutions.lifecycle import DeclineCode, Status
from portal.institutions.models import Institution, Membership
from portal.institutions.vocabulary import UNKNOWABLE

LONGEST_TEXT = 2000
MOST_IMAGES = 10**9
ROLES = [
    ("principal_investigator", "Principal investigator: leads the work and answers for it"),
    ("steward", "Data steward: prepares and sends the contributions"),
]
Choices = lazy(lambda: [("", "Choose a country"), *countries.choices()], list)


class ProfileForm(forms.Form):
    """
    The profile of an institution, or some of its fields.

    Each field carries what it held when the page was made, so that only what this person changed is written.
    """

    unknown = forms.MultipleChoiceField(
        choices=[(name, name) for name in UNKNOWABLE], required=False, show_hidden_initial=True
    )

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        institution: Institution | None = None,
        only: Iterable[str] = (),
        initial: dict[str, Any] | None = None,
    ) -> None:
        initial = profile.snapshot(institution) if institution else initial
        super().__init__(data, initial=initial)
        self.institution = institution
        names = list(only) or profile.FIELDS
        self.fields = {**fields_for_model(Institution, fields=names), "unknown": self.fields["unknown"]}
        for name in names:
            self._prepare(name)

    def _prepare(self, name: str) -> None:
        field = self.fields[name]
        if name in profile.LISTS:
            field = self.fields[name] = forms.MultipleChoiceField(
                label=field.label, choices=options.choices(name), required=False, widget=forms.CheckboxSelectMultiple
            )
        elif name in profile.COUNTS:
            field = self.fields[name] = forms.IntegerField(
                label=field.label, required=False, min_value=0, max_value=MOST_IMAGES
            )
        elif name == "country":
            field = self.fields[name] = forms.ChoiceField(label="Country or area", choices=Choices())
            field.widget.attrs |= {"hx-get": reverse("institutions:region"), "hx-trigger": "change"}
            field.widget.attrs |= {"hx-target": "#region", "hx-params": "country"}
        elif name == "ror_id":
            field = self.fields[name] = forms.CharField(label="ROR id", required=False, max_length=60)
        elif name == "kind":
            field.choices = [("", "Choose one"), *Institution.Kind.choices]  # type: ignore[attr-defined]
        elif name in {"population_served", "cameras", "regulation_note"}:
            field = self.fields[name] = forms.CharField(
                label=field.label,
                required=False,
                max_length=LONGEST_TEXT,
                widget=forms.Textarea(attrs={"rows": 3}),
            )
        elif name == "naming":
            field.required = False
        if ("unknown", "Not known yet") in (getattr(field, "choices", None) or []) and name not in profile.LISTS:
            field.required, field.empty_value = False, "unknown"  # type: ignore[attr-defined]
        field.help_text, field.why = profile.HINTS[name]  # type: ignore[attr-defined]
        field.show_hidden_initial = self.institution is not None

    def clean_ror_id(self) -> str:
        ror_id = ror.normalise(self.cleaned_data["ror_id"])
        if ror_id and not ror.is_valid(ror_id):
            raise forms.ValidationError(
                "This is not a ROR id: its check digits do not fit. Copy it from ror.org, or leave it empty."
            )
        return ror_id

    def clean_naming(self) -> str:
        """Return the answer; where none is sent the one that stands, which nobody loses by a form without it."""
        stands = self.institution.naming if self.institution else Institution.Naming.NAMED
        return str(self.cleaned_data["naming"] or stands)

    def _clean_year(self, name: str) -> int | None:
        year, this_year = self.cleaned_data[name], timezone.now().year
        if year is not None and not 1950 <= year <= this_year:
            raise forms.ValidationError(f"{year} is not a year between 1950 and {this_year}. Write four digits.")
        return year

    def clean_years_from(self) -> int | None:
        return self._clean_year("years_from")

    def clean_years_to(self) -> int | None:
        return self._clean_year("years_to")

    def clean(self) -> dict[str, Any]:
        """Hold the years in order, with the other year as it stands where only one of them is sent."""
        first, last = (self._stands(name) for name in ("years_from", "years_to"))
        changed = "years_to" if "years_to" in self.fields else "years_from"
        if first and last and first > last and changed in self.fields:
            self.add_error(
                changed, f"The images would end ({last}) before they begin ({first}). Change one of the two."
            )
        return self.cleaned_data

    def _stands(self, name: str) -> Any:
        return self.cleaned_data.get(name, getattr(self.institution, name, None))

    def changes(self) -> dict[str, Any]:
        """Return the valid fields that this person changed."""
        return {
            name: self.cleaned_data[name]
            for name in self.changed_data
            if name in self.cleaned_data and name != "unknown"
        }

    def marks(self) -> dict[str, bool]:
        """Return the ticks "not known yet" that this person set or took away."""
        ticked, before = set(self.data.getlist("unknown")), set(self.data.getlist("initial-unknown"))  # type: ignore[attr-defined]
        shown = set(self.fields) & set(UNKNOWABLE)
        return {name: name in ticked for name in (ticked ^ before) & shown}

    @property
    def ticked(self) -> list[str]:
        """Return the fields whose "not known yet" is ticked."""
        return self.data.getlist("unknown") if self.is_bound else self.initial.get("unknown", [])  # type: ignore[attr-defined]

    def sections(self) -> list[tuple[str, str, str, list[forms.BoundField]]]:
        """Return anchor, heading, why we ask, and the bound fields of each section."""
        return [
            (anchor, heading, why, [self[name] for name in names if name in self.fields])
            for anchor, heading, why, names in profile.SECTIONS
        ]

    def chosen_region(self) -> countries.Region | None:
        """Return the sub-region of the country that stands in the form."""
        country = countries.countries().get(self["country"].value() or "")
        return country.subregion if country else None


class BeginForm(ProfileForm):
    """What an application begins with: which institution it is, and the applicant's own role."""

    def __init__(self, data: QueryDict | None = None, *, initial: dict[str, Any] | None = None) -> None:
        super().__init__(data, only=profile.SECTIONS[0][3], initial=initial)
        self.fields["role"] = forms.ChoiceField(
            label="Your role", choices=ROLES, help_text="You can invite people to the other roles in the next step."
        )
        self.fields["is_another"] = forms.BooleanField(
            label="Mine is another institution of the same name", required=False
        )
        del self.fields["unknown"]


class InvitationForm(forms.Form):
    """Somebody new."""

    email = forms.EmailField(label="E-mail address", help_text="Only the person who can read this mailbox can accept.")
    role = forms.ChoiceField(choices=Membership.Role.choices)


class CodeForm(forms.Form):
    """The six digits of an invitation's mail."""

    code = forms.RegexField(
        r"^\s*\d{6}\s*$",
        label="Code of six digits",
        error_messages={"invalid": "The code has six digits. Copy it from the mail."},
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "one-time-code", "maxlength": "8"}),
    )


class RoleForm(forms.Form):
    """One more role for somebody who is here."""

    person = forms.ModelChoiceField(queryset=User.objects.none(), empty_label="Choose a person")
    role = forms.ChoiceField(choices=Membership.Role.choices)

    def __init__(self, *args: Any, institution: Institution, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["person"].queryset = services.people(institution).order_by("name")  # type: ignore[attr-defined]


class HandOverForm(forms.Form):
    """Who leads the work from now on."""

    person = forms.ModelChoiceField(
        queryset=User.objects.none(), empty_label="Choose a person", label="New principal investigator"
    )
    sure = forms.BooleanField(label="I know that my own role ends at once")

    def __init__(self, *args: Any, institution: Institution, leaving: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = services.people(institution).exclude(pk=leaving.pk).order_by("name")
        self.fields["person"].queryset = others  # type: ignore[attr-defined]


class JoinForm(forms.Form):
    """What somebody asks of an institution's managers."""

    role = forms.ChoiceField(label="The role you want", choices=Membership.Role.choices, initial="member")
    message = forms.CharField(
        label="A word to its managers",
        required=False,
        max_length=LONGEST_TEXT,
        help_text="Who you are there, so that they recognise you.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class ReasonForm(forms.Form):
    """A sentence that somebody else reads."""

    reason = forms.CharField(label="Reason", max_length=LONGEST_TEXT, widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, *args: Any, label: str = "Reason", help_text: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].label, self.fields["reason"].help_text = label, help_text


class DeclineForm(ReasonForm):
    """Formal grounds; a vote of the board has its own."""

    code = forms.ChoiceField(
        label="Grounds", choices=[row for row in DeclineCode.choices if row[0] != DeclineCode.BOARD_VOTE]
    )
    field_order = ["code", "reason"]


class SigningKeyForm(ProofForm):
    """The public half of a key, registered with a fresh proof: from then on it signs for the institution."""

    registration = forms.CharField(
        max_length=300,
        help_text="The 133 characters that the command prints after <code>Registration:</code>. They prove that the "
        "private half is yours.",
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false", "class": "mono"}),
    )
    label = forms.CharField(max_length=80, help_text="Such as the machine that holds the private half.")


class RevokeKeyForm(forms.Form):
    reason = forms.CharField(
        max_length=300,
        label="Why do you revoke it?",
        help_text="Such as: the machine was replaced. It stays on record.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )


class MergeForm(forms.Form):
    """The member that stays."""

    into = forms.ModelChoiceField(queryset=Institution.objects.none(), label="Merge it into", empty_label="Choose one")

    def __init__(self, *args: Any, institution: Institution, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        members = Institution.objects.filter(status=Status.MEMBER).exclude(pk=institution.pk).order_by("name")
        self.fields["into"].queryset = members  # type: ignore[attr-defined]


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
