"""Publishing and signing the data-use agreement, and the one question: may this institution do this now?"""

import hashlib
import unicodedata
from datetime import datetime
from http import HTTPStatus

from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.urls import reverse

from portal.accounts.models import User
from portal.agreements.models import AgreementVersion, Signature
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status
from portal.institutions.models import Institution, Membership
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.programmes.models import Programme

MEANING = (
    "I have authority to sign for my institution. I sign to bind it to this agreement, in the exact text whose SHA-256 "
    "is shown."
)


class AgreementRequired(DomainError):
    """The institution has not signed the agreement in force."""

    code = "agreement_required"
    status = HTTPStatus.FORBIDDEN


class NameMismatch(DomainError):
    """The typed name is not the signer's name."""

    code = "name_mismatch"


class AgreementSuperseded(DomainError):
    """The version is not the one in force."""

    code = "agreement_superseded"


def text_sha256(text: str) -> str:
    """Return the SHA-256 (hex) of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _spelled(name: str) -> str:
    """Return a name without what two keyboards write differently: composed accents, width, case, spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def current(programme: Programme) -> AgreementVersion | None:
    """Return the agreement in force: the newest version."""
    return programme.agreement_versions.order_by("-version").first()


@transaction.atomic
def publish(
    programme: Programme, *, title: str, text: str, change_note: str, by: User | None, now: datetime
) -> AgreementVersion:
    """Publish a new, immutable version."""
    newest = current(Programme.objects.select_for_update().get(pk=programme.pk))
    version = AgreementVersion.objects.create(
        programme=programme,
        version=newest.version + 1 if newest else 1,
        title=title,
        text=text,
        sha256=text_sha256(text),
        change_note=change_note,
        published_at=now,
    )
    audit.record("agreement.published", version, by=by, sha256=version.sha256)
    return version


def may_sign(user: User | AnonymousUser, institution: Institution) -> bool:
    """Test if the person is a signing official of a member institution; a superuser's word is not enough."""
    return institution.status == Status.MEMBER and institutions.is_member(
        user, institution, Membership.Role.SIGNING_OFFICIAL
    )


def require_name(signer: User, typed_name: str) -> None:
    """Raise NameMismatch unless the typed name is the one on the account."""
    if _spelled(typed_name) != _spelled(signer.name):
        raise NameMismatch(f"Type your name as it stands on your account: {signer.name}.")


@transaction.atomic
def sign(
    agreement: AgreementVersion,
    institution: Institution,
    *,
    by: User,
    typed_name: str,
    authentication: str,
    ip_address: str | None,
    user_agent: str,
    now: datetime,
) -> Signature:
    """
    Sign for the institution. Signing again returns the signature that is there.

    The caller has made the signer prove who they are again (21 CFR 11.200); `authentication` says how.
    """
    Institution.objects.select_for_update().get(pk=institution.pk)
    signed = signature_under(agreement, institution)
    if signed is not None:
        return signed
    if agreement != current(agreement.programme):
        raise AgreementSuperseded(f"A newer version than {agreement} is in force. Read and sign that one.")
    if not may_sign(by, institution):
        raise NotAllowed(f"Only a signing official of {institution} can sign, and only once it is a member.")
    require_name(by, typed_name)
    signature = Signature.objects.create(
        agreement=agreement,
        institution=institution,
        signer=by,
        typed_name=typed_name.strip(),
        role=Membership.Role.SIGNING_OFFICIAL,
        meaning=MEANING,
        text_sha256=text_sha256(agreement.text),
        authentication=authentication,
        ip_address=ip_address,
        user_agent=user_agent[:300],
        signed_at=now,
    )
    audit.record("agreement.signed", signature, by=by, text_sha256=signature.text_sha256, version=agreement.version)
    notify(
        institutions.people(institution),
        type=Type.AGREEMENT,
        subject=f"{institution} has signed {agreement}",
        text="The receipt, with the text, the hash and a PDF, is here:",
        path=signature.get_absolute_url(),
    )
    return signature


def signature_under(agreement: AgreementVersion, institution: Institution) -> Signature | None:
    """Return the institution's signature under this version, or None."""
    return Signature.objects.filter(agreement=agreement, institution=institution).first()


def active_signature(institution: Institution, programme: Programme) -> Signature | None:
    """Return the institution's signature under the version in force, or None."""
    agreement = current(programme)
    return signature_under(agreement, institution) if agreement else None


def require_active(institution: Institution, programme: Programme) -> Signature:
    """Return the active signature. Raises AgreementRequired, saying where to sign."""
    signature = active_signature(institution, programme)
    if signature is None:
        raise AgreementRequired(
            f"{institution} has not signed the data-use agreement in force. Its signing official can sign it now; "
            "the draft is kept.",
            next_url=reverse("agreements:sign", args=[institution.slug]),
        )
    return signature
