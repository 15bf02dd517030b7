"""Starting work from the operator's pages."""

from django import forms

from contributions.corpora.models import DataSet
from contributions.kinds import OPEN
from contributions.lifecycle import Status
from contributions.models import Contribution


class PretrainForm(forms.Form):
    """What to train on, and for how long."""

    name = forms.CharField(max_length=100, help_text="Of the candidate, on the leaderboard.")
    dataset = forms.ModelChoiceField(
        DataSet.objects.all(), empty_label=None, label="Real photographs", help_text="Only the training split is used."
    )
    generators = forms.ModelMultipleChoiceField(
        Contribution.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Synthetic images from",
        help_text="Approved generators, sampled here in the sandbox, and approved synthetic images.",
    )
    images_per_generator = forms.IntegerField(min_value=1, max_value=2000, initial=64, label="Images of each")
    steps = forms.IntegerField(
        min_value=10, max_value=100_000, initial=300, help_text="300 take about a minute on one CPU core."
    )
    seed = forms.IntegerField(min_value=0, max_value=2**31 - 1, initial=0)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        approved = Contribution.objects.filter(status=Status.APPROVED, kind__in=OPEN)
        self.fields["generators"].queryset = approved.select_related("institution")  # type: ignore[attr-defined]
