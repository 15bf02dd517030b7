"""
Lists, answers and actions agree (JOURNEYS 6.9), in worlds drawn by chance: institutions, cases, people.

Whatever is listed can be opened and the other way round; an action that is offered succeeds; one that is blocked is
refused, with the code that it gave. Each world has a number, so that one that fails can be made again.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from django.db import transaction

from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.agreements.models import Agreement, SigningRequest
from portal.institutions import joining, memberships
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership
from portal.programmes.models import Programme
from tests import factories
from tests.integration.test_contributions_api import Kit
from tests.integration.test_institutions_api import BODIES, whole_list

Role = Membership.Role


def appealed(name: str, *, now) -> Institution:
    declined = factories.declined_institution(name)
    return institutions.appeal(declined, grounds="We have it.", by=factories.person_of(declined), now=now)


def withdrawn(name: str, *, now) -> Institution:
    row = factories.applied_institution(name)
    return institutions.withdraw(row, by=factories.person_of(row), now=now)


STATES: dict[str, Callable[..., Institution]] = {
    "draft": lambda name, **_: factories.draft_institution(name),
    "led by nobody": lambda name, *, now: institutions.start_application(
        by=factories.user(f"Steward of {name}"), role=Role.STEWARD, name=name, country="KE", kind="hospital", now=now
    ),
    "applied": lambda name, **_: factories.applied_institution(name),
    "declined": lambda name, **_: factories.declined_institution(name),
    "appealed": appealed,
    "withdrawn": withdrawn,
    "admitted": lambda name, **_: factories.admitted_institution(name),
    "member": lambda name, **_: factories.member_institution(name),
}


def ended(case: SigningRequest, how: str, *, now) -> SigningRequest:
    manager = factories.person_of(case.institution)
    if how == "withdrawn":
        return agreements.withdraw(case, by=manager, now=now)
    if how == "declined":
        return agreements.decline(case, by=manager, reason="Not now.", now=now)
    signed = factories.signed_case(case, times={"one signature": 1, "two signatures": 2}.get(how, 3))
    return agreements.terminate(signed, by=manager, reason="Over.", now=now) if how == "terminated" else signed


CASES = ["draft", "sent", "one signature", "two signatures", "active", "terminated", "declined", "withdrawn"]


def make_case(institution: Institution, agreement: Agreement, how: str, *, now) -> SigningRequest:
    if how == "draft":  # perhaps without a signing official, so that it cannot be sent
        return factories.draft_case(institution, agreement)
    case = factories.sent_case(institution, agreement)
    return case if how == "sent" else ended(case, how, now=now)


@dataclass
class World:
    """What there is, and who looks at it."""

    institutions: list[Institution] = field(default_factory=list)
    people: list[User] = field(default_factory=list)


def draw(number: int, *, board: list[User], now) -> World:
    """Make the world of this number: some institutions, cases, invitations and requests, and people of every kind."""
    chance, world = random.Random(number), World()
    programme = Programme.objects.get()
    annexes = [factories.agreement(programme, slug=f"annex-{n}", covers=["images"]) for n in range(2)]
    for state in [*chance.sample(sorted(STATES), 3), "admitted"]:
        row = STATES[state](f"{state.title()} {number}-{len(world.institutions)}", now=now)
        world.institutions.append(row)
        world.people.append(institutions.people(row).earliest("pk"))
        if row.status != "member":
            continue
        for annex in annexes:
            make_case(row, annex, chance.choice(CASES), now=now)
        for role in chance.sample([Role.STEWARD, Role.MEMBER, Role.SIGNING_OFFICIAL], 2):
            world.people.append(factories.person_of(row, role))
        asking = factories.user("Asking Person")
        joining.ask(row, role=Role.MEMBER, message="", by=asking, now=now)
        memberships.invite(row, email="new@example.org", role=Role.MEMBER, by=factories.person_of(row), now=now)
        world.people.append(asking)
    servants = [*board[:2], *(factories.consortium_person(role.title(), role) for role in ("operator", "auditor"))]
    world.people += chance.sample(servants, 2)
    world.people += [factories.signatory(), factories.user("Stranger")]
    leader = institutions.people(world.institutions[-1]).earliest("pk")
    world.people = [leader, *chance.sample([row for row in world.people if row != leader], 4)]
    return world


REFUSED = {"decline": {"reason": "We do not know you."}}  # what requests to join take


def bodies(case: SigningRequest | None) -> dict[str, object]:
    """What each action takes, by its name."""
    if case is None:
        return BODIES
    again = {"institution": case.institution.slug, "programme": "retina", "agreement": case.agreement.slug}
    reason = {"reason": "Enough."}
    return {
        "prepare": again,
        "renew": again,
        "decline": reason,
        "terminate": {**reason, "title": case.agreement.title},
    }


def try_all(api: Kit, document: dict, given: dict[str, object]) -> list[tuple]:
    """Do everything that the document offers, undo it, and return what did not go as it said."""
    wrong = []
    for action in document["available_actions"]:
        if not action["url"].startswith("/api/v1/"):
            continue  # on a page only: signing, merging
        with transaction.atomic():
            path, body = action["url"].removeprefix("/api/v1/"), given.get(action["name"])
            status, answer = api.call(action["method"].upper(), path, body)
            transaction.set_rollback(True)
        told = (status < 300, "" if status < 300 else answer["code"])
        if told != (action["allowed"], action["code"]):
            wrong.append((action, status, answer))
    return wrong


@pytest.mark.parametrize("number", range(3))
def test_lists_answers_and_actions_agree(programme, board, number, now):
    world = draw(number, board=board, now=now)
    slugs = list(Institution.objects.values_list("slug", flat=True))
    cases = {row.pk: row for row in SigningRequest.objects.select_related("institution", "agreement")}
    wrong, tried = [], 0
    for person in world.people:
        api = Kit(person)
        opened = {slug: document for slug in slugs for document in [_opened(api, f"institutions/{slug}")] if document}
        assert {row["slug"] for row in whole_list(api, "institutions")} == set(opened), person
        mine = {pk: document for pk in cases for document in [_opened(api, f"agreements/cases/{pk}")] if document}
        assert {row["id"] for row in whole_list(api, "agreements/cases")} == set(mine), person
        documents = [(document, bodies(None)) for document in opened.values()]
        documents += [(document, bodies(cases[pk])) for pk, document in mine.items()]
        documents += [(row, REFUSED) for slug in opened for row in _of_people(api, slug)]
        for document, given in documents:
            tried += len(document["available_actions"])
            wrong += [(str(person), *row) for row in try_all(api, document, given)]
    assert wrong == []
    assert tried >= 10


def _opened(api: Kit, path: str) -> dict | None:
    status, document = api.get(path)
    assert status in {200, 404}, (path, status, document)
    return document if status == 200 else None


def _of_people(api: Kit, slug: str) -> list[dict]:
    """Return roles, invitations and requests to join, where the person sees them."""
    rows = []
    for name in ("people", "invitations", "join-requests"):
        status, document = api.get(f"institutions/{slug}/{name}")
        rows += document["results"] if status == 200 else []
    return rows
