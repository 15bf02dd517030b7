"""How the board decides: the rule of each kind of question, in words; the chair and operators set it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from governance.board import meetings, rules
from governance.board.models import RULE_FIELDS, BallotRule, Kind
from portal.accounts.requests import SignedInRequest
from portal.errors import NotAllowed
from portal.programmes.models import Programme


class RuleForm(forms.ModelForm):
    """The fields of a rule, and for which programme."""

    programme = forms.ModelChoiceField(
        Programme.objects.order_by("name"),
        required=False,
        empty_label=_("Every programme without a rule of its own"),
        label=_("For"),
    )

    class Meta:
        model = BallotRule
        fields = ["programme", *RULE_FIELDS]
        labels = {
            "electorate": _("Who votes"),
            "quorum_percent": _("Quorum, in percent of who may vote"),
            "quorum_floor": _("Quorum, at least"),
            "threshold": _("Carried by"),
            "per_institution": _("One vote per institution"),
            "days": _("Days"),
            "reviewers": _("Reviewers before the ballot"),
        }

    def validate_unique(self) -> None:
        """The service keeps one rule per kind and programme."""

    def validate_constraints(self) -> None:
        """The numbers are checked field by field below."""

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for name, low, high in (
            ("quorum_percent", 0, 100),
            ("quorum_floor", 1, 200),
            ("days", 1, 90),
            ("reviewers", 0, 5),
        ):
            if given.get(name) is not None and not low <= given[name] <= high:
                self.add_error(name, _("Between %(low)s and %(high)s.") % {"low": low, "high": high})
        return given


def _require_reader(request: SignedInRequest) -> None:
    if not meetings.may_read(request.user):
        raise NotAllowed("The rules are for the board, operators and auditors.")


@require_GET
def list_(request: SignedInRequest) -> HttpResponse:
    """Show the rule of every kind, and those that a programme has of its own."""
    _require_reader(request)
    own = BallotRule.objects.filter(programme__isnull=False).select_related("programme")
    rows = [rules.rule_for(kind, None) for kind in Kind.values]
    context = {"rules": [*rows, *own], "may_set": rules.may_set(request.user)}
    return render(request, "board/rule_list.html", context)


def edit(request: SignedInRequest, kind: str) -> HttpResponse:
    """Set the rule of a kind."""
    if not rules.may_set(request.user):
        raise NotAllowed("Only the chair or an operator sets how the board decides.")
    if kind not in Kind.values:
        raise Http404
    programme = Programme.objects.filter(slug=request.GET.get("programme", "")).first()
    rule = rules.rule_for(kind, programme)
    initial = {name: getattr(rule, name) for name in RULE_FIELDS} | {"programme": programme}
    form = RuleForm(request.POST or None, initial=initial, instance=BallotRule(kind=kind))
    if form.is_valid():
        fields = {name: form.cleaned_data[name] for name in RULE_FIELDS}
        rules.set_rule(kind, form.cleaned_data["programme"], by=request.user, now=timezone.now(), **fields)
        messages.success(request, "The rule is set. Open motions on which nobody has voted follow it.")
        return redirect("board:rules")
    context = {"form": form, "kind": Kind(kind)}
    return render(request, "board/rule_edit.html", context, status=422 if form.errors else 200)
