"""A signing case from its preparation to its end; the signatures themselves are in signing.py."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from dateutil.relativedelta import relativedelta
from django.db import transaction
from django.urls import reverse

from portal.accounts.models import User
from portal.agreements import signing
from portal.agreements.library import newest_of
from portal.agreements.lifecycle import OPEN, Status
from portal.agreements.models import Agreement, CoveredInstitution, Party, SigningRequest
from portal.agreements.rendering import Value, render, text_sha256, variables_of
from portal.agreements.signing import OFFICIAL, PI, move, tell
from portal.agreements.standing import day_of
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution, Membership

PREPARERS = [PI, Membership.Role.STEWARD, OFFICIAL]
NO_END = "no end date"
NO_OTHERS = "none"
AUTOMATIC = {"covered", "expires_on"}  # what the portal itself writes into the text


class CannotPrepare(DomainError):
    """The agreement cannot be prepared for this institution now."""

    code = "cannot_prepare"


class NotReadyToSend(DomainError):
    """Somebody or something that the signing needs is missing."""

    code = "not_ready_to_send"


class ReasonMissing(DomainError):
    """Declining, and terminating, is explained."""

    code = "reason_missing"
    status = HTTPStatus.BAD_REQUEST


def may_prepare(user: User, institution: Institution) -> bool:
    """Test if the person prepares and sends agreements of the institution."""
    return institutions.is_member(user, institution, *PREPARERS)


def may_withdraw(user: User, case: SigningRequest) -> bool:
    """Test if the person takes it back: who prepares for the institution, or for what it was merged into."""
    return may_prepare(user, institutions.acting_for(case.institution))


def _require_preparer(user: User, institution: Institution) -> None:
    if not may_prepare(user, institution):
        raise NotAllowed(
            f"Only a principal investigator, data steward or signing official of {institution} can do this. Ask one of "
            "them, or ask for the role."
        )


# Preparing


@transaction.atomic
def prepare(
    agreement: Agreement,
    institution: Institution,
    *,
    variables: Mapping[str, Value],
    covered: Sequence[Institution] = (),
    by: User,
    now: datetime,
) -> SigningRequest:
    """
    Write the exact text that the institution is to sign, as a draft; a draft that is there is written anew.

    Args:
        variables: a value for each variable of the newest version, but for those that the portal fills in (AUTOMATIC).
        covered: further member institutions under this agreement; each has to confirm before the case is sent.
    Raises:
        CannotPrepare: not a member, nothing is published, or a case is being signed already.
        rendering.VariablesWrong: a variable is missing or unknown.
    """
    _require_preparer(by, institution)
    Institution.objects.select_for_update().get(pk=institution.pk)  # two people may prepare at once
    version = newest_of(agreement)
    if institution.status != InstitutionStatus.MEMBER or version is None:
        raise CannotPrepare(f"{institution} can prepare the agreement once it is a member and a text is published.")
    draft = _draft(agreement, institution)
    expires_on = day_of(now) + relativedelta(months=agreement.months_valid) if agreement.months_valid else None
    automatic = {
        "covered": [other.name for other in covered] or NO_OTHERS,
        "expires_on": f"{expires_on:%-d %B %Y}" if expires_on else NO_END,
    }
    wanted = variables_of(version.text)
    values = {**variables, **{name: value for name, value in automatic.items() if name in wanted}}
    text = render(version.text, values)
    fields: dict[str, Any] = {
        "agreement_version": version,
        "variables": values,
        "text": text,
        "text_sha256": text_sha256(text),
        "expires_on": expires_on,
    }
    case = _written(draft, agreement, institution, fields, by=by, now=now)
    _cover(case, covered)
    audit.record("agreement.prepared", case, by=by, text_sha256=case.text_sha256, version=version.version)
    return case


def _draft(agreement: Agreement, institution: Institution) -> SigningRequest | None:
    rows = SigningRequest.objects.select_for_update().filter(agreement=agreement, institution=institution)
    case = rows.filter(status__in=OPEN).first()
    if case is not None and case.status == Status.SIGNING:
        raise CannotPrepare(
            f"{case} is being signed. Withdraw it first if its particulars are wrong.", next_url=case.get_absolute_url()
        )
    return case


def _written(
    draft: SigningRequest | None,
    agreement: Agreement,
    institution: Institution,
    fields: dict[str, Any],
    *,
    by: User,
    now: datetime,
) -> SigningRequest:
    if draft is not None:
        for name, value in fields.items():
            setattr(draft, name, value)
        draft.save(update_fields=list(fields))
        return draft
    return SigningRequest.objects.create(
        agreement=agreement,
        institution=institution,
        started_by=by,
        created_at=now,
        status_since=now,
        renews=agreement.requests.filter(institution=institution, activated_at__isnull=False).order_by("-pk").first(),
        **fields,
    )


def _cover(case: SigningRequest, others: Sequence[Institution]) -> None:
    """Name the further institutions; what one has confirmed of another text, it confirms again."""
    wrong = [other for other in others if other == case.institution or other.status != InstitutionStatus.MEMBER]
    if wrong:
        raise CannotPrepare(f"{wrong[0]} cannot stand under this agreement: only other member institutions can.")
    case.covered.all().delete()
    for other in others:
        CoveredInstitution.objects.create(request=case, institution=other)
        tell(
            case,
            institutions.people(other, PI, Membership.Role.STEWARD),
            subject=f"{case.institution} names {other} in its {case.agreement.title}",
            text=f"{case.institution} prepares an agreement that would also bind {other}. Read it, then confirm or "
            "decline here:",
        )


@transaction.atomic
def confirm_cover(cover: CoveredInstitution, *, by: User, now: datetime) -> CoveredInstitution:
    """Agree, for a further hospital, to stand under the agreement. Confirming again changes nothing."""
    if not institutions.manages(by, cover.institution):
        raise NotAllowed(f"Only a principal investigator or data steward of {cover.institution} can confirm this.")
    case = SigningRequest.objects.locked().get(pk=cover.request_id)
    found = case.covered.select_related("institution").filter(pk=cover.pk).first()
    if found is None:
        raise CannotPrepare(
            f"{case} was prepared anew, so what you read is not what it says now. Read it again, then confirm.",
            next_url=case.get_absolute_url(),
        )
    cover = found
    if cover.confirmed_at is not None:
        return cover
    if case.status != Status.DRAFT:
        raise CannotPrepare(f"{case} is {case.get_status_display().lower()}: it is too late to confirm it.")
    cover.confirmed_at, cover.confirmed_by = now, by
    cover.save(update_fields=["confirmed_at", "confirmed_by"])
    audit.record("agreement.covered", cover, by=by, text_sha256=case.text_sha256)
    return cover


@transaction.atomic
def send(case: SigningRequest, *, by: User, now: datetime) -> SigningRequest:
    """Send a draft to its signers, the first of whom is told. Sending again changes nothing."""
    _require_preparer(by, case.institution)
    case = SigningRequest.objects.locked().get(pk=case.pk)
    if case.status == Status.SIGNING:
        return case
    _require_ready(case)
    case = move(case.pk, Status.SIGNING, by=by, now=now)
    signing.tell_next(case)
    return case


def obstacles(case: SigningRequest) -> list[NotReadyToSend]:
    """Return what keeps a draft from being sent, each with where to settle it."""
    people_url = reverse("institutions:people", args=[case.institution.slug])
    found = [
        NotReadyToSend(
            f"Nobody in {case.institution} is {party.label.lower()} yet. Invite one, then send it.", next_url=people_url
        )
        for party in signing.order_of(case)
        if not signing.signers(case, party).exists() and party != Party.CONSORTIUM
    ]
    waiting = [row.institution.name for row in case.covered.select_related("institution") if not row.confirmed_at]
    if waiting:
        found.append(
            NotReadyToSend(f"These have not confirmed yet: {', '.join(waiting)}. Ask them, or leave them out.")
        )
    newest = newest_of(case.agreement)
    if newest and newest.pk != case.agreement_version_id:
        found.append(NotReadyToSend(f"{newest} was published since. Prepare that one.", next_url=prepare_url(case)))
    return found


def prepare_url(case: SigningRequest) -> str:
    """Return the page on which the case's agreement is prepared."""
    return reverse(
        "agreements:prepare", args=[case.institution.slug, case.agreement.programme.slug, case.agreement.slug]
    )


def _require_ready(case: SigningRequest) -> None:
    for obstacle in obstacles(case):
        raise obstacle


# Declining, withdrawing; ending one in force is in ending.py


def require_reason(reason: str, what: str) -> str:
    """Return the reason that was given; raise ReasonMissing where none was."""
    if not reason.strip():
        raise ReasonMissing(f"Say in a sentence why you {what}: the others read it, and it stays on record.")
    return reason.strip()


def may_decline(user: User, case: SigningRequest) -> bool:
    """Test if the person could be one of the signers, or speaks for a further hospital that is named."""
    if case.status == Status.DRAFT:
        return any(institutions.manages(user, row.institution) for row in case.covered.select_related("institution"))
    return case.status == Status.SIGNING and any(
        signing.signers(case, party).filter(pk=user.pk).exists() for party in signing.order_of(case)
    )


@transaction.atomic
def decline(case: SigningRequest, *, by: User, reason: str, now: datetime) -> SigningRequest:
    """Refuse to sign, with a reason: the case ends, and everybody in it is told why."""
    case = SigningRequest.objects.locked().get(pk=case.pk)
    if case.status in OPEN and not may_decline(by, case):
        raise NotAllowed(f"Only those who are to sign {case} can decline it.")
    reason = require_reason(reason, "decline")
    case = move(case.pk, Status.DECLINED, by=by, now=now, reason=reason, ended_at=now)
    tell(
        case,
        signing.concerned(case),
        subject=f"{case} was declined",
        text=f"The reason given: {plain(reason)}\n\nChange what is wrong and prepare it again here:",
    )
    return case


@transaction.atomic
def withdraw(case: SigningRequest, *, by: User, now: datetime) -> SigningRequest:
    """Take a case back before the last signature; signatures that were given stay on record."""
    _require_preparer(by, institutions.acting_for(case.institution))
    case = move(case.pk, Status.WITHDRAWN, by=by, now=now, ended_at=now)
    tell(
        case,
        signing.concerned(case),
        subject=f"{case} was withdrawn",
        text="It is not to be signed any more. What was signed of it stays on record:",
    )
    return case
