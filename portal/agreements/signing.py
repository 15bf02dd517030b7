"""Signing a case: in order, each person once, each signature bound to the exact text and to the one before it."""

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.db.models import Q, QuerySet

from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User
from portal.agreements import lifecycle
from portal.agreements.library import newest_of
from portal.agreements.lifecycle import Status
from portal.agreements.models import Party, Signature, SigningRequest
from portal.agreements.rendering import text_sha256
from portal.agreements.standing import day_of
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution, Membership
from portal.lifecycle import verb
from portal.notifications.services import notify
from portal.notifications.types import Type

PI, OFFICIAL = Membership.Role.PRINCIPAL_INVESTIGATOR, Membership.Role.SIGNING_OFFICIAL
CONSORTIUM_NAME = "Global RETFound consortium"
CONSORTIUM_ROLES = ["signatory", "chair"]

# What each party's signature means (21 CFR 11.50), and what it states about its authority to sign.
MEANING = {
    Party.PRINCIPAL_INVESTIGATOR: "I have read this agreement, in the exact text whose SHA-256 is shown. I confirm its "
    "particulars and take responsibility for the science. I do not bind my institution.",
    Party.SIGNING_OFFICIAL: "I sign to bind my institution to this agreement, in the exact text whose SHA-256 is "
    "shown.",
    Party.CONSORTIUM: "I countersign for the consortium, in the exact text whose SHA-256 is shown. With this signature "
    "the agreement is in force.",
}
AUTHORITY = {
    Party.PRINCIPAL_INVESTIGATOR: "I sign as principal investigator, not for the institution.",
    Party.SIGNING_OFFICIAL: "I have authority to sign for the institution and for every hospital that is named.",
    Party.CONSORTIUM: "I have authority to sign for the consortium.",
}


class NameMismatch(DomainError):
    """The typed name is not the signer's name."""

    code = "name_mismatch"


class CannotSign(DomainError):
    """The case cannot be signed: it has ended, is not sent, or its text was replaced before the first signature."""

    code = "cannot_sign"


class NotYourTurn(NotAllowed):
    """Somebody else signs next."""

    code = "not_your_turn"


class NotProved(NotAllowed):
    """The signer has not proved again who they are."""

    code = "not_proved"


# Who


def order_of(case: SigningRequest) -> list[Party]:
    """Return who signs the case, first to last."""
    return [Party(name) for name in case.agreement.signing_order]


def next_party(case: SigningRequest) -> Party | None:
    """Return who signs next, or None where nobody does: not sent, complete, or ended."""
    order, signed = order_of(case), case.signatures.count()
    return order[signed] if case.status == Status.SIGNING and signed < len(order) else None


def signers(case: SigningRequest, party: Party) -> QuerySet[User]:
    """Return the people who may sign as this party today. Whoever belongs to who it would bind never signs for us."""
    if party == Party.CONSORTIUM:
        rows = User.objects.filter(
            consortium_roles__role__in=CONSORTIUM_ROLES, consortium_roles__ended_at=None, is_active=True
        )
        bound = Membership.objects.current().filter(
            Q(institution__in=parties(case)) | Q(institution__aliases__in=parties(case))
        )
        return rows.exclude(pk__in=bound.values("user")).distinct()
    return institutions.people(case.institution, PI if party == Party.PRINCIPAL_INVESTIGATOR else OFFICIAL)


def signs_for_consortium(user: User | AnonymousUser) -> bool:
    """Test if the person countersigns agreements for the consortium."""
    return accounts.has_role(user, *CONSORTIUM_ROLES)


def may_sign(user: User | AnonymousUser, case: SigningRequest) -> bool:
    """Test if it is this person's turn. A superuser's word is not enough, and nobody signs twice."""
    party = next_party(case)
    if party is None or not user.is_authenticated:
        return False
    return signers(case, party).filter(pk=user.pk).exists() and not case.signatures.filter(signer=user).exists()


def parties(case: SigningRequest) -> QuerySet[Institution]:
    """Return the institution that signs, and every hospital that the case names."""
    return Institution.objects.filter(Q(pk=case.institution_id) | Q(covered_by__request=case)).distinct()


def involved(case: SigningRequest) -> QuerySet[User]:
    """Return everybody who manages, signs or has signed, and still belongs there: those told how the case goes on."""
    from_institution = institutions.people(case.institution, PI, OFFICIAL, Membership.Role.STEWARD)
    belong = Q(memberships__in=case.institution.memberships.current())
    serve = Q(consortium_roles__in=ConsortiumRole.objects.current())
    signed = User.objects.filter(belong | serve, pk__in=case.signatures.values("signer"))
    return User.objects.filter(Q(pk__in=from_institution.values("pk")) | Q(pk__in=signed.values("pk")), is_active=True)


def managing(case: SigningRequest) -> QuerySet[User]:
    """Return those who manage it: of the institution and of every hospital under it."""
    roles = (PI, OFFICIAL, Membership.Role.STEWARD)
    keys = [person.pk for party in parties(case) for person in institutions.people_acting_for(party, *roles)]
    return User.objects.filter(pk__in=keys)


def concerned(case: SigningRequest) -> QuerySet[User]:
    """Return whom a turn of the case concerns: who is involved, and who manages a hospital that it names."""
    return User.objects.filter(pk__in={person.pk for group in (involved(case), managing(case)) for person in group})


def told_of_the_end(case: SigningRequest) -> QuerySet[User]:
    """Return whom its end concerns: the same people, and who chairs the board."""
    chairs = accounts.chairs_of(case.agreement.programme)
    return User.objects.filter(pk__in={person.pk for group in (concerned(case), chairs) for person in group})


# Telling


def tell(case: SigningRequest, people: Iterable[User], *, subject: str, text: str, path: str = "") -> None:
    """Tell people about the case. The link shows it and changes nothing."""
    notify(people, type=Type.AGREEMENT, subject=subject, text=text, path=path or case.get_absolute_url())


def tell_next(case: SigningRequest) -> None:
    """Tell those who can sign next that it is their turn."""
    party = next_party(case)
    if party is None:
        return
    people = signers(case, party).exclude(pk__in=case.signatures.values("signer"))
    tell(
        case,
        people,
        subject=f"{case} waits for your signature",
        text=f"You can sign it as {party.label.lower()}. Read it first; you will be asked to prove again who you are:",
    )


# Moving and signing


def move(
    case_id: int,
    target: Status,
    *,
    by: User | None,
    now: datetime,
    facts: dict[str, Any] | None = None,
    **changes: Any,
) -> SigningRequest:
    """Lock the case, check the move, save it and write the audit event: all or nothing."""
    case = SigningRequest.objects.locked().get(pk=case_id)
    before = Status(case.status)
    name = verb(lifecycle.TRANSITIONS, before, target, subject=case)
    case.status, case.status_since = target, now
    for field, value in changes.items():
        setattr(case, field, value)
    case.save(update_fields=["status", "status_since", *changes])
    told: dict[str, Any] = {"before": before, "text_sha256": case.text_sha256, **(facts or {})}
    if "reason" in changes:
        told["reason"] = case.reason
    audit.record(name, case, by=by, **told)
    return case


def spelled(name: str) -> str:
    """Return a name without what two keyboards write differently: composed accents, width, case, spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def require_name(signer: User, typed_name: str) -> None:
    """Raise NameMismatch unless the typed name is the one on the account."""
    if not signer.name.strip() or spelled(typed_name) != spelled(signer.name):
        raise NameMismatch(f"Type your name as it stands on your account: {signer.name or 'first give it a name'}.")


@transaction.atomic
def sign(
    case: SigningRequest,
    *,
    by: User,
    typed_name: str,
    authority: str,
    authentication: Sequence[str],
    ip_address: str | None,
    user_agent: str,
    now: datetime,
) -> Signature:
    """
    Sign as the party whose turn it is. Signing again returns the signature that is there.

    Args:
        authority: what the signer stated, one of AUTHORITY.
        authentication: how the signer proved again who they are; the caller has checked it (21 CFR 11.200).
    Raises:
        NotYourTurn, NameMismatch, CannotSign, NotProved: nothing was signed, and the sentence says why.
    """
    case = SigningRequest.objects.locked().get(pk=case.pk)
    signed = case.signatures.filter(signer=by).first()
    if signed is not None:
        return signed
    party = _require_turn(case, by)
    _require_signable(case, by, party, now=now)
    require_name(by, typed_name)
    if authority != AUTHORITY[party] or not authentication:
        raise NotProved("A signature needs the statement of authority and a fresh proof of who you are. Sign again.")
    signature = _append(
        case, party, by=by, printed_name=typed_name, authority=authority, authentication=list(authentication),
        ip_address=ip_address, user_agent=user_agent[:300], now=now,
    )  # fmt: skip
    _go_on(case, by=by, now=now)
    return signature


def _require_turn(case: SigningRequest, by: User) -> Party:
    party = next_party(case)
    if party is None:
        raise CannotSign(
            f"{case} is {case.get_status_display().lower()}: there is nothing to sign.",
            next_url=case.get_absolute_url(),
        )
    if not may_sign(by, case):
        raise NotYourTurn(
            f"{party.label} signs next, and you cannot sign {case} as that. Nobody signs the same agreement twice.",
            next_url=case.get_absolute_url(),
        )
    return party


def _require_signable(case: SigningRequest, by: User, party: Party, *, now: datetime) -> None:
    if case.institution.status != InstitutionStatus.MEMBER:
        raise CannotSign(f"{case.institution} is no member, so its agreement cannot be signed.")
    if case.expires_on and day_of(now) > case.expires_on:
        raise CannotSign("The agreement would have expired already. Withdraw it and prepare it again.")
    newest = newest_of(case.agreement)
    if newest and newest.pk != case.agreement_version_id and not case.signatures.exists():
        raise CannotSign(f"{newest} has replaced this text. Withdraw this one and prepare the new one.")
    named = case.variables.get("principal_investigator", "")
    if party == Party.PRINCIPAL_INVESTIGATOR and named and spelled(named) != spelled(by.name):
        raise CannotSign(
            f"The text names {named} as principal investigator. Withdraw it and prepare it again with your name."
        )


def _append(
    case: SigningRequest, party: Party, *, by: User, printed_name: str, now: datetime, **given: Any
) -> Signature:
    """Add the signature at the end of the case's chain."""
    previous = case.signatures.order_by("position").last()
    of_consortium = party == Party.CONSORTIUM
    digest = text_sha256(case.text)
    version = case.agreement_version.version
    event = audit.record("agreement.signed", case, by=by, role=party.value, text_sha256=digest, version=version)
    return Signature.objects.create(
        request=case,
        position=previous.position + 1 if previous else 1,
        signer=by,
        printed_name=" ".join(printed_name.split()),
        institution=None if of_consortium else case.institution,
        institution_name=CONSORTIUM_NAME if of_consortium else case.institution.name,
        role=party,
        meaning=MEANING[party],
        document_id=case.agreement.slug,
        document_title=case.agreement.title,
        version=version,
        text_sha256=digest,
        signed_at=now,
        audit_index=event.pk,
        previous_sha256=previous.sha256 if previous else "",
        **given,
    )


def _go_on(case: SigningRequest, *, by: User, now: datetime) -> None:
    """Tell the next signer; or, after the last signature, put the agreement in force in place of the one before."""
    if next_party(case) is not None:
        tell_next(case)
        return
    before = SigningRequest.objects.filter(
        agreement=case.agreement, institution=case.institution, status=Status.ACTIVE
    ).first()
    if before is not None:
        before = move(before.pk, Status.SUPERSEDED, by=None, now=now, ended_at=now)
        _tell_left_out(before, case)
    case = move(case.pk, Status.ACTIVE, by=by, now=now, activated_at=now)
    tell(
        case,
        concerned(case),
        subject=f"{case} is in force",
        text="Everybody has signed. The receipt, with the text, its hash and a PDF, is here:",
        path=case.receipt_url,
    )


def _tell_left_out(before: SigningRequest, case: SigningRequest) -> None:
    """Tell the hospitals that stood under the agreement before and that its renewal does not name."""
    for party in parties(before).exclude(pk__in=parties(case)):
        tell(
            before,
            institutions.people_acting_for(party, PI, OFFICIAL, Membership.Role.STEWARD),
            subject=f"{party} stands under {case.agreement} no longer",
            text=f"{case.institution} has renewed it and does not name {party} any more. Without an agreement "
            "of your own, new uploads and downloads stop; what is here stays. The one before is here:",
        )
