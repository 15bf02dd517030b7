"""What a person may do with a signing case now; pages make buttons of it, the API lists it."""

from collections.abc import Iterator
from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.urls import reverse

from portal.accounts.models import User
from portal.actions import Action
from portal.agreements import services
from portal.agreements.lifecycle import OPEN, Status
from portal.agreements.models import CoveredInstitution, SigningRequest
from portal.agreements.standing import State
from portal.institutions import services as institutions

RENEWABLE = {State.EXPIRING, State.RECONSENT_DUE, State.GRACE, State.BLOCKED, State.EXPIRED, State.TERMINATED}


def available(case: SigningRequest, user: User | AnonymousUser, *, now: datetime) -> list[Action]:
    """Return the actions that concern the person, the most urgent first; a blocked one says why."""
    if not user.is_authenticated:
        return []
    return [*_signing(case, user), *_preparing(case, user), *_life(case, user, now), *_ending(case, user, now)]


def _to(name: str, case: SigningRequest) -> str:
    return reverse(f"agreements:{name}", args=[case.pk])


def _signing(case: SigningRequest, user: User) -> Iterator[Action]:
    party = services.next_party(case)
    if party is None:
        return
    url = _to("sign_case", case)
    if services.may_sign(user, case):
        yield Action("sign", "Read and sign", True, url=url, method="get")
    elif case.signatures.filter(signer=user).exists():
        yield _blocked_sign(f"You have signed. Next: {party.label.lower()}.", url)
    elif any(services.signers(case, role).filter(pk=user.pk).exists() for role in services.order_of(case)):
        yield _blocked_sign(f"It is not your turn. Next: {party.label.lower()}.", url)


def _blocked_sign(reason: str, url: str) -> Action:
    return Action("sign", "Sign", False, reason, url, "get", services.NotYourTurn.code)


def _preparing(case: SigningRequest, user: User) -> Iterator[Action]:
    if case.status not in OPEN:
        return
    if case.status == Status.DRAFT and services.may_prepare(user, case.institution):
        found = services.obstacles(case)
        reason, code = (str(found[0]), found[0].code) if found else ("", "")
        yield Action("send", "Send it to be signed", not found, reason, _to("send", case), code=code)
        yield Action("prepare", "Change the particulars", True, url=services.prepare_url(case), method="get")
    if services.may_withdraw(user, case):
        yield Action("withdraw", "Withdraw", True, url=_to("withdraw", case), method="get")


def _life(case: SigningRequest, user: User, now: datetime) -> Iterator[Action]:
    if case.status in OPEN or not services.may_prepare(user, case.institution):
        return
    place = services.standing(case.institution, case.agreement, now=now)
    if place.state in RENEWABLE and (place.request == case or case.activated_at is None):
        yield Action("renew", "Renew", True, url=services.prepare_url(case), method="get")
    elif case.status in {Status.DECLINED, Status.WITHDRAWN} and place.state == State.NONE:
        yield Action("prepare", "Prepare it again", True, url=services.prepare_url(case), method="get")


def _ending(case: SigningRequest, user: User, now: datetime) -> Iterator[Action]:
    if case.status in OPEN and services.may_decline(user, case):
        yield Action("decline", "Decline", True, url=_to("decline", case), method="get")
    if case.status == Status.ACTIVE and services.may_terminate(user, case):
        reason = code = ""
        try:
            services.notice_until(case, by=user, now=now)
        except services.NoticeGiven as exc:
            reason, code = str(exc), exc.code
        yield Action("terminate", "Terminate", not reason, reason, _to("terminate", case), "get", code)


def of_cover(cover: CoveredInstitution, user: User | AnonymousUser) -> list[Action]:
    """Return what the person may do for a further hospital that a case names: confirm, where they manage it."""
    if cover.confirmed_at is not None or not institutions.manages(user, cover.institution):
        return []
    case = cover.request
    late = "" if case.status == Status.DRAFT else f"{case} is {case.get_status_display().lower()}: it is too late."
    url = reverse("agreements:confirm", args=[case.pk, cover.pk])
    return [Action("confirm", "Confirm", not late, late, url, code=services.CannotPrepare.code if late else "")]
