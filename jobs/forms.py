"""Starting work from the operator's pages."""

from datetime import datetime
from typing import Any, cast

from django import forms

from contributions import embargo, isolation, uses
from contributions.corpora.models import DataSet
from contributions.kinds import OPEN
from contributions.models import Contribution
from jobs.models import Run, Worker
from portal.agreements.duo import Answer, Purpose
from portal.programmes.models import Programme

HOUR = 3600
ANY_DEVICE: dict[str, Any] = {"gpu_type": "", "gpu_count": 0, "gpu_memory_bytes": 0}


class CancelForm(forms.Form):
    """Why a run is cancelled."""

    reason = forms.CharField(max_length=500, help_text="It stands in the audit log and in the run's transitions.")


class FaultForm(forms.Form):
    """What was wrong with the platform."""

    reason = forms.CharField(
        max_length=500,
        help_text="A sentence that the institution reads too: “The worker had too little memory for this check.”",
    )


def gpu_types() -> list[tuple[str, str]]:
    """Return the types of GPU that workers have told of, and that none is asked for."""
    types = Worker.objects.exclude(gpu_type="").order_by("gpu_type").values_list("gpu_type", flat=True).distinct()
    return [("", "Any device"), *((name, name) for name in types)]


class RetryForm(forms.Form):
    """Why a run is started again, and what is different this time."""

    reason = forms.CharField(max_length=500, help_text="It stands in the audit log and on the new run's page.")
    gpu_type = forms.ChoiceField(
        choices=gpu_types, required=False, label="On", help_text="What workers have told of themselves."
    )
    wall_hours = forms.FloatField(min_value=0.1, max_value=24 * 60, label="Time limit, hours")

    def __init__(self, *args: Any, run: Run, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.run = run
        self.fields["gpu_type"].initial = run.gpu_type
        self.fields["wall_hours"].initial = round(run.wall_seconds / HOUR, 2)

    def wanted(self) -> dict[str, Any]:
        """Return what the new run asks for that may differ; on the type of before, it asks for as many as before."""
        gpu_type = self.cleaned_data["gpu_type"]
        gpus = self.run.inputs.get("processes", 1)  # one for each process of a training
        asked = {"gpu_type": gpu_type, "gpu_count": gpus} if gpu_type else ANY_DEVICE
        changed = asked if gpu_type != self.run.gpu_type else {}
        return {"wall_seconds": round(self.cleaned_data["wall_hours"] * HOUR), **changed}


class BudgetForm(forms.Form):
    """How many GPU-hours a programme may use in a month."""

    programme = forms.ModelChoiceField(Programme.objects.all(), empty_label=None)
    gpu_hours = forms.FloatField(
        required=False, min_value=0, max_value=10**7, label="GPU-hours a month", help_text="Empty lifts the budget."
    )


class MaintenanceForm(forms.Form):
    """What readers are told while the site is read-only."""

    message = forms.CharField(
        max_length=300, help_text="What is done, and until when: “The database is upgraded until 14:00 UTC.”"
    )


class GeneratorsField(forms.ModelMultipleChoiceField):
    """Contributions, each with what a person has to decide about it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.remarks: dict[int, str] = {}

    def label_from_instance(self, obj: Any) -> str:
        return ". ".join(filter(None, [str(obj), self.remarks.get(obj.pk)]))


class PretrainForm(forms.Form):
    """
    What to train on, and for how long: data sets and contributions of one programme.

    `not_offered` are the contributions that may not be trained on, with the reason; `under_embargo` those not yet.
    """

    name = forms.CharField(max_length=100, help_text="Of the candidate, on the leaderboard.")
    dataset = forms.ModelChoiceField(
        DataSet.objects.none(), empty_label=None, label="Real photographs", help_text="Only the training split is used."
    )
    generators = GeneratorsField(
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
    gpu_type = forms.ChoiceField(
        choices=gpu_types, required=False, label="On", help_text="What workers have told of themselves."
    )
    processes = forms.TypedChoiceField(
        choices=[(1, "1"), (2, "2"), (4, "4"), (8, "8")],
        coerce=int,
        initial=1,
        help_text="Each computes a part of every batch, on a GPU of its own; without GPUs they share the cores.",
    )

    def __init__(self, *args: Any, programme: Programme | None, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ours = {"kind__in": OPEN, "programme": programme}
        self.under_embargo = isolation.usable().filter(embargo_until__gt=embargo.today(now), **ours)
        approved = embargo.usable(now=now).filter(**ours)
        answers = uses.answers(approved, Purpose.TRAINING)
        self.not_offered = [(row, why) for row, answer, why in answers if answer == Answer.NO]
        usable = approved.exclude(pk__in=[row.pk for row, why in self.not_offered])
        datasets = DataSet.objects.filter(programme=programme)
        cast(forms.ModelChoiceField, self.fields["dataset"]).queryset = datasets
        generators = cast(GeneratorsField, self.fields["generators"])
        generators.queryset = usable
        generators.remarks = {row.pk: why for row, answer, why in answers if answer == Answer.ASK}
        if not answers and self.under_embargo:
            generators.help_text = "What the board has approved is under embargo, see below."
        elif not answers:
            generators.help_text = "The board has approved no generator and no synthetic images yet."
