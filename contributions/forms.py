"""The wizard's forms: what is given, the training card, the reason of a withdrawal."""

import json
import re
from datetime import date, datetime, timedelta
from typing import Any, cast

from django import forms

from contributions import attestations, credits, deletion, drafts, embargo, kinds
from contributions.credit_models import CreditRole
from contributions.guarded_forms import MEANWHILE, GuardedForm
from contributions.models import LONGEST_EMBARGO, Contribution, ContributionFile
from contributions.rules import institutions_to_act_for
from jobs.kit import cards
from portal.accounts.models import User
from portal.programmes.models import BaseModel, Programme


def _day(**kwargs: Any) -> forms.DateField:
    """Return a field for a day; the browser's own calendar writes it as ISO 8601 says."""
    return forms.DateField(required=False, widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}), **kwargs)


class DetailsForm(GuardedForm):
    """Step 1 of a draft; `contribution` is the one that exists already."""

    guarded = ("title", "base_model", "embargo_until")

    title = forms.CharField(
        max_length=200, help_text="As the board will see it. For example: Fundus generator, screening 2019 to 2024."
    )
    base_model = forms.ModelChoiceField(
        BaseModel.objects.none(), empty_label=None, help_text="The registered generator you fine-tuned."
    )

    embargo_until = _day(
        label="Not to be used before",
        help_text="Only if you will publish about your data first, within two years. It is checked and voted on all "
        "the same; until that day no corpus takes it in, and only your institution, the board, operators and auditors "
        "see what it is. Once it is submitted, the day can become earlier, never later.",
    )

    def __init__(
        self,
        data: Any = None,
        *,
        programme: Programme | None,
        now: datetime,
        contribution: Contribution | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        stands = {name: getattr(contribution, name) for name in self.guarded} if contribution else {}
        super().__init__(data, standing=stands, initial={**stands, **(initial or {})})
        self.contribution, self.now = contribution, now
        self.begun_at = contribution.created_at if contribution else now
        first, last = embargo.today(now) + timedelta(days=1), embargo.today(self.begun_at) + LONGEST_EMBARGO
        self.fields["embargo_until"].widget.attrs |= {"min": first.isoformat(), "max": last.isoformat()}
        offered = BaseModel.objects.filter(programme=programme).order_by("-registered_at")
        cast(forms.ModelChoiceField, self.fields["base_model"]).queryset = offered

    def clean_title(self) -> str:
        title = str(self.cleaned_data["title"])
        try:
            drafts.require_shown(title)
        except drafts.TitleRefused as exc:
            raise forms.ValidationError(str(exc)) from exc
        return title

    def clean_embargo_until(self) -> date | None:
        """Return the day; one that stands already and is over meanwhile may stay."""
        day = self.cleaned_data["embargo_until"]
        stands = self.contribution is not None and self.contribution.embargo_until == day
        if day and not stands and (sentence := embargo.problem(day, begun_at=self.begun_at, now=self.now)):
            raise forms.ValidationError(sentence)
        return day

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if self.is_stale and any(given[name] != self.initial[name] for name in self.guarded if name in given):
            self.add_error(None, f"These details were {MEANWHILE}")
        return given

    def details(self) -> dict[str, Any]:
        """Return what was filled in."""
        return {name: value for name, value in self.cleaned_data.items() if name != "seen"}


class NewForm(DetailsForm):
    """Step 1 of a new contribution: also for whom."""

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["seen"]  # it stands nowhere yet
        programme = kwargs["programme"]
        taken = [(kind.slug, kind.name) for kind in kinds.OPEN.values() if programme and kind.slug in programme.kinds]
        self.fields["institution"] = forms.ModelChoiceField(institutions_to_act_for(user), empty_label=None)
        self.fields["kind"] = forms.ChoiceField(
            label="What you give",
            required=len(taken) > 1,
            choices=taken,
            initial=taken[0][0] if taken else "",
            widget=forms.RadioSelect if len(taken) > 1 else forms.HiddenInput,
        )
        self.order_fields(["institution", "kind", "title", "base_model", "embargo_until"])

    def clean_kind(self) -> str:
        """Return the kind; of a programme that takes only one, that one."""
        return self.cleaned_data["kind"] or str(self.fields["kind"].initial)


def _reason(label: str, help_text: str) -> forms.CharField:
    return forms.CharField(max_length=2000, label=label, help_text=help_text, widget=forms.Textarea(attrs={"rows": 3}))


class WithdrawForm(forms.Form):
    reason = _reason("Why do you withdraw it?", "One sentence; it stays on record.")


class EmbargoForm(forms.Form):
    """When a submitted contribution may be used: at once, or from an earlier day on."""

    when = forms.ChoiceField(
        label="When may it be used?",
        choices=[("now", "From now on: lift the embargo"), ("day", "From an earlier day on")],
        error_messages={"required": "Choose one of the two, or keep the embargo as it is."},
        widget=forms.RadioSelect,
    )
    day = _day(label="The earlier day", help_text="Only with the second answer: the first day on which it may be used.")

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("when") == "day" and given.get("day") is None and "day" not in self.errors:
            self.add_error("day", "Give the day from which it may be used, or lift the embargo.")
        return given

    def chosen(self) -> date | None:
        """Return the day; None to lift the embargo."""
        return self.cleaned_data["day"] if self.cleaned_data["when"] == "day" else None


class HoldForm(forms.Form):
    reason = _reason(
        "Who needs the files, and for what?",
        "A court, an authority, an inquiry, with their reference. The institution is told, and it stays on record.",
    )


class ReleaseForm(forms.Form):
    reason = _reason("Why are the files needed no longer?", "The institution is told, and it stays on record.")


class IsolateForm(forms.Form):
    """What was found, and where."""

    reason = _reason(
        "What was found?",
        "What the files hold that may not be sent, without repeating it. The institution's people read it; the board "
        "does not, and it is in no mail.",
    )
    concerned = forms.ModelMultipleChoiceField(
        ContributionFile.objects.none(), label="In which files?", widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, contribution: Contribution, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ModelChoiceField, self.fields["concerned"]).queryset = deletion.present(contribution)


class LiftForm(forms.Form):
    reason = _reason("Why was it a mistake?", "The institution is told, and it stays on record.")


class CardFileForm(forms.Form):
    """The kit's training_card.json, to fill the card from."""

    card_file = forms.FileField(
        label="training_card.json",
        help_text="The kit writes it beside weights.safetensors.",
        widget=forms.ClearableFileInput(attrs={"accept": ".json,application/json"}),
    )

    def clean_card_file(self) -> cards.Card:
        content = self.cleaned_data["card_file"].read(cards.MAX_BYTES + 1)
        try:
            card = json.loads(content)
        except (UnicodeDecodeError, ValueError, RecursionError) as exc:
            raise forms.ValidationError(
                "This is not a JSON file of a training card, or it is too large. Choose the training_card.json that "
                "the kit wrote, or fill in the form."
            ) from exc
        if not isinstance(card, dict):
            raise forms.ValidationError("A training card is a JSON object. Choose the training_card.json of the kit.")
        return cards.suppress_small_cells(card)


class ContributorForm(forms.Form):
    """Whom to name: people of the institution without a line."""

    person = forms.ModelChoiceField(User.objects.none(), empty_label="Choose a person")

    def __init__(self, *args: Any, contribution: Contribution, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ModelChoiceField, self.fields["person"]).queryset = credits.candidates(contribution)


class OwnLineForm(forms.Form):
    """What a person did, by the CRediT taxonomy."""

    roles = forms.MultipleChoiceField(
        choices=CreditRole.choices,
        label="What you did",
        help_text="All that is true, and nothing else: it stands beside your name.",
        widget=forms.CheckboxSelectMultiple,
    )


class AttestationForm(forms.Form):
    """A signed statement of the kit; its own content says which of the two it is."""

    statement = forms.FileField(
        label="Signature or privacy report",
        help_text="What ends in <code>.signed.json</code>, or <code>privacy_report.json</code>, one at a time.",
        widget=forms.ClearableFileInput(attrs={"accept": ".json,application/json"}),
    )

    def clean_statement(self) -> tuple[str, dict[str, Any]]:
        """Return the kind and the envelope."""
        try:
            envelope = attestations.read(self.cleaned_data["statement"].read(attestations.MAX_BYTES + 1))
        except attestations.AttestationRefused as exc:
            raise forms.ValidationError(str(exc)) from exc
        return attestations.kind_of(envelope), envelope


def _lines(value: Any) -> str:
    """Write a table as lines `name: value`; a text stays as it is."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    return "\n".join(f"{key}: {item if isinstance(item, str) else json.dumps(item)}" for key, item in value.items())


def _table(text: str) -> dict[str, Any] | str:
    """Read lines `name: value` as a table; any other text stays as it is, and one in which a name comes twice."""
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not lines or not all(colon and key.strip() and value.strip() for key, colon, value in lines):
        return text
    table = {key.strip(): _value(value.strip()) for key, _, value in lines}
    return table if len(table) == len(lines) else text


def _value(text: str) -> Any:
    """Read a value as JSON; a number that would come back otherwise stays as typed: 12.000 is no 12.0 to many."""
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and json.dumps(value) != text else value


def _text(rows: int, help_text: str, **kwargs: Any) -> forms.CharField:
    widget = forms.Textarea(attrs={"rows": rows})
    return forms.CharField(max_length=4000, help_text=help_text, widget=widget, **kwargs)


class WholeNumber(forms.IntegerField):
    """A whole number as typed: Django would read 10.000, ten thousand to half of our readers, as 10."""

    re_decimal = re.compile(r"(?!)")


class CardForm(GuardedForm):
    """
    The training card. It may be saved unfinished; what is filled in must be right.

    Tables (cameras, demographics, augmentation, de-duplication) are typed as lines `name: value`.
    """

    images = forms.CharField(max_length=20, help_text="How many photographs the generator was fine-tuned on.")
    patients = forms.CharField(
        max_length=20,
        help_text="How many people they show, or <code>unknown</code>; 1 to 9 is written <code>&lt;10</code>.",
    )
    cameras = _text(3, "One per line with its images, such as <code>Topcon NW400: 812</code>; or <code>unknown</code>.")
    demographics = _text(
        4,
        "Sex, age bands, ethnicity as far as you know them: one group per line with its count or share, such as "
        "<code>female: 412</code>; 1 to 9 is written <code>&lt;10</code>. Or <code>unknown</code>.",
    )
    labels = _text(
        3, "One per line with its images, such as <code>moderate NPDR: 120</code>, as far as they are.", required=False
    )
    years = forms.CharField(
        max_length=20,
        required=False,
        label="Years of the photographs",
        help_text="Such as <code>2015-2024</code>; years alone, never a date.",
    )
    exclusions = _text(2, "Whom or what you left out, and why.", required=False)
    ethics_reference = _text(2, "Committee, number and date; or the law by which none is needed.", required=False)
    steps = WholeNumber(min_value=1, label="Training steps")
    batch_size = WholeNumber(min_value=1, help_text="Images per step.")
    learning_rate = forms.FloatField(
        help_text="Such as 0.0001.", widget=forms.TextInput(attrs={"inputmode": "decimal"})
    )
    seed = forms.CharField(max_length=20, help_text="A whole number, or <code>unknown</code>.")
    augmentation = _text(3, "What was done to the images, such as <code>flip: true</code>; or <code>none</code>.")
    deduplication = _text(
        2, "How copies of a photograph were removed, or <code>none</code>.", label="Removal of duplicates"
    )
    dp_used = forms.ChoiceField(
        label="Was it trained with differential privacy?",
        choices=[("no", "No"), ("yes", "Yes, with DP-SGD or the like")],
        widget=forms.RadioSelect,
    )
    epsilon = forms.FloatField(required=False, help_text="Only with differential privacy: above 0.")
    delta = forms.FloatField(
        required=False, help_text="Only with differential privacy: above 0, at most one over the images."
    )
    noise_multiplier = forms.FloatField(
        required=False,
        help_text="Only with differential privacy: the noise's standard deviation over the clipping norm. Epsilon is "
        "computed again from it, the sample rate, the steps and delta.",
    )
    sample_rate = forms.FloatField(
        required=False, help_text="Only with differential privacy: the batch size over the number of photographs."
    )

    counts = ("images", "patients", "seed")
    tables = ("cameras", "demographics", "augmentation", "deduplication", *cards.OPTIONAL)
    numbers = ("steps", "batch_size", "learning_rate")
    budget = ("epsilon", "delta", "noise_multiplier", "sample_rate")

    def __init__(self, data: Any = None, *, contribution: Contribution, unfinished: bool = False) -> None:
        self.contribution, standing = contribution, contribution.training_card
        super().__init__(data, standing=standing, initial=self.initial_of(standing))
        for field in self.fields.values():
            field.required = field.required and not unfinished

    def initial_of(self, card: cards.Card) -> dict[str, Any]:
        """Return what the fields show for a card."""
        initial = {name: card.get(name) for name in self.numbers}
        for name in (*self.counts, *self.tables):
            initial[name] = "unknown" if name in card and card[name] is None else _lines(card.get(name))
        privacy = card.get("dp")
        if isinstance(privacy, dict) and "used" in privacy:
            initial["dp_used"] = "yes" if privacy["used"] else "no"
            initial |= {name: privacy.get(name) for name in self.budget}
        return initial

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("dp_used") != "yes" and any(given.get(name) is not None for name in self.budget):
            self.add_error("dp_used", "You gave numbers that only a private training has. Answer Yes, or empty them.")
        base = self.contribution.base_model
        for problem in cards.problems(self.card(), base_sha256=base.sha256 if base else ""):
            field = {"dp": "dp_used"}.get(problem.field, problem.field)
            if not problem.missing and field not in self.errors:
                self.add_error(field or None, problem.sentence)
        if self.is_stale and self.card() != self.contribution.training_card:
            self.add_error(None, f"This card was {MEANWHILE}")
        return given

    def card(self) -> cards.Card:
        """Return the card as filled in; keys that the form does not show stay as the kit wrote them."""
        given = self.cleaned_data
        card = {
            key: value
            for key, value in self.contribution.training_card.items()
            if key not in {*cards.FIELDS, *cards.OPTIONAL}
        }
        card |= {name: given[name] for name in self.numbers if given.get(name) is not None}
        card |= {name: self._count(given[name]) for name in self.counts if given.get(name)}
        card |= {name: self._described(name, given[name]) for name in self.tables if given.get(name)}
        if given.get("dp_used") == "yes":
            kept = self.contribution.training_card.get("dp")  # with what the kit wrote beside it, such as the norm
            kept = kept if isinstance(kept, dict) and kept.get("used") else {}
            card["dp"] = {**kept, "used": True, **{name: given.get(name) for name in self.budget}}
        elif given.get("dp_used") == "no":
            card["dp"] = {"used": False}
        return card

    @staticmethod
    def _count(text: str) -> Any:
        plain = "".join(text.replace(",", "").split())  # also the narrow spaces between thousands that our pages write
        if plain.lower() == "unknown":
            return None
        return int(plain) if plain.isdecimal() else plain

    @staticmethod
    def _described(name: str, text: str) -> Any:
        return "unknown" if text.strip().lower() == "unknown" else _table(text.strip())
