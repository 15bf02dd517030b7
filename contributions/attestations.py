"""The signature and the privacy report of a contribution, kept as they came; workers say whether they hold."""

import base64
import binascii
import json
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.db import transaction

from contributions import kinds
from contributions.lifecycle import Status
from contributions.models import Attestation, Contribution
from contributions.rules import require_not_moved, require_steward
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError
from portal.live import announce

MAX_BYTES = 384 * 1024  # a privacy report is about 3 KiB
NUMBERS = {Attestation.Kind.SIGNATURE: 2, Attestation.Kind.PRIVACY: 9}  # the check that needs it


PRIVACY_TYPE = b"urn:consortium:privacy-report:1"  # as the kit's statements.py writes it


class AttestationRefused(DomainError):
    """The file is nothing that the kit writes."""

    code = "attestation_refused"
    status = HTTPStatus.BAD_REQUEST


class AttestationsMissing(DomainError):
    """The programme asks for a signature or a privacy report that is not here."""

    code = "attestations_missing"


class AttestationsFixed(DomainError):
    """They change only while the contribution is a draft."""

    code = "attestations_fixed"


def read(content: bytes) -> dict[str, Any]:
    """
    Return the envelope in a file that somebody chose.

    Raises:
        AttestationRefused: it is no DSSE envelope, or too large.
    """
    try:
        envelope = json.loads(content) if len(content) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        envelope = None
    return _checked(envelope)


def _checked(envelope: Any) -> dict[str, Any]:
    """Look at the outer form alone: three known fields, texts in them. What is inside is opened by a worker's child."""
    match envelope:
        case {"payloadType": str(), "payload": str(), "signatures": [_, *_] as rows, **more} if not more:
            text = json.dumps(envelope) if all(map(_is_signature, rows)) else ""
            if 0 < len(text) <= MAX_BYTES and "\\u" not in text:  # all of it is ASCII, and PostgreSQL keeps no NUL
                return envelope
    raise AttestationRefused(
        "This is no signed statement of the kit. Choose the file that `consortium sign` (ending in .signed.json) or "
        "`consortium privacy` (privacy_report.json) wrote."
    )


def _is_signature(value: Any) -> bool:
    match value:
        case {"keyid": str(), "sig": str(), **more}:
            return not more
    return False


def kind_of(envelope: dict[str, Any]) -> Attestation.Kind:
    """Return which of the two a statement says that it is: a hint, for the checks look for themselves."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
    except (binascii.Error, ValueError):
        payload = b""
    return Attestation.Kind.PRIVACY if PRIVACY_TYPE in payload else Attestation.Kind.SIGNATURE


@transaction.atomic
def attest(contribution: Contribution, *, kind: str, envelope: Any, by: User, now: datetime) -> Attestation:
    """Keep a signed statement with a draft; another of the same kind takes its place."""
    require_steward(by, contribution.institution)
    contribution = Contribution.objects.select_for_update().get(pk=contribution.pk)
    if contribution.status != Status.DRAFT:
        raise AttestationsFixed(
            f"{contribution} is {contribution.get_status_display().lower()}: what was signed cannot change any more."
        )
    require_not_moved(contribution)
    given = {"envelope": _checked(envelope), "added_at": now, "added_by": by}
    row, _ = Attestation.objects.update_or_create(contribution=contribution, kind=kind, defaults=given)
    audit.record("contribution.attested", contribution, by=by, kind=kind)
    announce(f"contribution-{contribution.pk}")
    return row


def of(contribution: Contribution) -> dict[str, Any]:
    """Return the envelopes by kind."""
    return {row.kind: row.envelope for row in contribution.attestations.all()}


def missing(contribution: Contribution) -> list[Attestation.Kind]:
    """Return what the programme's checks need and the contribution does not have."""
    there = set(contribution.attestations.values_list("kind", flat=True))
    asked = contribution.programme.checks
    return [kind for kind in Attestation.Kind if NUMBERS[kind] in asked and kind not in there]


def state(contribution: Contribution) -> list[dict[str, Any]]:
    """Return each kind that the programme asks for: what it is, who added it and when, or how to make it."""
    there = {row.kind: row for row in contribution.attestations.select_related("added_by")}
    asked = [kind for kind in Attestation.Kind if NUMBERS[kind] in contribution.programme.checks]
    commands = kinds.of(contribution.kind).commands
    return [{"label": kind.label, "row": there.get(kind), "command": commands[kind]} for kind in asked]
