"""The library: agreements of a programme and their versions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.db import transaction
from django.db.models import Min

from portal.accounts.models import User
from portal.agreements.models import Agreement, AgreementTranslation, AgreementVersion, Party, all_kinds, default_order
from portal.agreements.rendering import normalised, text_sha256, variables_of
from portal.audit import services as audit
from portal.errors import DomainError
from portal.programmes.models import Programme


class AgreementRefused(DomainError):
    """What is asked of the library cannot be: a name that is taken, a signer or a kind that nobody knows."""

    code = "agreement_refused"
    status = HTTPStatus.BAD_REQUEST


@transaction.atomic
def create_agreement(
    programme: Programme,
    *,
    slug: str,
    title: str,
    summary: str = "",
    covers: Sequence[str] | None = None,
    signing_order: Sequence[str] | None = None,
    months_valid: int | None = None,
    reconsent_days: int = 60,
    grace_days: int = 30,
    by: User | None,
    now: datetime,
) -> Agreement:
    """Add an agreement to a programme's library. Its text comes with publish()."""
    order = list(signing_order or default_order())
    kinds = list(covers if covers is not None else all_kinds())
    if len(set(order)) != len(order) or not set(order) <= set(Party.values) or not set(kinds) <= set(all_kinds()):
        raise AgreementRefused(
            f"{title} names a signer twice, or a signer or kind that is unknown. Signers are "
            f"{', '.join(Party.values)}; kinds are {', '.join(all_kinds())}."
        )
    if programme.agreements.filter(slug=slug).exists():
        raise AgreementRefused(f"{programme} has an agreement called {slug} already. Choose another name.")
    agreement = Agreement.objects.create(
        programme=programme,
        slug=slug,
        title=title,
        summary=summary,
        covers=kinds,
        signing_order=order,
        months_valid=months_valid,
        reconsent_days=reconsent_days,
        grace_days=grace_days,
        created_at=now,
    )
    audit.record("agreement.created", agreement, by=by, programme=programme.slug)
    return agreement


@transaction.atomic
def describe(agreement: Agreement, *, summary: str, by: User | None) -> bool:
    """Change the sentence that says what an agreement is for, which nobody signs; return whether it was another."""
    if agreement.summary == summary:
        return False
    agreement.summary = summary
    agreement.save(update_fields=["summary"])
    audit.record("agreement.changed", agreement, by=by, fields=["summary"])
    return True


@transaction.atomic
def publish(
    agreement: Agreement,
    *,
    text: str,
    change_note: str,
    is_material: bool = True,
    deletion_days: int | None = None,
    language: str = "en",
    side_notes: Mapping[str, str] | None = None,
    translations: Mapping[str, Mapping[str, Any]] | None = None,
    by: User | None,
    now: datetime,
) -> AgreementVersion:
    """
    Publish a new, immutable version.

    Args:
        is_material: whether institutions that signed an earlier version must sign this one.
        deletion_days: in which it has the files of a withdrawn contribution deleted; None where it does not say so.
        side_notes: plain words by section number.
        translations: by language, each a mapping with `text` and, if there are any, `side_notes`.
    """
    agreement = Agreement.objects.select_for_update().get(pk=agreement.pk)
    newest = newest_of(agreement)
    text = normalised(text)
    variables_of(text)  # raises where the template is broken
    version = AgreementVersion.objects.create(
        agreement=agreement,
        version=newest.version + 1 if newest else 1,
        text=text,
        sha256=text_sha256(text),
        language=language,
        change_note=change_note,
        is_material=is_material,
        deletion_days=deletion_days,
        side_notes=dict(side_notes or {}),
        published_at=now,
    )
    for code, translation in (translations or {}).items():
        _translate(version, code, **translation)
    audit.record(
        "agreement.published", version, by=by, sha256=version.sha256, is_material=is_material,
        deletion_days=deletion_days,
    )  # fmt: skip
    return version


def _translate(
    version: AgreementVersion, language: str, *, text: str, side_notes: Mapping[str, str] | None = None
) -> None:
    text = normalised(text)
    AgreementTranslation.objects.create(
        version=version, language=language, text=text, sha256=text_sha256(text), side_notes=dict(side_notes or {})
    )


def days_to_delete(programme: Programme, kind: str) -> int | None:
    """
    Return within how many days the files of a withdrawn contribution of a kind go; None where no text says so.

    The shortest time that any version gives: an institution may have signed each of them.
    """
    texts = AgreementVersion.objects.filter(agreement__programme=programme, agreement__covers__contains=kind)
    return texts.aggregate(days=Min("deletion_days"))["days"]


def newest_of(agreement: Agreement) -> AgreementVersion | None:
    """Return the version in force: the newest."""
    return agreement.versions.select_related("agreement__programme").order_by("-version").first()


def current(programme: Programme) -> AgreementVersion | None:
    """Return the version in force of the programme's first agreement."""
    agreement = programme.agreements.filter(versions__isnull=False).order_by("pk").first()
    return newest_of(agreement) if agreement else None
