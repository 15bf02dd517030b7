"""Contributions as JSON, for the kit and the upload page."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from contributions import actions, deletion, holds, incidents, isolation, services
from contributions.models import CheckResult, Contribution, ContributionFile, Hold, Isolation
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.openapi import ActionSerializer
from portal.programmes.models import BaseModel


@extend_schema_field(serializers.SlugField)
class OwnInstitution(serializers.SlugRelatedField):
    """The slug of an institution in which the person holds a role; any other does not exist for them."""

    def get_queryset(self) -> QuerySet[Institution]:
        return institutions.institutions_of(self.context["request"].user)


class NewestBaseModel(serializers.CharField):
    """The slug of a registered base generator; its newest version is meant, unless the card names another."""

    def to_internal_value(self, data: Any) -> Any:
        base = BaseModel.objects.filter(slug=super().to_internal_value(data)).order_by("-registered_at").first()
        if base is None:
            raise serializers.ValidationError(f"There is no base model {data}. GET /api/v1/base-models lists them.")
        return base


class DraftSerializer(serializers.Serializer):
    """What POST /contributions takes."""

    institution = OwnInstitution(slug_field="slug", help_text="The slug of an institution of yours.")
    kind = serializers.ChoiceField(choices=Contribution.Kind.choices)
    base_model = NewestBaseModel()
    title = serializers.CharField(max_length=200)
    training_card = serializers.JSONField(default=dict)
    embargo_until = serializers.DateField(
        allow_null=True,
        default=None,
        help_text="The first day on which it may be used; null: no embargo.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Take the very base that the card names: an older version, or one of this slug in another programme."""
        card, newest = attrs["training_card"], attrs["base_model"]
        named = card.get("base") if isinstance(card, dict) else None
        sha256 = named.get("sha256") if isinstance(named, dict) else None
        rows = BaseModel.objects.filter(slug=newest.slug).order_by("-registered_at")
        return {**attrs, "base_model": next((row for row in rows if row.sha256 == sha256), newest)}


class ChangeSerializer(serializers.Serializer):
    """What PATCH /contributions/<id> takes."""

    title = serializers.CharField(max_length=200, required=False)
    training_card = serializers.JSONField(required=False)
    embargo_until = serializers.DateField(
        allow_null=True, required=False, help_text="The first day on which it may be used; null: no embargo."
    )


class EmbargoSerializer(serializers.Serializer):
    """What POST /contributions/<id>/embargo takes."""

    embargo_until = serializers.DateField(allow_null=True, help_text="A day before the present one; null lifts it.")


class AnnouncementSerializer(serializers.Serializer):
    """What POST /contributions/<id>/files takes."""

    name = serializers.CharField(trim_whitespace=False, help_text="1 to 200 characters.")  # uploads.py says what to do
    size_bytes = serializers.IntegerField(min_value=0)
    parts_sha256 = serializers.RegexField(
        r"^[0-9a-fA-F]{64}$",
        help_text="SHA-256 of the binary SHA-256 of its parts of 16 MiB (16,777,216 bytes), one after the other. An "
        "empty file has one empty part.",
        error_messages={
            "required": "It is missing: the SHA-256 of the parts' SHA-256, see the API's description. A kit older "
            "than 0.5.0 does not send it: install the newest kit."
        },
    )


class CompletionSerializer(serializers.Serializer):
    """What POST /contributions/<id>/files/<id>/complete takes."""

    sha256 = serializers.RegexField(r"^[0-9a-fA-F]{64}$", help_text="Of the whole file.")


class PartSerializer(serializers.Serializer):
    number = serializers.IntegerField(min_value=1)
    sha256 = serializers.RegexField(r"^[A-Za-z0-9+/]{43}=$", help_text="Base64 of the 32 bytes.")


class PartsSerializer(serializers.Serializer):
    """What POST /contributions/<id>/files/<id>/parts takes."""

    parts = PartSerializer(many=True)


class AttestationSerializer(serializers.Serializer):
    """What PUT /contributions/<id>/attestations/<kind> takes: a DSSE envelope of the kit."""

    payloadType = serializers.CharField(max_length=100)
    payload = serializers.CharField(max_length=400_000)
    signatures = serializers.ListField(child=serializers.DictField(child=serializers.CharField(max_length=200)))


class ReasonSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=2000, help_text="One sentence; it stays on record.")


class IsolateSerializer(ReasonSerializer):
    """What POST /contributions/<id>/isolations takes."""

    files = serializers.ListField(
        child=serializers.IntegerField(), allow_empty=False, max_length=10_000, help_text="The ids of those concerned."
    )


class SignedPartSerializer(serializers.Serializer):
    """Where to PUT one part, and with which headers, within the time given."""

    number = serializers.IntegerField()
    url = serializers.URLField()
    headers = serializers.DictField(child=serializers.CharField())


class SignedPartsSerializer(serializers.Serializer):
    urls = SignedPartSerializer(many=True)
    expires_in_seconds = serializers.IntegerField()


class FileSerializer(serializers.ModelSerializer):
    class Meta:
        model = ContributionFile
        fields = ["id", "name", "size_bytes", "parts_sha256", "sha256", "state", "part_size_bytes", "part_count"]


class UploadSerializer(FileSerializer):
    """A file with the parts that the store holds: asks the store, so for one file at a time."""

    parts_uploaded = serializers.SerializerMethodField()

    class Meta(FileSerializer.Meta):
        fields = [*FileSerializer.Meta.fields, "parts_uploaded"]

    def get_parts_uploaded(self, file: ContributionFile) -> list[int]:
        return services.parts_uploaded(file)


class CheckResultSerializer(serializers.ModelSerializer):
    class Meta:
        model = CheckResult
        fields = ["number", "name", "verdict", "sentence", "fix", "evidence", "duration_seconds"]


class HoldSerializer(serializers.ModelSerializer):
    """Since when the files are held back from deletion, and why: null for who may not read it."""

    reason = serializers.SerializerMethodField()

    class Meta:
        model = Hold
        fields = ["id", "placed_at", "reason"]

    def get_reason(self, hold: Hold) -> str | None:
        return hold.reason if holds.may_read(self.context["request"].user, hold.contribution) else None


class IsolationSerializer(serializers.ModelSerializer):
    """Since when it is isolated, and what was found in which files: null for who may not read it."""

    reason = serializers.SerializerMethodField()
    file_names = serializers.SerializerMethodField()

    class Meta:
        model = Isolation
        fields = ["id", "placed_at", "reason", "file_names", "deletion_ordered_at"]

    def get_reason(self, row: Isolation) -> str | None:
        return row.reason if self._may_read(row) else None

    def get_file_names(self, row: Isolation) -> list[str] | None:
        return row.file_names if self._may_read(row) else None

    def _may_read(self, row: Isolation) -> bool:
        return holds.may_read(self.context["request"].user, row.contribution)


class ContributionSummarySerializer(serializers.ModelSerializer):
    """A contribution in a list."""

    institution = serializers.SlugField(source="institution.slug")
    base_model = serializers.SlugField(source="base_model.slug", default=None)
    url = serializers.SerializerMethodField()

    class Meta:
        model = Contribution
        fields = [
            "id", "title", "kind", "status", "status_since", "institution", "base_model", "submitted_at",
            "embargo_until", "url",
        ]  # fmt: skip

    def get_url(self, contribution: Contribution) -> str:
        return self.context["request"].build_absolute_uri(contribution.get_absolute_url())


class ContributionSerializer(ContributionSummarySerializer):
    """A contribution whole, with the results of the newest checks and what the person may do."""

    files = serializers.SerializerMethodField(help_text="Empty, while it is isolated, for who may not read why.")
    attestations: serializers.SlugRelatedField = serializers.SlugRelatedField(
        "kind", many=True, read_only=True, help_text="Kinds of signed statements that are here."
    )
    checks = serializers.SerializerMethodField(help_text="Results of the newest checks; none while it is isolated.")
    deletion_due_at = serializers.SerializerMethodField(
        help_text="From when on its files are deleted, unless they are held back; null where nothing says so."
    )
    hold = serializers.SerializerMethodField(help_text="What holds its files back from deletion, or null.")
    isolation = serializers.SerializerMethodField(help_text="Why nothing uses it or shows what is in it, or null.")
    available_actions = serializers.SerializerMethodField()

    class Meta(ContributionSummarySerializer.Meta):
        fields = [
            *ContributionSummarySerializer.Meta.fields,
            "training_card", "manifest_sha256", "reason", "files", "attestations",
            "stalled_at", "checks", "deletion_due_at", "hold", "isolation", "available_actions",
        ]  # fmt: skip

    @extend_schema_field(FileSerializer(many=True))
    def get_files(self, contribution: Contribution) -> Any:
        return FileSerializer(incidents.shown_files(contribution, self.context["request"].user), many=True).data

    @extend_schema_field(CheckResultSerializer(many=True))
    def get_checks(self, contribution: Contribution) -> Any:
        results, _ = services.latest_results(contribution)
        return CheckResultSerializer(results, many=True).data

    def get_deletion_due_at(self, contribution: Contribution) -> datetime | None:
        return deletion.due_at(contribution) if deletion.holds_files(contribution) else None

    @extend_schema_field(HoldSerializer(allow_null=True))
    def get_hold(self, contribution: Contribution) -> Any:
        hold = deletion.current_hold(contribution)
        return HoldSerializer(hold, context=self.context).data if hold else None

    @extend_schema_field(IsolationSerializer(allow_null=True))
    def get_isolation(self, contribution: Contribution) -> Any:
        row = isolation.current(contribution)
        return IsolationSerializer(row, context=self.context).data if row else None

    @extend_schema_field(ActionSerializer(many=True))
    def get_available_actions(self, contribution: Contribution) -> Any:
        available = actions.available(contribution, self.context["request"].user, now=timezone.now())
        return ActionSerializer(available, many=True).data
