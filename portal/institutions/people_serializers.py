"""People of an institution, invitations and requests to join as JSON."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from portal.institutions import actions
from portal.institutions.models import Invitation, JoinRequest, Membership
from portal.openapi import ActionSerializer


class MembershipSerializer(serializers.ModelSerializer):
    """One role of one person, with dates. The context holds `user`, `manages` and `managing`."""

    person = serializers.IntegerField(source="user_id")
    name = serializers.CharField(source="user.name")
    available_actions = serializers.SerializerMethodField()

    class Meta:
        model = Membership
        fields = ["id", "person", "name", "role", "started_at", "ended_at", "available_actions"]

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, membership: Membership) -> Any:
        known = {name: self.context[name] for name in ("manages", "managing")}
        return ActionSerializer(actions.of_membership(membership, self.context["user"], **known), many=True).data


class NewRoleSerializer(serializers.Serializer):
    """One more role for somebody who is here."""

    person = serializers.IntegerField(help_text="The id of a person of this institution.")
    role = serializers.ChoiceField(choices=Membership.Role.choices)


class InvitationSerializer(serializers.ModelSerializer):
    """An invitation as the managers see it; its secret is nowhere but in the mail."""

    available_actions = serializers.SerializerMethodField()

    class Meta:
        model = Invitation
        fields = [
            "id", "email", "role", "invited_at", "expires_at", "accepted_at", "withdrawn_at", "available_actions"
        ]  # fmt: skip

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, invitation: Invitation) -> Any:
        return ActionSerializer(actions.of_invitation(invitation), many=True).data


class NewInvitationSerializer(serializers.Serializer):
    email = serializers.EmailField(help_text="Only who can read this mailbox can accept.")
    role = serializers.ChoiceField(choices=Membership.Role.choices)


class AcceptInvitationSerializer(serializers.Serializer):
    secret = serializers.CharField(max_length=100, help_text="The last part of the link in the mail.")


class JoinRequestSerializer(serializers.ModelSerializer):
    """Somebody asks for a role. The context holds `user` and `manages`."""

    person = serializers.IntegerField(source="person_id")
    name = serializers.CharField(source="person.name")
    institution = serializers.SlugField(source="institution.slug")
    available_actions = serializers.SerializerMethodField()

    class Meta:
        model = JoinRequest
        fields = [
            "id", "institution", "person", "name", "role", "message", "state", "asked_at", "answered_at", "reason",
            "available_actions",
        ]  # fmt: skip

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, request: JoinRequest) -> Any:
        found = actions.of_join_request(request, self.context["user"], manages=self.context["manages"])
        return ActionSerializer(found, many=True).data


class AskSerializer(serializers.Serializer):
    """What somebody asks of an institution's managers."""

    role = serializers.ChoiceField(choices=Membership.Role.choices)
    message = serializers.CharField(
        max_length=2000, default="", allow_blank=True, help_text="Who you are there, so that they recognise you."
    )


class AcceptRequestSerializer(serializers.Serializer):
    role = serializers.ChoiceField(
        choices=Membership.Role.choices, required=False, help_text="Left out: the role that was asked for."
    )


class RefusalSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=2000, help_text="The person reads it.")
