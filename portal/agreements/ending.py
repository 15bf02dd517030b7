"""How an agreement in force is ended before its day: at once by the institution, with notice by the consortium."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction

from portal.accounts.models import User
from portal.agreements import signing
from portal.agreements.cases import require_reason
from portal.agreements.lifecycle import TRANSITIONS, Status
from portal.agreements.models import Side, SigningRequest
from portal.agreements.signing import OFFICIAL, PI, move, tell
from portal.agreements.standing import day_of
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.lifecycle import verb

NOTICE_DAYS = 60  # what the texts ask of who ends the agreement early (dua-1 and dua-2, 14.1)


class NoticeGiven(DomainError):
    """The consortium has given notice already."""

    code = "notice_given"


@dataclass(frozen=True)
class Effect:
    """One line of what a termination does: how many, of what, and what happens to them."""

    what: str
    count: int
    consequence: str
    items: Sequence[tuple[str, str]] = ()  # name and address


def side_of(user: User, case: SigningRequest) -> Side | None:
    """Return for which of its two sides the person can end the agreement: its own signers, or the consortium's."""
    if institutions.is_member(user, institutions.acting_for(case.institution), PI, OFFICIAL):
        return Side.INSTITUTION
    return Side.CONSORTIUM if signing.signs_for_consortium(user) else None


def may_terminate(user: User, case: SigningRequest) -> bool:
    """Test if the person can end the agreement for one of its two sides."""
    return side_of(user, case) is not None


def notice_until(case: SigningRequest, *, by: User, now: datetime) -> date | None:
    """
    Return the last day of the agreement if the person ends it now; None where it ends at once.

    The consortium gives notice. An institution owes no contribution (1.4 of the texts), so it may stop at once.

    Raises:
        NoticeGiven: the consortium has done so before.
    """
    if side_of(by, case) != Side.CONSORTIUM:
        return None
    if case.ends_on is not None:
        raise NoticeGiven(
            f"The consortium has given notice already: {case} is in force until {case.ends_on:%-d %B %Y}.",
            next_url=case.get_absolute_url(),
        )
    last = day_of(now) + timedelta(days=NOTICE_DAYS)
    return min(last, case.expires_on or last)


@transaction.atomic
def terminate(case: SigningRequest, *, by: User, reason: str, now: datetime) -> SigningRequest:
    """
    End an agreement in force, or give notice, with a reason; see effects_of_termination. What was given before stays.

    Raises:
        NoticeGiven: the consortium has done so before.
    """
    case = SigningRequest.objects.locked().get(pk=case.pk)
    side = side_of(by, case)
    if side is None:
        raise NotAllowed(
            f"Only a principal investigator or signing official of {case.institution}, or a signatory of the "
            "consortium, can terminate this agreement."
        )
    effects = {effect.what: effect.count for effect in effects_of_termination(case)}
    reason = require_reason(reason, "terminate")
    verb(TRANSITIONS, Status(case.status), Status.TERMINATED, subject=case)  # raises where it is not in force
    ends_on = notice_until(case, by=by, now=now)
    if ends_on is not None:
        return _give_notice(case, ends_on, effects, by=by, reason=reason)
    case = move(
        case.pk, Status.TERMINATED, by=by, now=now, facts={"effects": effects, "side": side}, reason=reason,
        ended_by=side, ends_on=None, ended_at=now,
    )  # fmt: skip
    tell(
        case,
        signing.told_of_the_end(case),
        subject=f"{case} was terminated",
        text=f"{case.institution} has ended it. The reason given: {plain(reason)}\n\nNew uploads and downloads have "
        "stopped; what was given before stays. The record is here:",
    )
    return case


def _give_notice(
    case: SigningRequest, ends_on: date, effects: dict[str, int], *, by: User, reason: str
) -> SigningRequest:
    """Say on behalf of the consortium until when a locked case is in force; the calendar ends it after that day."""
    case.ends_on, case.ended_by, case.reason = ends_on, Side.CONSORTIUM, reason
    case.save(update_fields=["ends_on", "ended_by", "reason"])
    audit.record(
        "agreement.notice_given", case, by=by, ends_on=ends_on.isoformat(), effects=effects, reason=reason,
        text_sha256=case.text_sha256,
    )  # fmt: skip
    tell(
        case,
        signing.told_of_the_end(case),
        subject=f"{case} ends after {ends_on:%-d %B %Y}",
        text=f"The consortium has given notice. The reason given: {plain(reason)}\n\nUntil then everything goes on; "
        "after it new uploads and downloads stop, and what was given before stays. The record is here:",
    )
    return case


def effects_of_termination(case: SigningRequest, *, reader: User | None = None) -> list[Effect]:
    """
    Return what ends and what stays once the agreement has ended, for every institution under it.

    All are counted; of the contributions those are named that the reader may see: drafts are their institution's alone.
    """
    programme = case.agreement.programme
    parties = signing.parties(case)
    given = programme.contributions.filter(institution__in=parties).order_by("pk")
    approved = given.filter(status="approved")
    corpora = programme.corpora.filter(parts__contribution__in=given).distinct()
    candidates = programme.candidates.filter(corpus__in=corpora).distinct()
    released = candidates.filter(releases__status="released").prefetch_related("releases")
    rows = (
        ("Institutions under it", parties, "From then on they can no longer upload or download base models."),
        ("Drafts", given.filter(status="draft"), "They are kept, and cannot be sent."),
        ("Contributions in checks or before the board", given.filter(status__in=["submitted", "validating", "review"]),
         "Checks that begin after the end refuse them; what is before the board stays there. Its chair is told."),
        ("Approved contributions", approved,
         "They stay, and may enter corpora, until the institution withdraws each."),
        ("Corpora that hold them", corpora, "Frozen corpora do not change."),
        ("Training runs", candidates, "What a model has learnt stays learnt."),
        ("Releases", [candidate.release for candidate in released], "They stay: CC BY-NC 4.0 cannot be revoked."),
    )  # fmt: skip
    seen = set() if reader is None else set(given.visible_to(reader))
    hidden = set(given) - seen
    return [_effect(what, list(found), consequence, hidden) for what, found, consequence in rows]


def _effect(what: str, found: Sequence[Any], consequence: str, hidden: Collection[Any]) -> Effect:
    named = [row for row in found if row not in hidden][:20]
    items = [(str(row), row.get_absolute_url() if hasattr(row, "get_absolute_url") else "") for row in named]
    return Effect(what, len(found), consequence, items)
