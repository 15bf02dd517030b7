"""API: the library of agreements, for anybody to read: versions, exact texts, what changed; and receipts."""

from typing import Any

from django.db.models import Max
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils import timezone
from rest_framework import serializers
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from portal.agreements import diff, receipts
from portal.agreements.models import Agreement, AgreementTranslation, AgreementVersion
from portal.agreements.rendering import variables_of
from portal.openapi import Query, operation, page_of
from portal.paging import BEFORE, page

GROUP = "Agreements"
LANGUAGE = Query("language", str, description="Of a translation, which helps reading and never binds.")


class AgreementSerializer(serializers.ModelSerializer):
    """An agreement of a programme's library."""

    programme = serializers.SlugField(source="programme.slug")
    newest_version = serializers.IntegerField()

    class Meta:
        model = Agreement
        fields = [
            "id", "programme", "slug", "title", "summary", "covers", "signing_order", "months_valid",
            "reconsent_days", "grace_days", "newest_version",
        ]  # fmt: skip


class VersionSerializer(serializers.ModelSerializer):
    """A version, without its text."""

    class Meta:
        model = AgreementVersion
        fields = ["id", "version", "sha256", "language", "change_note", "is_material", "deletion_days", "published_at"]


class TextSerializer(VersionSerializer):
    """A version with its exact text, or with that of a translation."""

    agreement = serializers.SlugField(source="agreement.slug")
    programme = serializers.SlugField(source="agreement.programme.slug")
    title = serializers.CharField()
    text = serializers.SerializerMethodField(help_text="Exactly: the SHA-256 of its UTF-8 bytes is text_sha256.")
    text_sha256 = serializers.SerializerMethodField()
    text_language = serializers.SerializerMethodField()
    binds = serializers.SerializerMethodField(help_text="False: a translation.")
    side_notes = serializers.SerializerMethodField(help_text="Plain words by number of the section.")
    variables = serializers.SerializerMethodField(help_text="What is filled in when it is prepared.")
    translations = serializers.SerializerMethodField(help_text="Languages.")
    url = serializers.SerializerMethodField()

    class Meta(VersionSerializer.Meta):
        fields = [
            "programme", "agreement", "title", *VersionSerializer.Meta.fields, "text", "text_sha256", "text_language",
            "binds", "side_notes", "variables", "translations", "url",
        ]  # fmt: skip

    def _shown(self, version: AgreementVersion) -> AgreementVersion | AgreementTranslation:
        return self.context["translation"] or version

    def get_text(self, version: AgreementVersion) -> str:
        return self._shown(version).text

    def get_text_sha256(self, version: AgreementVersion) -> str:
        return self._shown(version).sha256

    def get_text_language(self, version: AgreementVersion) -> str:
        return self._shown(version).language

    def get_binds(self, version: AgreementVersion) -> bool:
        return self.context["translation"] is None

    def get_side_notes(self, version: AgreementVersion) -> dict[str, str]:
        return self._shown(version).side_notes

    def get_variables(self, version: AgreementVersion) -> list[str]:
        return variables_of(version.text)

    def get_translations(self, version: AgreementVersion) -> list[str]:
        return list(version.translations.values_list("language", flat=True))

    def get_url(self, version: AgreementVersion) -> str:
        names = [version.agreement.programme.slug, version.agreement.slug, version.version]
        return self.context["request"].build_absolute_uri(reverse("agreements:read", args=names))


KINDS = [(kind, kind) for kind in (diff.KEPT, diff.ADDED, diff.REMOVED, diff.CHANGED)]


class PieceSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(choices=KINDS[:3])
    text = serializers.CharField()


class BlockSerializer(serializers.Serializer):
    """A paragraph: kept, added, removed, or changed word by word."""

    kind = serializers.ChoiceField(choices=KINDS)
    pieces = PieceSerializer(many=True)


class ChangesSerializer(serializers.Serializer):
    """What a version changes against an earlier one."""

    old = serializers.IntegerField()
    new = serializers.IntegerField()
    notes = VersionSerializer(many=True, help_text="Every version since, with its change note, the earliest first.")
    paragraphs = BlockSerializer(many=True, help_text="All of both texts, in order.")


class PartySerializer(serializers.Serializer):
    id = serializers.IntegerField()
    name = serializers.CharField()
    country = serializers.CharField()


class SignedSerializer(serializers.Serializer):
    position = serializers.IntegerField()
    role = serializers.CharField()
    signed_on = serializers.DateField()


class ReceiptSerializer(serializers.Serializer):
    """The public form of a receipt, consortium-receipt/1: no personal data. docs/receipts.md has the whole of it."""

    schema = serializers.CharField()
    form = serializers.CharField()
    receipt_code = serializers.CharField()
    verify_at = serializers.CharField()
    issued_at = serializers.DateTimeField()
    state = serializers.ChoiceField(choices=receipts.State.choices)
    activated_at = serializers.DateTimeField()
    expires_on = serializers.DateField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    agreement = serializers.DictField()
    text_sha256 = serializers.CharField()
    institutions = PartySerializer(many=True)
    signing_order = serializers.ListField(child=serializers.CharField())
    signatures = SignedSerializer(many=True)
    key = serializers.DictField(child=serializers.CharField())
    signature = serializers.CharField(help_text="ed25519 over the canonical JSON of everything else, in base64.")


def _agreement(programme: str, agreement: str) -> Agreement:
    rows = Agreement.objects.filter(versions__isnull=False).distinct()
    return get_object_or_404(rows, programme__slug=programme, slug=agreement)


def _version(programme: str, agreement: str, version: int) -> AgreementVersion:
    rows = AgreementVersion.objects.select_related("agreement__programme")
    return get_object_or_404(rows, agreement=_agreement(programme, agreement), version=version)


@operation(
    "GET",
    "list_agreements",
    "List the agreements of every programme's library.",
    group=GROUP,
    answers=page_of(AgreementSerializer),
    query=[BEFORE],
)
@api_view(["GET"])
@permission_classes([AllowAny])
def agreements(request: Request) -> Response:
    """List the library."""
    rows = Agreement.objects.annotate(newest_version=Max("versions__version")).filter(newest_version__isnull=False)
    return page(request, rows.select_related("programme"), AgreementSerializer)


@operation(
    "GET",
    "list_agreement_versions",
    "List the versions of an agreement, newest first.",
    group=GROUP,
    answers=page_of(VersionSerializer),
    query=[BEFORE],
)
@api_view(["GET"])
@permission_classes([AllowAny])
def versions(request: Request, programme: str, agreement: str) -> Response:
    """List the versions."""
    rows = _agreement(programme, agreement).versions.defer("text", "side_notes")
    return page(request, rows, VersionSerializer)


@operation(
    "GET",
    "show_agreement_version",
    "Show a version with its exact text.",
    group=GROUP,
    answers=TextSerializer,
    query=[LANGUAGE],
)
@api_view(["GET"])
@permission_classes([AllowAny])
def version(request: Request, programme: str, agreement: str, version: int) -> Response:
    """Show a version."""
    row = _version(programme, agreement, version)
    language = request.query_params.get("language", "")
    wanted = language not in ("", row.language)
    translation = get_object_or_404(row.translations, language=language[:20]) if wanted else None
    return Response(TextSerializer(row, context={"request": request, "translation": translation}).data)


@operation(
    "GET",
    "show_agreement_changes",
    "Show what a version changes against an earlier one, word by word.",
    group=GROUP,
    answers=ChangesSerializer,
)
@api_view(["GET"])
@permission_classes([AllowAny])
def changes(request: Request, programme: str, agreement: str, version: int, old: int) -> Response:
    """Show what a version changes."""
    new, before = _version(programme, agreement, version), _version(programme, agreement, old)
    if before.version >= new.version:
        raise Http404("Only a later version has changes against an earlier one.")
    between = new.agreement.versions.filter(version__gt=old, version__lte=version).order_by("version")
    document: dict[str, Any] = {
        "old": old,
        "new": version,
        "notes": between.defer("text", "side_notes"),
        "paragraphs": diff.compare(before.text, new.text),
    }
    return Response(ChangesSerializer(document).data)


@operation(
    "GET",
    "show_receipt",
    "Show the public receipt of a signed agreement, signed by the portal.",
    group=GROUP,
    answers=ReceiptSerializer,
    description="For anybody who has the code. `consortium receipt verify` checks it offline; its key is at "
    "/agreements/keys.json.",
)
@api_view(["GET"])
@permission_classes([AllowAny])
def receipt(request: Request, code: str) -> Response:
    """Show the public receipt."""
    case = get_object_or_404(receipts.receipted(), receipt_code=code)
    return Response(receipts.public_form(case, now=timezone.now()), headers={"Cache-Control": "no-store"})


ONE = "agreements/<slug:programme>/<slug:agreement>/versions"
urlpatterns = [
    path("agreements", agreements, name="agreements"),
    path("agreements/receipts/<slug:code>", receipt, name="receipt"),
    path(ONE, versions, name="agreement_versions"),
    path(f"{ONE}/<int:version>", version, name="agreement_version"),
    path(f"{ONE}/<int:version>/changes/<int:old>", changes, name="agreement_changes"),
]
