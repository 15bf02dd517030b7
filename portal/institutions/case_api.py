"""API: the case of an institution: sending, review, appeal, what it contributes, how far it is; the registry."""

from typing import Any

from django.urls import path
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from portal.accounts.requests import person_of
from portal.institutions import advice, onboarding, pathways, profile, registry, reviews, services
from portal.institutions.api_access import answer, managed, visible, with_file
from portal.institutions.lifecycle import DeclineCode
from portal.institutions.models import Institution, RorOrganisation
from portal.institutions.serializers import InstitutionDetailSerializer
from portal.institutions.vocabulary import Pathway
from portal.openapi import operation, valid

GROUP = "Institutions"
FORMAL = [row for row in DeclineCode.choices if row[0] != DeclineCode.BOARD_VOTE]


class ReturnSerializer(serializers.Serializer):
    """What to change: comments on single fields, a note, or both."""

    comments = serializers.DictField(
        child=serializers.CharField(max_length=2000), default=dict, help_text="By name of the field of the profile."
    )
    note = serializers.CharField(max_length=2000, default="", allow_blank=True)

    def validate_comments(self, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(value) - set(profile.FIELDS))
        if unknown:
            raise serializers.ValidationError(f"The profile has no field called {', '.join(unknown)}.")
        return value


class DeclineSerializer(serializers.Serializer):
    code = serializers.ChoiceField(choices=FORMAL)
    reason = serializers.CharField(max_length=2000, help_text="The applicants read it, and may appeal.")


class AppealSerializer(serializers.Serializer):
    grounds = serializers.CharField(max_length=2000, help_text="What the decision overlooked or got wrong.")


class KindAdviceSerializer(serializers.Serializer):
    """How one kind of contribution suits the institution, and why."""

    kind = serializers.CharField()
    fit = serializers.ChoiceField(choices=list(advice.FITS.items()))
    why = serializers.CharField()


class PathwaySerializer(serializers.Serializer):
    """What the institution contributes: what it has chosen, and our advice, the best first."""

    chosen = serializers.ListField(child=serializers.ChoiceField(choices=Pathway.choices))
    advice = KindAdviceSerializer(many=True)


class ChoiceSerializer(serializers.Serializer):
    kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=Pathway.choices), max_length=3, help_text="All that hold from now on."
    )


class StepSerializer(serializers.Serializer):
    """One line of the checklist."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field named like an attribute of fields
    done = serializers.BooleanField()
    detail = serializers.CharField()
    roles = serializers.ListField(child=serializers.CharField(), help_text="Who does it; empty: the consortium.")
    url = serializers.CharField(allow_blank=True, help_text="The page where it is done.")


class OnboardingSerializer(serializers.Serializer):
    """The way to the first contribution."""

    holder = serializers.CharField(help_text="Who has it now.")
    since = serializers.DateTimeField()
    next_step = serializers.CharField()
    next_url = serializers.CharField(allow_blank=True)
    target_on = serializers.DateField(allow_null=True)
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    steps = StepSerializer(many=True)


class OrganisationSerializer(serializers.ModelSerializer):
    """An entry of the Research Organization Registry."""

    member = serializers.SerializerMethodField(help_text="Slug of the member that has this ROR id; null: nobody has.")

    class Meta:
        model = RorOrganisation
        fields = ["ror_id", "name", "local_name", "country", "city", "website", "member"]

    @extend_schema_field(serializers.SlugField(allow_null=True))
    def get_member(self, row: RorOrganisation) -> Any:
        return self.context["members"].get(row.ror_id)


class RegistrySerializer(serializers.Serializer):
    results = OrganisationSerializer(many=True)


class SearchSerializer(serializers.Serializer):
    q = serializers.CharField(max_length=200, help_text="Part of a name, in any script.")


def _step(name: str, summary: str, takes: Any = None, description: str = "") -> Any:
    """Describe a step of the case: it answers with the institution as it is afterwards."""
    answers = InstitutionDetailSerializer
    return operation("POST", name, summary, group=GROUP, takes=takes, answers=answers, description=description)


@_step("send_application", "Send the application, for the first time or after changes: a review begins.")
@api_view(["POST"])
def send(request: Request, slug: str) -> Response:
    """Send the application."""
    return answer(services.apply(visible(request, slug), by=person_of(request), now=timezone.now()), request)


@_step("withdraw_application", "Take the application back.")
@api_view(["POST"])
def withdraw(request: Request, slug: str) -> Response:
    """Take the application back."""
    return answer(services.withdraw(visible(request, slug), by=person_of(request), now=timezone.now()), request)


@_step("reopen_application", "Make a declined application a draft again, to fix it and ask again.")
@api_view(["POST"])
def reopen(request: Request, slug: str) -> Response:
    """Fix it and ask again."""
    return answer(services.reopen(visible(request, slug), by=person_of(request), now=timezone.now()), request)


@_step("appeal", "Ask the board to look again at a decision; once for each.", AppealSerializer)
@api_view(["POST"])
def appeal(request: Request, slug: str) -> Response:
    """Appeal against a decision."""
    row = managed(request, slug)
    grounds = valid(AppealSerializer(data=request.data))["grounds"]
    return answer(services.appeal(row, grounds=grounds, by=person_of(request), now=timezone.now()), request)


def _reviewed(request: Request, slug: str) -> Institution:
    """Return the application to somebody who may judge it."""
    row = visible(request, slug)
    reviews.require_reviewer(person_of(request), row)
    return row


@_step(
    "return_application",
    "Return the application for changes.",
    ReturnSerializer,
    "For its reviewer, operators and the chair, never of their own institution. The open ballot is moot.",
)
@api_view(["POST"])
def return_(request: Request, slug: str) -> Response:
    """Return the application with comments on single fields."""
    row = _reviewed(request, slug)
    given = valid(ReturnSerializer(data=request.data))
    return answer(services.return_for_changes(row, **given, by=person_of(request), now=timezone.now()), request)


@_step(
    "decline_application",
    "Decline on formal grounds, without the board.",
    DeclineSerializer,
    "For the reviewer, operators and the chair. What the board voted on, and every appeal, only its vote decides.",
)
@api_view(["POST"])
def decline(request: Request, slug: str) -> Response:
    """Decline on formal grounds."""
    row = _reviewed(request, slug)
    given = valid(DeclineSerializer(data=request.data))
    return answer(services.decline_formally(row, **given, by=person_of(request), now=timezone.now()), request)


# How far it is, and what it contributes


@operation(
    "GET",
    "show_onboarding",
    "Show the way to the first contribution: what is done, who must act, until when.",
    group=GROUP,
    answers=OnboardingSerializer,
)
@api_view(["GET"])
def checklist(request: Request, slug: str) -> Response:
    """Show the checklist."""
    row = with_file(request, slug)
    steps, standing = onboarding.checklist(row), onboarding.standing(row)
    document = {
        "holder": standing.holder,
        "since": row.status_since,
        "next_step": standing.next_step,
        "next_url": standing.url,
        "target_on": standing.target,
        "done": sum(step.done for step in steps),
        "total": len(steps),
        "steps": steps,
    }
    return Response(OnboardingSerializer(document).data)


@operation(
    "GET", "show_pathway", "Show what the institution contributes, and our advice.", group=GROUP,
    answers=PathwaySerializer,
)  # fmt: skip
@operation(
    "PUT",
    "choose_pathway",
    "Choose what the institution contributes: it may differ from the advice, and change later.",
    group=GROUP,
    takes=ChoiceSerializer,
    answers=PathwaySerializer,
)
@api_view(["GET", "PUT"])
def pathway(request: Request, slug: str) -> Response:
    """Show or choose what the institution contributes."""
    row = with_file(request, slug)
    if request.method == "PUT":
        by = person_of(request)
        services.require_manager(by, row)
        kinds = valid(ChoiceSerializer(data=request.data))["kinds"]
        pathways.choose(row, kinds, by=by, now=timezone.now())
    document = {"chosen": sorted(row.chosen_kinds()), "advice": advice.ranked(row)}
    return Response(PathwaySerializer(document).data)


@operation(
    "GET",
    "search_registry",
    "Find an institution in the local copy of the Research Organization Registry.",
    group=GROUP,
    answers=RegistrySerializer,
    query=[SearchSerializer],
    description="At most ten, the best first. Nothing is fetched from anywhere.",
)
@api_view(["GET"])
def search(request: Request) -> Response:
    """Find an institution in the registry."""
    found = registry.search(valid(SearchSerializer(data=request.query_params))["q"])
    keys = [row.ror_id for row in found]
    here = Institution.objects.filter(status="member", ror_id__in=keys)
    context = {"members": dict(here.values_list("ror_id", "slug"))}
    return Response({"results": OrganisationSerializer(found, many=True, context=context).data})


urlpatterns = [
    path("ror", search, name="ror"),
    path("institutions/<slug:slug>/send", send, name="institution_send"),
    path("institutions/<slug:slug>/withdraw", withdraw, name="institution_withdraw"),
    path("institutions/<slug:slug>/reopen", reopen, name="institution_reopen"),
    path("institutions/<slug:slug>/appeal", appeal, name="institution_appeal"),
    path("institutions/<slug:slug>/return", return_, name="institution_return"),
    path("institutions/<slug:slug>/decline", decline, name="institution_decline"),
    path("institutions/<slug:slug>/onboarding", checklist, name="onboarding"),
    path("institutions/<slug:slug>/pathway", pathway, name="pathway"),
]
