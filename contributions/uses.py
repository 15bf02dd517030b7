"""What contributions may be used for: the strictest of the terms that bind each."""

from collections.abc import Iterable

from contributions.models import Contribution
from portal.agreements import terms
from portal.agreements.duo import Answer, Purpose
from portal.agreements.models import SigningRequest
from portal.errors import DomainError

Answered = tuple[Contribution, Answer, str]


class TermsExclude(DomainError):
    """The terms of use that an institution signed exclude what was asked."""

    code = "terms_exclude"


def binding(contributions: Iterable[Contribution]) -> dict[int, list[SigningRequest]]:
    """Return by contribution the cases that bind it: those in force when it was sent, and those in force now."""
    rows = list(contributions)
    signed = terms.signed_cases({row.institution_id for row in rows})
    return {row.pk: [case for case in signed[row.institution_id] if _binds(case, row)] for row in rows}


def _binds(case: SigningRequest, contribution: Contribution) -> bool:
    agreement, sent_at = case.agreement_version.agreement, contribution.submitted_at
    if agreement.programme_id != contribution.programme_id or contribution.kind not in agreement.covers:
        return False
    if case.ended_at is None:
        return True
    return sent_at is not None and case.activated_at is not None and case.activated_at <= sent_at < case.ended_at


def answers(contributions: Iterable[Contribution], purpose: Purpose) -> list[Answered]:
    """Return for each contribution whether its terms permit the purpose, and why, in a constant number of queries."""
    rows = list(contributions)
    cases = binding(rows)
    return [(row, *terms.permits(cases[row.pk], purpose)) for row in rows]


def require(contributions: Iterable[Contribution], purpose: Purpose, *, remedy: str) -> None:
    """Raise TermsExclude, naming the contributions and the reasons, where terms exclude the purpose."""
    found = [f"{row}: {why}" for row, answer, why in answers(contributions, purpose) if answer == Answer.NO]
    if found:
        raise TermsExclude(f"The terms of use that were signed exclude this. {' '.join(found)} {remedy}")
