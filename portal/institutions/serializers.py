"""Institutions and their cases as JSON."""

from datetime import date
from typing import Any

from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from portal.institutions import actions, advice, countries, onboarding, options, profile, reviews, ror
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Membership
from portal.institutions.vocabulary import UNKNOWABLE
from portal.openapi import ActionSerializer, offered

PUBLIC = ["slug", "name", "local_name", "ror_id", "country", "subregion", "city", "website", "kind"]
FILE = [name for name in profile.FIELDS if name not in PUBLIC]
TEXTS = ["population_served", "cameras", "regulation_note"]
APPLICANTS = [Membership.Role.PRINCIPAL_INVESTIGATOR, Membership.Role.STEWARD]
# Actions by name: the API's own address for each, and its method. Any other leads to its page.
OPERATIONS = {
    "edit": ("api:institution", "patch"),
    "submit": ("api:institution_send", "post"),
    "withdraw": ("api:institution_withdraw", "post"),
    "people": ("api:invitations", "post"),
    "pathway": ("api:pathway", "put"),
    "reopen": ("api:institution_reopen", "post"),
    "appeal": ("api:institution_appeal", "post"),
    "return": ("api:institution_return", "post"),
    "decline": ("api:institution_decline", "post"),
    "ask": ("api:join_requests", "post"),
}


def codes() -> serializers.ListField:
    """Return a field that holds some answers of a list of the profile, which programmes bring (options.py)."""
    return serializers.ListField(
        child=serializers.CharField(max_length=40),
        required=False,
        max_length=60,
        help_text="Codes of what the profile offers; a wrong one is answered with all of them.",
    )


class ProfileSerializer(serializers.ModelSerializer):
    """What an institution tells of itself. Every part may be left out when it is changed."""

    country = serializers.ChoiceField(choices=[], help_text="ISO 3166-1 alpha-2; the UN M49 region follows from it.")
    ror_id = serializers.CharField(
        max_length=60, required=False, allow_blank=True, help_text="As in ror.org/04cpxjv19."
    )
    care_settings = codes()
    labels = codes()
    unknown = serializers.ListField(
        child=serializers.ChoiceField(choices=UNKNOWABLE),
        required=False,
        max_length=30,
        help_text="Fields answered with “not known yet”.",
    )

    class Meta:
        model = Institution
        fields = [*profile.FIELDS, "unknown"]
        extra_kwargs = {
            **{name: {"max_length": 2000} for name in TEXTS},
            **{name: {"min_value": 0, "max_value": 10**9} for name in profile.COUNTS},
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["country"].choices = countries.choices()  # type: ignore[attr-defined]

    def validate_ror_id(self, value: str) -> str:
        ror_id = ror.normalise(value)
        if ror_id and not ror.is_valid(ror_id):
            raise serializers.ValidationError("This is not a ROR id: its check digits do not fit.")
        return ror_id

    def validate_care_settings(self, value: list[str]) -> list[str]:
        return self._offered("care_settings", value)

    def validate_labels(self, value: list[str]) -> list[str]:
        return self._offered("labels", value)

    def _offered(self, name: str, value: list[str]) -> list[str]:
        known = [code for code, _ in options.choices(name)]
        if wrong := [code for code in value if code not in known]:
            raise serializers.ValidationError(f"“{wrong[0]}” is not one of {', '.join(known)}.")
        return value

    def _year(self, value: int | None) -> int | None:
        this_year = timezone.now().year
        if value is not None and not 1950 <= value <= this_year:
            raise serializers.ValidationError(f"{value} is not a year between 1950 and {this_year}.")
        return value

    validate_years_from = validate_years_to = _year

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Hold the years in order, with the other year as it stands where only one of them is sent."""
        first, last = (attrs.get(name, getattr(self.instance, name, None)) for name in ("years_from", "years_to"))
        if first and last and first > last and {"years_from", "years_to"} & set(attrs):
            raise serializers.ValidationError(
                {"years_to": f"The images would end ({last}) before they begin ({first})."}
            )
        return attrs


class ApplicationSerializer(ProfileSerializer):
    """A new application: the profile, and the applicant's own role."""

    role = serializers.ChoiceField(choices=[(role.value, role.label) for role in APPLICANTS])
    is_another = serializers.BooleanField(
        default=False, help_text="True: mine is another institution than the one of the same name that is here."
    )

    class Meta(ProfileSerializer.Meta):
        fields = [*ProfileSerializer.Meta.fields, "role", "is_another"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        ticked = attrs.get("unknown", [])
        return attrs | {"unknown": sorted({name for name in ticked if attrs.get(name) in (None, "")})}


class InstitutionSerializer(serializers.ModelSerializer):
    """An institution as everybody sees it who may."""

    url = serializers.SerializerMethodField()

    class Meta:
        model = Institution
        fields = ["id", *PUBLIC, "status", "status_since", "url"]

    def get_url(self, institution: Institution) -> str:
        return self.context["request"].build_absolute_uri(institution.get_absolute_url())


class AdviceSerializer(serializers.Serializer):
    """Which kind of contribution suits the institution."""

    kind = serializers.CharField(allow_blank=True)
    headline = serializers.CharField()
    why = serializers.CharField()


class CommentSerializer(serializers.Serializer):
    """What the reviewer asks to change in one field."""

    field = serializers.CharField()
    text = serializers.CharField()
    at = serializers.DateTimeField()


class CaseFileSerializer(serializers.ModelSerializer):
    """What only the institution's people and the consortium see: the whole profile, and who has the case."""

    holder = serializers.SerializerMethodField(help_text="Who has it now.")
    next_step = serializers.SerializerMethodField()
    target_on = serializers.SerializerMethodField(help_text="Until when; null where nothing is due.")
    missing = serializers.SerializerMethodField(help_text="Fields without an answer; none stops an application.")
    comments = serializers.SerializerMethodField(help_text="Of the review that returned it, while it is returned.")
    note = serializers.SerializerMethodField(help_text="What the reviewer said beside the comments.")
    advice = serializers.SerializerMethodField()
    chosen = serializers.SerializerMethodField(help_text="The kinds of contribution that it has chosen.")

    class Meta:
        model = Institution
        fields = [
            *FILE, "unknown", "round", "decision_code", "decision_reason", "holder", "next_step", "target_on",
            "missing", "comments", "note", "advice", "chosen",
        ]  # fmt: skip

    def get_holder(self, institution: Institution) -> str:
        return self._standing(institution).holder

    def get_next_step(self, institution: Institution) -> str:
        return self._standing(institution).next_step

    def get_target_on(self, institution: Institution) -> date | None:
        return self._standing(institution).target

    def _standing(self, institution: Institution) -> onboarding.Standing:
        """Ask once for all three."""
        if not hasattr(self, "_found"):
            self._found = onboarding.standing(institution)
        return self._found

    def get_missing(self, institution: Institution) -> list[str]:
        return profile.missing(institution)

    @extend_schema_field(CommentSerializer(many=True))
    def get_comments(self, institution: Institution) -> Any:
        rows = [row for comments in reviews.comments_on(institution).values() for row in comments]
        return CommentSerializer(rows, many=True).data

    def get_note(self, institution: Institution) -> str:
        review = reviews.latest(institution) if institution.status == Status.RETURNED else None
        return review.note if review else ""

    @extend_schema_field(AdviceSerializer)
    def get_advice(self, institution: Institution) -> Any:
        return AdviceSerializer(advice.recommend(institution)).data

    def get_chosen(self, institution: Institution) -> list[str]:
        return sorted(institution.chosen_kinds())


class InstitutionDetailSerializer(InstitutionSerializer):
    """An institution whole, as far as you may see it, with what you can do."""

    file = serializers.SerializerMethodField(help_text="Null where you may not see it.")
    available_actions = serializers.SerializerMethodField()

    class Meta(InstitutionSerializer.Meta):
        fields = [*InstitutionSerializer.Meta.fields, "file", "available_actions"]

    @extend_schema_field(CaseFileSerializer(allow_null=True))
    def get_file(self, institution: Institution) -> Any:
        user = self.context["request"].user
        return CaseFileSerializer(institution).data if user.has_perm("institutions.view_file", institution) else None

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, institution: Institution) -> Any:
        found = actions.available(institution, self.context["request"].user, now=timezone.now())
        addresses = {
            name: (reverse(route, args=[institution.slug]), verb) for name, (route, verb) in OPERATIONS.items()
        }
        return offered(found, addresses)


class FilterSerializer(serializers.Serializer):
    """What the list can be narrowed by."""

    q = serializers.CharField(required=False, max_length=100, help_text="Part of the name, in any script.")
    country = serializers.CharField(required=False, max_length=2, help_text="ISO 3166-1 alpha-2.")
    region = serializers.CharField(required=False, max_length=3, help_text="UN M49 code of a sub-region.")
    mine = serializers.BooleanField(default=False, help_text="Only institutions in which you hold a role.")
