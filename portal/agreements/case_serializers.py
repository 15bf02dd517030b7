"""Signing cases as JSON, and what their steps take."""

from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from portal.agreements import actions, services
from portal.agreements.lifecycle import OPEN, Status
from portal.agreements.models import CoveredInstitution, Party, SigningRequest
from portal.openapi import ActionSerializer, offered

# Actions by name: the API's own address for each. Signing leads to its page: a program cannot sign.
STEPS = ["send", "decline", "withdraw", "terminate"]


class CaseSerializer(serializers.ModelSerializer):
    """A case in a list: an institution signs one version of an agreement."""

    programme = serializers.SlugField(source="agreement_version.agreement.programme.slug")
    agreement = serializers.SlugField(source="agreement_version.agreement.slug")
    title = serializers.CharField(source="agreement_version.agreement.title")
    version = serializers.IntegerField(source="agreement_version.version")
    institution = serializers.SlugField(source="institution.slug")
    receipt_url = serializers.SerializerMethodField(help_text="Null before it is in force.")
    url = serializers.SerializerMethodField()

    class Meta:
        model = SigningRequest
        fields = [
            "id", "programme", "agreement", "title", "version", "institution", "status", "status_since", "created_at",
            "activated_at", "ended_at", "expires_on", "ends_on", "ended_by", "text_sha256", "receipt_url", "url",
        ]  # fmt: skip

    def get_receipt_url(self, case: SigningRequest) -> str | None:
        return case.receipt_url if case.activated_at else None

    def get_url(self, case: SigningRequest) -> str:
        return self.context["request"].build_absolute_uri(case.get_absolute_url())


class StopSerializer(serializers.Serializer):
    """One signer on the case's way."""

    party = serializers.ChoiceField(choices=Party.choices)
    is_next = serializers.BooleanField()
    people = serializers.ListField(child=serializers.CharField(), help_text="Who can give it; empty once it is there.")
    signed_by = serializers.CharField(allow_null=True)
    signed_at = serializers.DateTimeField(allow_null=True)


class CoverSerializer(serializers.ModelSerializer):
    """A further hospital under the agreement."""

    institution = serializers.SlugField(source="institution.slug")
    available_actions = serializers.SerializerMethodField()

    class Meta:
        model = CoveredInstitution
        fields = ["id", "institution", "confirmed_at", "available_actions"]

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, cover: CoveredInstitution) -> Any:
        found = actions.of_cover(cover, self.context["request"].user)
        return offered(found, {"confirm": (reverse("api:confirm_cover", args=[cover.request_id, cover.pk]), "post")})


class StandingSerializer(serializers.Serializer):
    """Where the institution stands under the agreement today, this case or another."""

    state = serializers.ChoiceField(choices=services.State.choices)
    in_force = serializers.BooleanField()
    due_on = serializers.DateField(allow_null=True, help_text="The last day on time: to sign again, or of validity.")
    blocked_on = serializers.DateField(allow_null=True, help_text="The first day on which work stops.")
    reason = serializers.CharField()


class CaseDetailSerializer(CaseSerializer):
    """A case whole."""

    route = serializers.SerializerMethodField(help_text="The signers in their order.")
    covered = serializers.SerializerMethodField()
    standing = serializers.SerializerMethodField()
    variables = serializers.DictField(help_text="What was filled in, as it is written into the text.")
    available_actions = serializers.SerializerMethodField()

    class Meta(CaseSerializer.Meta):
        fields = [
            *CaseSerializer.Meta.fields, "text", "variables", "reason", "renews", "route", "covered", "standing",
            "available_actions",
        ]  # fmt: skip

    @extend_schema_field(StopSerializer(many=True))
    def get_route(self, case: SigningRequest) -> Any:
        signed = {signature.role: signature for signature in case.signatures.all()}
        following = services.next_party(case)
        rows = [_stop(case, party, signed.get(party), party == following) for party in services.order_of(case)]
        return StopSerializer(rows, many=True).data

    @extend_schema_field(CoverSerializer(many=True))
    def get_covered(self, case: SigningRequest) -> Any:
        rows = case.covered.select_related("institution", "request")
        return CoverSerializer(rows, many=True, context=self.context).data

    @extend_schema_field(StandingSerializer)
    def get_standing(self, case: SigningRequest) -> Any:
        return StandingSerializer(services.standing(case.institution, case.agreement, now=self._now)).data

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, case: SigningRequest) -> Any:
        addresses = {name: (reverse(f"api:case_{name}", args=[case.pk]), "post") for name in STEPS}
        addresses |= {name: (reverse("api:cases"), "post") for name in ("prepare", "renew")}
        return offered(actions.available(case, self.context["request"].user, now=self._now), addresses)

    @property
    def _now(self) -> datetime:
        return timezone.now()


def _stop(case: SigningRequest, party: Party, signature: Any, is_next: bool) -> dict[str, Any]:
    waits = signature is None and case.status in OPEN
    people = sorted(services.signers(case, party).values_list("name", flat=True)) if waits else []
    return {
        "party": party,
        "is_next": is_next,
        "people": people,
        "signed_by": signature.printed_name if signature else None,
        "signed_at": signature.signed_at if signature else None,
    }


# What the steps take


class CaseFilterSerializer(serializers.Serializer):
    institution = serializers.SlugField(required=False)
    status = serializers.ChoiceField(choices=Status.choices, required=False)


class PrepareSerializer(serializers.Serializer):
    """The particulars of one institution; to renew is to prepare again."""

    institution = serializers.SlugField()
    programme = serializers.SlugField()
    agreement = serializers.SlugField()
    variables = serializers.DictField(
        default=dict,
        help_text="A value for each variable of the newest version but covered and expires_on, which the portal "
        "fills in. kinds: codes such as weights; use_codes: codes of the Data Use Ontology such as HMB.",
    )
    covered = serializers.ListField(
        child=serializers.SlugField(), default=list, max_length=100, help_text="Further member institutions under it."
    )


class DeclineCaseSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=2000, help_text="Everybody in the case reads it; it stays on record.")


class TerminateCaseSerializer(DeclineCaseSerializer):
    title = serializers.CharField(
        max_length=200, help_text="The title of the agreement, so that nothing ends by a slip."
    )


class EffectItemSerializer(serializers.Serializer):
    name = serializers.CharField()
    url = serializers.CharField(allow_blank=True)


class EffectSerializer(serializers.Serializer):
    """One line of what a termination does."""

    what = serializers.CharField()
    count = serializers.IntegerField()
    consequence = serializers.CharField()
    items = serializers.SerializerMethodField(help_text="At most 20.")

    @extend_schema_field(EffectItemSerializer(many=True))
    def get_items(self, effect: services.Effect) -> Any:
        return [{"name": name, "url": url} for name, url in effect.items]


class EffectsSerializer(serializers.Serializer):
    title = serializers.CharField(help_text="What to send back as `title`.")
    ends_on = serializers.DateField(allow_null=True, help_text="The last day; null: it ends at once.")
    effects = EffectSerializer(many=True)
