"""Institutions, their people and invitations as JSON."""

from typing import Any

from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from portal.institutions import actions, advice, countries, onboarding, ror
from portal.institutions.models import Institution, Invitation, Membership
from portal.openapi import ActionSerializer, offered

PUBLIC = ["slug", "name", "local_name", "ror_id", "country", "subregion", "city", "website", "kind"]
CAPACITY = ["image_count", "gpu", "expertise"]
LIMITS = ["images_may_leave", "synthetic_may_leave", "weights_may_leave", "regulation_note", "ethics_reference"]
APPLICANTS = [Membership.Role.PRINCIPAL_INVESTIGATOR, Membership.Role.STEWARD]
# Actions by name: the API's own address for each, and its method. Any other leads to its page.
OPERATIONS = {
    "edit": ("api:institution", "patch"),
    "submit": ("api:institution_send", "post"),
    "withdraw": ("api:institution_withdraw", "post"),
    "people": ("api:invitations", "post"),
}


class ProfileSerializer(serializers.ModelSerializer):
    """What an institution tells of itself. Every part may be left out when it is changed."""

    country = serializers.ChoiceField(choices=[], help_text="ISO 3166-1 alpha-2; the UN M49 region follows from it.")
    ror_id = serializers.CharField(
        max_length=60, required=False, allow_blank=True, help_text="As in ror.org/04cpxjv19."
    )

    class Meta:
        model = Institution
        fields = [*(name for name in PUBLIC if name not in {"slug", "subregion"}), *CAPACITY, *LIMITS]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["country"].choices = countries.choices()  # type: ignore[attr-defined]

    def validate_ror_id(self, value: str) -> str:
        ror_id = ror.normalise(value)
        if ror_id and not ror.is_valid(ror_id):
            raise serializers.ValidationError("This is not a ROR id: its check digits do not fit.")
        return ror_id


class ApplicationSerializer(ProfileSerializer):
    """A new application: the profile, and the applicant's own role."""

    role = serializers.ChoiceField(choices=[(role.value, role.label) for role in APPLICANTS])

    class Meta(ProfileSerializer.Meta):
        fields = [*ProfileSerializer.Meta.fields, "role"]


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


class CaseFileSerializer(serializers.ModelSerializer):
    """What only the institution's people and the consortium see: capacity, limits, who acts next."""

    holder = serializers.SerializerMethodField(help_text="Who has it now.")
    next_step = serializers.SerializerMethodField()
    advice = serializers.SerializerMethodField()

    class Meta:
        model = Institution
        fields = [*CAPACITY, *LIMITS, "decision_reason", "holder", "next_step", "advice"]

    def get_holder(self, institution: Institution) -> str:
        return onboarding.standing(institution).holder

    def get_next_step(self, institution: Institution) -> str:
        return onboarding.standing(institution).next_step

    @extend_schema_field(AdviceSerializer)
    def get_advice(self, institution: Institution) -> Any:
        return AdviceSerializer(advice.recommend(institution)).data


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


class MembershipSerializer(serializers.ModelSerializer):
    """One role of one person, with dates."""

    person = serializers.IntegerField(source="user_id")
    name = serializers.CharField(source="user.name")

    class Meta:
        model = Membership
        fields = ["id", "person", "name", "role", "started_at", "ended_at"]


class NewRoleSerializer(serializers.Serializer):
    """One more role for somebody who is here."""

    person = serializers.IntegerField(help_text="The id of a person of this institution.")
    role = serializers.ChoiceField(choices=Membership.Role.choices)


class InvitationSerializer(serializers.ModelSerializer):
    class Meta:
        model = Invitation
        fields = ["id", "email", "role", "invited_at", "expires_at", "accepted_at", "withdrawn_at"]


class NewInvitationSerializer(serializers.Serializer):
    email = serializers.EmailField(help_text="Only who can read this mailbox can accept.")
    role = serializers.ChoiceField(choices=Membership.Role.choices)


class AcceptInvitationSerializer(serializers.Serializer):
    secret = serializers.CharField(max_length=100, help_text="The last part of the link in the mail.")
