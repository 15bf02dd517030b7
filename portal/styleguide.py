"""The style guide: every part of the pages with invented content, for those who write pages."""

from datetime import UTC, datetime
from types import SimpleNamespace as Shown

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from portal import charts

SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
STATES = [
    ("draft", "Draft"),
    ("submitted", "Waiting for checks"),
    ("validating", "Being checked"),
    ("approved", "Approved"),
    ("warn", "Passed with a remark"),
    ("rejected", "Rejected"),
    ("withdrawn", "Withdrawn"),
]
CHECKS = [
    Shown(number=0, name="File", verdict="pass", sentence="Size and SHA-256 are what the site declared.", fix="",
          evidence={"sha256": SHA, "size_bytes": 6815744}, duration_seconds=0.11),
    Shown(number=4, name="Samples", verdict="warn", sentence="Two of 64 samples are nearly alike.", fix="",
          evidence={"nearest_distance": 0.0312}, duration_seconds=41.2),
    Shown(number=5, name="Weights", verdict="fail", sentence="mid.0.weight holds 3 values that are not finite.",
          fix="Train again from the last checkpoint whose loss was finite, then upload the new file.",
          evidence={"tensor": "mid.0.weight", "not_finite": 3}, duration_seconds=2.4),
    Shown(number=7, name="Memory", verdict="", sentence="", fix="", evidence={}, duration_seconds=None),
]  # fmt: skip
FILES = [Shown(name="weights.safetensors", size_bytes=6815744, sha256=SHA, state="verified", url="")]
CELLS = [
    {"value": "Eastern Asia", "n": 212, "auroc": 0.871, "low": 0.812, "high": 0.921, "suppressed": False},
    {"value": "South America", "n": 140, "auroc": 0.802, "low": 0.701, "high": 0.884, "suppressed": False},
    {"value": "Western Africa", "n": 7, "auroc": None, "low": None, "high": None, "suppressed": True},
]
TALLY = Shown(votes_for=3, votes_against=1, abstentions=1, waiting=2, eligible=7, quorum=4)
LOG = [Shown(at=AT, text="Reading the header: 214 tensors."), Shown(at=AT, text="Moments of 6.8 MB in 0.9 s.")]


class ExampleForm(forms.Form):
    """One field of each kind."""

    name = forms.CharField(label="Legal name", help_text="As it stands in the register of your country.")
    website = forms.URLField(label="Website", required=False, assume_scheme="https")
    kind = forms.ChoiceField(label="Kind", choices=[("hospital", "Hospital"), ("university", "University")])
    vote = forms.ChoiceField(
        label="Your vote", choices=[("for", "For"), ("against", "Against")], widget=forms.RadioSelect
    )
    note = forms.CharField(label="Note", required=False, widget=forms.Textarea(attrs={"rows": 3}))
    agree = forms.BooleanField(label="I have the authority to sign for the institution.")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["name"].why = "The agreement names the institution; a wrong name makes it void."  # type: ignore[attr-defined]


@login_not_required
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Show the style guide."""
    data = {"name": "", "website": "not an address"} if "errors" in request.GET else None
    context = {
        "form": ExampleForm(data),
        "states": STATES,
        "checks": CHECKS,
        "files": FILES,
        "cells": CELLS,
        "overall": {"n": 359, "auroc": 0.846, "low": 0.801, "high": 0.887, "suppressed": False},
        "tally": TALLY,
        "log": LOG,
        "sha": SHA,
        "at": AT,
        "steps": ["Institution", "People", "Images", "Read back"],
        "bars": [charts.Bar("Diabetic retinopathy", 1240), charts.Bar("Glaucoma", 380), charts.Bar("Normal", 2210)],
        "curve": [[0, 0], [0.05, 0.42], [0.12, 0.63], [0.3, 0.84], [0.6, 0.95], [1, 1]],
        "counts": {"030": 7, "034": 3, "014": 2, "155": 6, "005": 1, "061": 1},
    }
    return render(request, "portal/styleguide.html", context)
